"""Threads find what one pass finds, and end as it does; with any damage, gap and range."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import SEGMENT
from walstream.scanning import parallel
from walstream.scanning.ending import Ending, EndKind
from walstream.scanning.output import ColumnsOutput, TotalsOutput, records_output
from walstream.scanning.range_scan import LostRange, RangeScan
from walstream.scanning.threads import in_order
from walstream.scanning.wal_range import WalRange
from walstream.segments.files import DirectoryFiles
from walstream.segments.source import SegmentSource
from walstream.wal.match import RecordMatch
from walstream.wal.model import RawRecord
from walstream.wal.totals import RecordTotals

WAL = mixed_wal(3)
WRITTEN = bytes(WAL.data)
STARTS = [raw.start_lsn for raw in WAL.records]


# A segment is less than a range of usual size.
RANGE = 1 << 17


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "RANGE", RANGE)


def source_of(directory: Path) -> SegmentSource:
    return SegmentSource(DirectoryFiles(directory))


def read(
    directory: Path, match: RecordMatch, wanted: WalRange, beyond: bool, threads: int
) -> tuple[list[RawRecord], Ending | None, int | None]:
    scan = RangeScan(
        source_of(directory), records_output, wanted, match, threads=threads, beyond=beyond
    )
    records = [
        RawRecord(batch.columns.start_lsn[row], batch.columns.end_lsn[row], batch.record(row))
        for batch in scan.items()
        for row in range(batch.rows)
    ]
    return records, scan.ending, scan.first_lsn


def resynchronised(
    directory: Path, threads: int
) -> tuple[list[RawRecord], list[LostRange], Ending | None]:
    scan = RangeScan(source_of(directory), records_output, threads=threads, resync=True)
    records = [
        RawRecord(batch.columns.start_lsn[row], batch.columns.end_lsn[row], batch.record(row))
        for batch in scan.items()
        for row in range(batch.rows)
    ]
    lost = [each._replace(error=str(each.error)) for each in scan.lost]  # type: ignore[arg-type]
    return records, lost, scan.ending


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 0x10


def cut(data: bytearray, at: int) -> None:
    del data[at:]


def clear(data: bytearray, at: int) -> None:
    data[at - at % 8192 :] = bytes(len(data) - at + at % 8192)


def other_system(data: bytearray, at: int) -> None:
    first = at - at % SEGMENT
    data[first + 24 : first + 32] = (7).to_bytes(8, "little")


DAMAGE: list[Callable[[bytearray, int], None]] = [flip, cut, clear, other_system]


@given(
    damage=st.none() | st.sampled_from(DAMAGE),
    at=st.integers(100, len(WRITTEN) - 1),
    missing=st.none() | st.integers(0, 3),
    start=st.none() | st.sampled_from(STARTS) | st.integers(SEGMENT, SEGMENT + len(WRITTEN)),
    end=st.none() | st.sampled_from(STARTS) | st.integers(SEGMENT, SEGMENT + len(WRITTEN)),
    match=st.sampled_from(
        [RecordMatch(), RecordMatch(xid=720), RecordMatch(rmgrs={1}), RecordMatch(fullpage=True)]
    ),
    beyond=st.booleans(),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_threads_read_what_one_pass_reads(
    tmp_path: Path,
    damage: Callable[[bytearray, int], None] | None,
    at: int,
    missing: int | None,
    start: int | None,
    end: int | None,
    match: RecordMatch,
    beyond: bool,
) -> None:
    directory = tmp_path / "wal"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    data = bytearray(WRITTEN)
    if damage is not None:
        damage(data, at)
    write_segments(directory, bytes(data))
    files = sorted(directory.iterdir())
    if missing is not None and len(files) > 1:
        files[missing % len(files)].unlink()
    wanted = WalRange(start, end)
    assert read(directory, match, wanted, beyond, 3) == read(directory, match, wanted, beyond, 1)


@given(
    damage=st.lists(
        st.tuples(st.sampled_from(DAMAGE), st.integers(100, len(WRITTEN) - 1)), max_size=4
    ),
    missing=st.sets(st.integers(0, 3), max_size=2),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_threads_lose_what_one_pass_loses(
    tmp_path: Path,
    damage: list[tuple[Callable[[bytearray, int], None], int]],
    missing: set[int],
) -> None:
    directory = tmp_path / "wal"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    data = bytearray(WRITTEN)
    for change, at in damage:
        if at < len(data):
            change(data, at)
    write_segments(directory, bytes(data))
    files = sorted(directory.iterdir())
    for number in missing:
        if number < len(files) - 1:
            files[number].unlink()
    records, lost, ending = resynchronised(directory, 1)
    assert resynchronised(directory, 3) == (records, lost, ending)
    # What is not lost is there, in order; what is lost has no records.
    starts = [raw.start_lsn for raw in records]
    assert starts == sorted(set(starts) & set(STARTS))
    for each in lost:
        assert each.start_lsn <= each.end_lsn
        assert not [lsn for lsn in starts if each.start_lsn <= lsn < each.end_lsn]
    if records:
        gone = [raw for raw in WAL.records if starts[0] <= raw.start_lsn <= starts[-1]]
        gone = [raw for raw in gone if raw.start_lsn not in starts]
        assert all(
            any(each.start_lsn <= raw.start_lsn < each.end_lsn for each in lost) for raw in gone
        )


def test_most_is_read_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_segments(tmp_path, WRITTEN)
    passes: list[int] = []
    one_pass = RangeScan._one_pass

    def noted(scan: RangeScan[object], *arguments: object) -> object:
        passes.append(scan.at.lsn)
        return one_pass(scan, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RangeScan, "_one_pass", noted)
    scan = RangeScan(source_of(tmp_path), ColumnsOutput, match=RecordMatch(rmgrs={1}), threads=2)
    assert sum(batch.rows for batch in scan.items()) == sum(
        raw.data[17] == 1 for raw in WAL.records
    )
    assert len(passes) == 1
    assert passes[0] > SEGMENT + len(WRITTEN) - 2 * RANGE


def test_behind_damage_and_gaps_threads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(WRITTEN)
    flip(data, RANGE * 3 // 2)
    write_segments(tmp_path, bytes(data))
    sorted(tmp_path.iterdir())[1].unlink()
    passes: list[int] = []
    one_pass = RangeScan._one_pass

    def noted(scan: RangeScan[object], *arguments: object) -> object:
        passes.append(scan.at.lsn)
        return one_pass(scan, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RangeScan, "_one_pass", noted)
    scan = RangeScan(source_of(tmp_path), TotalsOutput, threads=2, resync=True)
    records = sum(totals.records for totals in scan.items())
    assert len(scan.lost) == 2
    assert [scan.lost[0].kind, scan.lost[1].kind] == [EndKind.DAMAGED, EndKind.MISSING]
    assert records > len(WAL.records) // 2
    # Over the damage, over the gap, and the end.
    assert len(passes) == 3
    assert SEGMENT + RANGE <= passes[0] < SEGMENT + 2 * RANGE
    assert 2 * SEGMENT - 2 * RANGE < passes[1] < 2 * SEGMENT
    assert passes[2] > SEGMENT + len(WRITTEN) - 2 * RANGE


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("end", [None, STARTS[len(STARTS) // 2], STARTS[-100] + 5])
def test_sums_are_those_of_the_records(
    tmp_path: Path, threads: int, beyond: bool, end: int | None
) -> None:
    write_segments(tmp_path, WRITTEN)
    start = STARTS[100]
    wanted = WalRange(start, end)
    expected = RecordTotals()
    for batch in RangeScan(
        source_of(tmp_path), ColumnsOutput, wanted, threads=1, beyond=beyond
    ).items():
        expected.add(batch.columns, batch.rows)
    last = (
        WAL.records[-1]
        if end is None
        else next(
            raw
            for raw in reversed(WAL.records)
            if (raw.start_lsn if beyond else raw.end_lsn - 1) < end
        )
    )
    assert expected.end_lsn == last.end_lsn
    totals = RecordTotals()
    scan = RangeScan(source_of(tmp_path), TotalsOutput, wanted, threads=threads, beyond=beyond)
    for part in scan.items():
        totals.add_totals(part)
    assert totals.counts == expected.counts
    assert totals.record_bytes == expected.record_bytes
    assert totals.fpi_bytes == expected.fpi_bytes
    assert totals.end_lsn == expected.end_lsn
    assert totals.first_lsn == scan.first_lsn == start
    assert scan.ending is not None
    assert scan.ending.kind is (EndKind.LIMIT if end else EndKind.CLEAN)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_is_read_than_the_range_needs(tmp_path: Path, threads: int) -> None:
    """A range that ends with a record needs nothing behind it, be it damaged or missing."""
    write_segments(tmp_path, WRITTEN)
    cut = next(raw for raw in WAL.records if raw.end_lsn > 2 * SEGMENT)
    files = sorted(tmp_path.iterdir())
    files[2].write_bytes(b"\xff" * SEGMENT)
    for end in (2 * SEGMENT, cut.start_lsn):
        wanted = WalRange(None, end)
        records, ending, _ = read(tmp_path, RecordMatch(), wanted, False, threads)
        assert ending is not None
        assert ending.kind is EndKind.LIMIT
        assert records[-1].end_lsn == cut.start_lsn
    records, ending, _ = read(tmp_path, RecordMatch(), WalRange(None, 2 * SEGMENT), True, threads)
    assert ending is not None
    assert ending.kind is EndKind.LIMIT
    assert records[-1].start_lsn == cut.start_lsn


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_is_cut_meanwhile_just_ends(tmp_path: Path, threads: int) -> None:
    write_segments(tmp_path, WRITTEN)
    third = sorted(tmp_path.iterdir())[2]
    reading = RangeScan(source_of(tmp_path), ColumnsOutput, threads=threads)
    batches = reading.items()
    next(batches)
    with third.open("r+b") as file:
        file.truncate(100_000)
    last = max(batch.columns.end_lsn[-1] for batch in batches if batch.rows)
    assert reading.ending is not None
    assert reading.ending.kind in (EndKind.TRUNCATED, EndKind.CLEAN)
    assert reading.ending.lsn == last <= 3 * SEGMENT + 100_000


def test_results_come_in_order_and_errors_in_their_place() -> None:
    turn = threading.Barrier(2)

    def start() -> Callable[[int], int]:
        def work(item: int) -> int:
            if item < 2:
                # Both threads are at work, or this never ends.
                turn.wait(20)
            if item == 7:
                raise KeyError(item)
            return item * item

        return work

    results = in_order(2, start, range(20))
    assert [next(results) for _ in range(7)] == [item * item for item in range(7)]
    with pytest.raises(KeyError):
        next(results)
    assert list(in_order(1, start, range(2, 6))) == [4, 9, 16, 25]


def test_threads_end_when_no_more_is_wanted() -> None:
    before = threading.active_count()
    results = in_order(3, lambda: lambda item: item, range(1000))
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before
