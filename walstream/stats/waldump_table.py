"""Prints totals as ``pg_waldump --stats`` does (XLogDumpDisplayStats)."""

from __future__ import annotations

from walstream.rmgr.rmgrlist import RMGR_NAMES, rmgr_name
from walstream.wal.layout import RM_MIN_CUSTOM_ID
from walstream.wal.model import format_lsn
from walstream.wal.totals import RecordTotals

_HEADS = ("N", "(%)", "Record size", "(%)", "FPI size", "(%)", "Combined size", "(%)")
_RULES = ("-", "---", "-----------", "---", "--------", "---", "-------------", "---")


def percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def row(name: str, values: tuple[int, int, int], totals: tuple[int, int, int]) -> str:
    count, record_bytes, fpi_bytes = values
    numbers = (
        (count, totals[0]),
        (record_bytes, totals[1]),
        (fpi_bytes, totals[2]),
        (record_bytes + fpi_bytes, totals[1] + totals[2]),
    )
    cells = (f"{part:20d} ({percent(part, whole):6.02f})" for part, whole in numbers)
    return f"{name:<27} {' '.join(cells)}\n"


def heading(first: str, cells: tuple[str, ...]) -> str:
    pairs = (f"{cells[i]:>20} {cells[i + 1]:>8}" for i in range(0, 8, 2))
    return f"{first:<27} {' '.join(pairs)}\n"


def stats_table(totals: RecordTotals, start_lsn: int, version: int, per_record: bool) -> str:
    """Returns the table; empty where no record was counted (14 prints it all the same).

    Args:
        totals: what was counted.
        start_lsn: start of the first record read.
        version: major version whose pg_waldump is imitated.
        per_record: a row for each operation instead of each resource manager.
    """
    if per_record:
        from walstream.rmgr import operation_name  # start-up counts here
    sums = (sum(totals.counts), sum(totals.record_bytes), sum(totals.fpi_bytes))
    if totals.end_lsn == 0 and version >= 15:
        return ""
    text = ""
    if version >= 15:
        between = f"{format_lsn(start_lsn)} and {format_lsn(totals.end_lsn)}"
        text += f"WAL statistics between {between}:\n"
    text += heading("Type", _HEADS) + heading("----", _RULES)
    builtin = range(len(RMGR_NAMES))
    for rmgr_id in (*builtin, *range(RM_MIN_CUSTOM_ID, 256)):
        places = range(rmgr_id * 16, rmgr_id * 16 + 16)
        if per_record:
            for place in places:
                if totals.counts[place]:
                    name = operation_name(version, rmgr_id, (place & 15) << 4)
                    values = (
                        totals.counts[place],
                        totals.record_bytes[place],
                        totals.fpi_bytes[place],
                    )
                    text += row(f"{rmgr_name(rmgr_id)}/{name}", values, sums)
            continue
        values = (
            sum(totals.counts[place] for place in places),
            sum(totals.record_bytes[place] for place in places),
            sum(totals.fpi_bytes[place] for place in places),
        )
        if rmgr_id in builtin or values[0]:
            text += row(rmgr_name(rmgr_id), values, sums)
    line = "--------"
    text += f"{'':<27} {line:>20} {'':>8} {line:>20} {'':>8} {line:>20} {'':>8} {line:>20}\n"
    whole = sums[1] + sums[2]
    record_share = f"[{percent(sums[1], whole):.02f}%]"
    fpi_share = f"[{percent(sums[2], whole):.02f}%]"
    text += f"{'Total':<27} {sums[0]:20d} {'':<9}{sums[1]:20d} {record_share:<9}"
    return text + f"{sums[2]:20d} {fpi_share:<9}{whole:20d} {'[100%]':<6}\n"
