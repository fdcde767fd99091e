"""Reading ahead in threads gives what reading in one pass gives, and ends as it does."""

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
from walstream.scanning import ahead
from walstream.scanning.ending import Ending, EndKind
from walstream.scanning.reading import Reading
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


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "STRETCH", 1 << 17)


def read(
    directory: Path, match: RecordMatch, start: int | None, end: int | None, threads: int
) -> tuple[list[RawRecord], Ending | None, int | None]:
    reading = Reading(WalRange(start, end), match, True, threads)
    records = [
        RawRecord(batch.columns.start_lsn[row], batch.columns.end_lsn[row], batch.record(row))
        for batch in reading.from_segments(SegmentSource(DirectoryFiles(directory)))
        for row in batch.rows
    ]
    assert (reading.before is not None) == (threads > 1)
    return records, reading.ending, reading.first_lsn


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
    assert read(directory, match, start, end, 3) == read(directory, match, start, end, 1)


def test_most_is_read_ahead(tmp_path: Path) -> None:
    write_segments(tmp_path, WRITTEN)
    reading = Reading(match=RecordMatch(rmgrs={1}), threads=2)
    batches = list(reading.from_segments(SegmentSource(DirectoryFiles(tmp_path))))
    assert sum(batch.columns.count for batch in batches) == sum(
        raw.data[17] == 1 for raw in WAL.records
    )
    assert reading.before is not None
    assert reading.before.next_lsn > SEGMENT + len(WRITTEN) - 2 * ahead.STRETCH


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("end", [None, STARTS[len(STARTS) // 2]])
def test_sums_are_those_of_the_records(tmp_path: Path, threads: int, end: int | None) -> None:
    write_segments(tmp_path, WRITTEN)
    source = SegmentSource(DirectoryFiles(tmp_path))
    start = STARTS[100]
    expected = RecordTotals()
    for batch in Reading(WalRange(start, end)).from_segments(source):
        expected.add(batch.columns, batch.columns.count)
    totals = RecordTotals()
    reading = Reading(WalRange(start, end), threads=threads, totals=totals)
    rest = 0
    for batch in reading.from_segments(source):
        totals.add(batch.columns, batch.columns.count)
        rest += batch.columns.count
    assert totals.counts == expected.counts
    assert totals.record_bytes == expected.record_bytes
    assert totals.fpi_bytes == expected.fpi_bytes
    assert totals.end_lsn == expected.end_lsn
    assert rest < sum(totals.counts) // 3
    assert reading.first_lsn == start


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_is_cut_meanwhile_just_ends(tmp_path: Path, threads: int) -> None:
    write_segments(tmp_path, WRITTEN)
    third = sorted(tmp_path.iterdir())[2]
    reading = Reading(threads=threads)
    batches = reading.from_segments(SegmentSource(DirectoryFiles(tmp_path)))
    next(batches)
    with third.open("r+b") as file:
        file.truncate(100_000)
    last = max(batch.columns.end_lsn[-1] for batch in batches if batch.columns.count)
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
