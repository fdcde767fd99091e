"""Where WAL ends: the same answer from dump, stats, verify, scan and sql, with any threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

import walstream
from tests.support.archives import mixed_wal, write_segments
from tests.support.walgen import PAGE, SEGMENT, WalWriter
from walstream.cli.dump import command as dump
from walstream.cli.exit_codes import SEGMENT_MISSING, WAL_DAMAGED, WAL_TRUNCATED
from walstream.cli.sql import command as sql
from walstream.cli.stats import command as stats
from walstream.cli.verify import command as verify
from walstream.errors import SegmentMissing, WalError
from walstream.scanning.ending import EndKind
from walstream.scanning.opening import open_wal
from walstream.scanning.tail import Position, tail_of
from walstream.segments.names import segment_file_name
from walstream.verify.check import verify as report_of
from walstream.verify.report import Report


def name(number: int, timeline: int = 1) -> str:
    return segment_file_name(timeline, number, SEGMENT)


class Written(NamedTuple):
    """WAL in a directory: how many records it holds, and the exit code that it deserves."""

    records: int
    code: int


def old(first: int, timeline: int = 1) -> bytes:
    """A whole segment of an earlier (or later) part of the same WAL."""
    wal = WalWriter(start_lsn=first * SEGMENT, timeline=timeline)
    while wal.lsn < (first + 1) * SEGMENT:
        wal.add_of_length(900)
    return bytes(wal.data[:SEGMENT])


def up_to_page(directory: Path, rest: Callable[[int], bytes], inside: bool) -> Written:
    """WAL that ends with a page, within a record or behind one; ``rest`` fills the segment."""
    wal = mixed_wal(2)
    if inside:
        wal.fill_page(200)
        wal.add_of_length(1000)
        wal.records.pop()
        end = wal.lsn - wal.lsn % PAGE
    else:
        wal.fill_page(0)
        end = wal.lsn
    data = bytes(wal.data[: end - SEGMENT])
    left = -len(data) % SEGMENT
    write_segments(directory, data + (rest(left) if left else b""))
    return Written(len(wal.records), 0)


def recycled_within(directory: Path) -> Written:
    return up_to_page(directory, lambda left: old(1)[-left:], inside=True)


def recycled_behind(directory: Path) -> Written:
    return up_to_page(directory, lambda left: old(1)[-left:], inside=False)


def later_left_behind(directory: Path) -> Written:
    # Left over from a timeline that was given up, where it had run further.
    return up_to_page(directory, lambda left: old(90)[-left:], inside=True)


def zeros_within(directory: Path) -> Written:
    return up_to_page(directory, bytes, inside=True)


def zeros_behind(directory: Path) -> Written:
    return up_to_page(directory, bytes, inside=False)


def whole_files_behind(directory: Path) -> Written:
    """The end in the middle of a page; recycled and preallocated segments follow."""
    wal = mixed_wal(2)
    write_segments(directory, wal.close())
    (directory / name(3)).write_bytes(old(1))
    (directory / name(4)).write_bytes(bytes(SEGMENT))
    (directory / name(5)).write_bytes(old(2))
    return Written(len(wal.records), 0)


def boundary(directory: Path) -> Written:
    """The end with the segment; what follows is old, of an earlier timeline."""
    wal = mixed_wal(1)
    while wal.lsn < 2 * SEGMENT + SEGMENT - PAGE:
        wal.fill_page(0)
    wal.fill_page(0)
    assert wal.lsn == 3 * SEGMENT
    write_segments(directory, bytes(wal.data))
    (directory / name(3)).write_bytes(old(1))
    return Written(len(wal.records), 0)


def boundary_only(directory: Path) -> Written:
    written = boundary(directory)
    (directory / name(3)).unlink()
    return written


def inside_at_boundary(directory: Path) -> Written:
    """A record goes on into a segment that holds old pages."""
    wal = mixed_wal(1)
    write_segments(directory, bytes(wal.data[:SEGMENT]))
    (directory / name(2)).write_bytes(old(90))
    return Written(sum(record.end_lsn <= 2 * SEGMENT for record in wal.records), 0)


def older_timeline(directory: Path) -> Written:
    """A server on its second timeline kept a segment of the first under a new name."""
    wal = WalWriter(timeline=2)
    while wal.lsn < 1.5 * SEGMENT:
        wal.add_of_length(700)
    write_segments(directory, wal.close(), timeline=2)
    (directory / name(2, 2)).write_bytes(old(90))
    (directory / name(3, 2)).write_bytes(old(1))
    return Written(len(wal.records), 0)


def partial(directory: Path) -> Written:
    wal = mixed_wal(2)
    write_segments(directory, wal.close())
    (directory / name(2)).rename(directory / (name(2) + ".partial"))
    return Written(len(wal.records), 0)


def switched(directory: Path) -> Written:
    """A segment that ends with XLOG_SWITCH, and an old one behind it."""
    wal = mixed_wal(1)
    wal.switch()
    write_segments(directory, bytes(wal.data))
    (directory / name(3)).write_bytes(old(1))
    return Written(len(wal.records), 0)


def middle(directory: Path) -> Written:
    """The first segment begins within a record."""
    wal = mixed_wal(3)
    write_segments(directory, wal.close())
    (directory / name(1)).unlink()
    return Written(sum(record.start_lsn >= 2 * SEGMENT for record in wal.records), 0)


def one_segment(directory: Path) -> Written:
    wal = WalWriter()
    for _ in range(100):
        wal.add_of_length(700)
    write_segments(directory, wal.close())
    return Written(100, 0)


def cut_file(directory: Path) -> Written:
    wal = mixed_wal(2)
    wal.add_of_length(500)
    write_segments(directory, bytes(wal.data[:-100]))
    return Written(len(wal.records) - 1, WAL_TRUNCATED)


def next_not_kept(directory: Path) -> Written:
    wal = mixed_wal(2)
    write_segments(directory, bytes(wal.data[:SEGMENT]))
    return Written(sum(record.end_lsn <= 2 * SEGMENT for record in wal.records), WAL_TRUNCATED)


def gap(directory: Path) -> Written:
    wal = mixed_wal(4)
    write_segments(directory, wal.close())
    (directory / name(2)).unlink()
    return Written(sum(record.end_lsn <= 2 * SEGMENT for record in wal.records), SEGMENT_MISSING)


def gap_before_old(directory: Path) -> Written:
    """A segment is missing where only old ones follow: they say nothing."""
    wal = mixed_wal(2)
    write_segments(directory, wal.close())
    (directory / name(4)).write_bytes(old(1))
    return Written(len(wal.records), 0)


def damaged_last_page(directory: Path, at: int, value: bytes) -> Written:
    wal = mixed_wal(2)
    wal.fill_page(200)
    wal.add_of_length(1000)
    wal.add_of_length(100)
    page = wal.lsn - wal.lsn % PAGE
    data = bytearray(wal.close())
    data[page - SEGMENT + at : page - SEGMENT + at + len(value)] = value
    write_segments(directory, bytes(data))
    return Written(len(wal.records) - 2, WAL_DAMAGED)


def last_page_says_old(directory: Path) -> Written:
    """The address of the last page, whose record is whole, is that of an old segment."""
    return damaged_last_page(directory, 10, b"\x00")


def last_page_says_another(directory: Path) -> Written:
    return damaged_last_page(directory, 8, b"\x01")


def last_page_without_header(directory: Path) -> Written:
    return damaged_last_page(directory, 0, bytes(24))


def last_page_with_wrong_magic(directory: Path) -> Written:
    return damaged_last_page(directory, 0, b"\x99")


def hole(directory: Path) -> Written:
    """Zeros in the middle of the second of four segments."""
    wal = mixed_wal(4)
    data = bytearray(wal.close())
    start = SEGMENT + 10 * PAGE
    data[start : start + 3 * PAGE] = bytes(3 * PAGE)
    write_segments(directory, bytes(data))
    before = sum(record.end_lsn <= SEGMENT + start for record in wal.records)
    return Written(before, WAL_DAMAGED)


def old_segment_in_the_middle(directory: Path) -> Written:
    wal = mixed_wal(4)
    write_segments(directory, wal.close())
    (directory / name(2)).write_bytes(old(1))
    return Written(sum(record.end_lsn <= 2 * SEGMENT for record in wal.records), WAL_DAMAGED)


ENDS = [
    recycled_within, recycled_behind, later_left_behind, zeros_within, zeros_behind,
    whole_files_behind, boundary, boundary_only, inside_at_boundary, older_timeline, partial,
    switched, middle, one_segment, cut_file, next_not_kept, gap, gap_before_old, hole,
    old_segment_in_the_middle, last_page_says_old, last_page_says_another,
    last_page_without_header, last_page_with_wrong_magic,
]  # fmt: skip


def run(command: object, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, list(arguments))  # type: ignore[arg-type]
    error = result.exception
    if isinstance(error, walstream.WalstreamError):
        from walstream.cli.exit_codes import exit_code

        return exit_code(error), result.stdout, str(error)
    return result.exit_code, result.stdout, result.stderr


def total(table: str) -> int:
    return int(table.splitlines()[-1].split()[1])


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_every_command_tells_the_same_end(end: Callable[[Path], Written], tmp_path: Path) -> None:
    written = end(tmp_path)
    path = str(tmp_path)
    for threads in ("1", "2", "4"):
        code, table, error = run(stats, path, "-j", threads)
        assert (code, total(table)) == (written.code, written.records), error
        code, text, error = run(dump, "-q", "-p", path, "-j", threads)
        assert code == written.code, error
        code, text, error = run(dump, "--stats", "-p", path, "-j", threads)
        assert (code, total(text)) == (written.code, written.records), error
        code, text, error = run(verify, path, "-j", threads)
        assert code == written.code, text
        seen = 0
        try:
            for batch in walstream.scan(tmp_path, threads=int(threads)).batches():
                seen += batch.num_rows
        except WalError as problem:
            assert written.code in (WAL_DAMAGED, SEGMENT_MISSING), problem
            assert isinstance(problem, SegmentMissing) == (written.code == SEGMENT_MISSING)
        else:
            assert written.code in (0, WAL_TRUNCATED)
        assert seen == written.records
    assert run(stats, path, "--by", "all")[0] == written.code
    if written.code in (0, WAL_TRUNCATED):
        query = "SELECT count(*) FROM records"
        code, text, error = run(sql, path, query, "--format", "tsv")
        assert (code, text) == (0, f"{written.records}\n"), error


def test_an_old_record_under_a_right_address_is_no_proof(tmp_path: Path) -> None:
    """Of an old page that begins with a record only the prev link tells that it is old."""
    wal = WalWriter()
    while wal.lsn < 1.5 * SEGMENT:
        wal.fill_page(0)
    last = wal.records[-1]
    data = bytes(wal.data) + old(90)[len(wal.data) :]
    write_segments(tmp_path, data)
    ending = tail_of(open_wal(tmp_path), Position(last.end_lsn, last.start_lsn, version=18))
    assert (ending.kind, ending.lsn) == (EndKind.CLEAN, last.end_lsn)


FIELDS = {
    "magic": (0, 2),
    "info": (2, 2),
    "timeline": (4, 4),
    "pageaddr": (8, 8),
    "rem_len": (16, 4),
    "system identifier": (24, 8),
    "segment size": (32, 4),
    "block size": (36, 4),
}
BITS = (0, 1, 6, 17)


def reports(directory: Path) -> list[Report]:
    found = []
    for threads in (1, 2, 4):
        report = report_of(open_wal(directory), threads=threads)
        report.seconds = 0
        found.append(report)
    return found


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "page",
    [0, SEGMENT, 2 * SEGMENT, SEGMENT // 2, 2 * SEGMENT - PAGE, -1],
    ids=("first", "first of a segment", "of the last", "middle", "last of a segment", "last"),
)
def test_any_field_of_a_page_header(field: str, page: int, tmp_path: Path) -> None:
    wal = mixed_wal(3)
    wal.fill_page(200)
    wal.add_of_length(1000)
    wal.add_of_length(100)
    if page < 0:
        page = (wal.lsn - wal.lsn % PAGE) - SEGMENT
    at, size = FIELDS[field]
    if at >= 24 and page % SEGMENT:
        at -= 8  # a short header ends before; a record's bytes are as good
    for bit in [bit for bit in BITS if bit < 8 * size]:
        data = bytearray(wal.close())
        data[page + at + bit // 8] ^= 1 << bit % 8
        write_segments(tmp_path, bytes(data))
        first, *others = reports(tmp_path)
        for other in others:
            assert other == first
        if not first.problems and field in ("info", "rem_len"):
            # A page on which no record goes on: the flag and the length say nothing there.
            assert first.records == len(wal.records)
            continue
        assert first.problems, f"bit {bit}"
        assert first.records >= len(wal.records) - 4 * PAGE // 60
        assert first.end_lsn == wal.lsn or page >= wal.lsn - SEGMENT - 2 * PAGE
        code = run(dump, "-q", "-p", str(tmp_path))[0]
        assert code != 0
        assert run(stats, str(tmp_path), "-j", "3")[0] == code
