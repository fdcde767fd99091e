"""Lines are written where the scanner stands, of what it has taken apart; compiled or not."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.archives import mixed_wal
from tests.support.pure import load
from tests.support.walgen import SEGMENT
from tests.wal.reading import pieces, said, scan_lines
from walstream.dump import json_lines, lines, text_lines
from walstream.errors import WalError
from walstream.wal import match, scan
from walstream.wal.model import RawRecord

PURE: dict[str, ModuleType] = {}
WRITERS = ("lines.RecordWriter", "text_lines.LineWriter", "json_lines.ObjectWriter")
INSTALLED = {
    "lines": lines,
    "text_lines": text_lines,
    "json_lines": json_lines,
    "scan": scan,
    "match": match,
}
for name in ("lines", "text_lines", "json_lines"):
    load(f"walstream.dump.{name}", PURE)
BUILDS = [INSTALLED, {name.rpartition(".")[2]: module for name, module in PURE.items()}]

WAL = mixed_wal(1)
WRITTEN = bytes(WAL.data)[:180_000]
RECORDS = [raw for raw in WAL.records if raw.end_lsn <= SEGMENT + len(WRITTEN)]


def in_columns(scanner: Any, data: bytes, cuts: list[int]) -> tuple[list[Any], list[RawRecord]]:
    """Returns errors with the number of records before each, and the records."""
    errors: list[Any] = []
    records: list[RawRecord] = []
    lsn = SEGMENT
    for piece in pieces(data, cuts):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        while True:
            try:
                columns = scanner.poll_columns()
            except WalError as error:
                errors.append((len(records), *said(error)))
                scanner.resync()
                continue
            if columns is None:
                break
            for row in range(columns.count):
                at, length = columns.record_at[row], columns.total_length[row]
                raw = piece[at : at + length] if at >= 0 else columns.side[~at : ~at + length]
                records.append(RawRecord(columns.start_lsn[row], columns.end_lsn[row], bytes(raw)))
    return errors, records


def writer_of(build: dict[str, ModuleType], name: str, version: int) -> Any:
    module, _, kind = name.partition(".")
    return getattr(build[module], kind)(version)


@pytest.mark.parametrize("name", WRITERS)
@given(
    build=st.sampled_from([0, 0, 0, 1]),
    cuts=st.lists(st.integers(0, len(WRITTEN)), max_size=5).map(sorted),
    damage=st.none() | st.integers(100, len(WRITTEN) - 1),
    rows=st.booleans(),
    batch=st.sampled_from([1, 50, 8192]),
    wanted=st.sampled_from([{}, {"xid": 720}, {"rmgrs": {1}}, {"fullpage": True}]),
    first=st.sampled_from([0, 50]),
    limit=st.sampled_from([None, 300]),
)
@settings(max_examples=40, deadline=None)
def test_what_a_scanner_passes(
    name: str,
    build: int,
    cuts: list[int],
    damage: int | None,
    rows: bool,
    batch: int,
    wanted: dict[str, Any],
    first: int,
    limit: int | None,
) -> None:
    """Lines and damage are those of the records that the same scanner gives as columns."""
    data = bytearray(WRITTEN)
    if damage is not None:
        data[damage] ^= 0x10
    modules = BUILDS[build]
    scanners = []
    for _ in range(2):
        scanner = modules["scan"].WalScanner(
            None, SEGMENT, SEGMENT, find_record=True, keep_records=True, batch=batch
        )
        scanner.choose(
            modules["match"].RecordMatch(**wanted),
            RECORDS[first].start_lsn,
            None if limit is None else RECORDS[limit].start_lsn,
        )
        scanners.append(scanner)
    errors, records = in_columns(scanners[0], bytes(data), cuts)
    found = scan_lines(
        scanners[1],
        lambda version: writer_of(modules, name, version),
        bytes(data),
        SEGMENT,
        cuts,
        rows,
    )
    assert found[0] == errors
    writer = writer_of(modules, name, 18)
    for raw, text in zip(records, found[1], strict=True):
        writer.text.clear()
        writer.write_record(raw)
        assert text == writer.text.value()
    if rows:
        starts = [lsn for columns in found[2] for lsn in columns.start_lsn]
        assert starts == [raw.start_lsn for raw in records]
        sizes = [columns.count for columns in found[2]]
        assert not sizes or max(sizes) <= batch
    for attribute in ("first_lsn", "next_lsn", "verified_end_lsn", "feed_lsn", "lost"):
        ours, theirs = (getattr(scanner, attribute) for scanner in scanners)
        assert repr(ours) == repr(theirs)


def test_a_piece_that_gives_much_is_written_in_parts() -> None:
    writer = text_lines.LineWriter(18)
    scanner = scan.WalScanner(None, SEGMENT, SEGMENT, find_record=True)
    whole = bytes(mixed_wal(6).data)
    scanner.feed_bytes(SEGMENT, whole)
    counts = []
    while scanner.next_record():
        counts.append(writer.write_from(scanner, rows=False))
    assert set(counts[:-1]) == {8192}
    assert len(counts) > 2
