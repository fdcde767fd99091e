"""Where stored WAL stops being whole: files, switches, damage, zeros, limits."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.support.walgen import PAGE, SEGMENT, SYSTEM_IDENTIFIER, WalWriter
from walstream.segments.header import read_long_header
from walstream.segments.names import PARTIAL, segment_file_name
from walstream.store.verified_end import VerifiedEnd, goes_on, is_unfinished, verify_end


def filled(segments: int = 1) -> WalWriter:
    """WAL that fills so many segments and begins the next one."""
    wal = WalWriter()
    while wal.lsn < SEGMENT * (1 + segments) + PAGE:
        wal.add_of_length(3000)
    return wal


def store(directory: Path, wal: WalWriter, ending: str = "", size: int | None = None) -> list[Path]:
    """Writes the segments; ``ending`` is the last one's, which holds what there is of it."""
    data = bytes(wal.data[:size])
    paths = []
    for at in range(0, len(data), SEGMENT):
        last = at + SEGMENT >= len(data)
        name = segment_file_name(1, (wal.start_lsn + at) // SEGMENT, SEGMENT)
        path = directory / (name + (ending if last else ""))
        piece = data[at : at + SEGMENT]
        path.write_bytes(gzip.compress(piece, 1) if ".gz" in path.name else piece)
        paths.append(path)
    return paths


def end_of(paths: list[Path], **more: bool | int) -> VerifiedEnd:
    options = {"version": 18, "segment_size": SEGMENT, "system_id": SYSTEM_IDENTIFIER, **more}
    return verify_end(paths, SEGMENT, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [PARTIAL, ".gz" + PARTIAL])
def test_an_unfinished_file_is_proven_to_its_last_whole_record(ending: str, tmp_path: Path) -> None:
    wal = filled()
    *_, before, last = wal.records
    found = end_of(store(tmp_path, wal, ending, last.end_lsn - SEGMENT))
    assert found[:3] == (last.end_lsn, last.start_lsn, None)
    found = end_of(store(tmp_path, wal, ending, last.end_lsn - SEGMENT - 16))
    assert found[:3] == (before.end_lsn, before.start_lsn, None)
    assert found.decoder is None


def test_whole_files_are_gone_on_with_where_they_end(tmp_path: Path) -> None:
    """The decoder has the beginning of the record that the next segment ends."""
    wal = filled()
    paths = store(tmp_path, wal, size=SEGMENT)
    last = [record for record in wal.records if record.end_lsn <= 2 * SEGMENT][-1]
    found = end_of(paths)
    assert found[:3] == (last.end_lsn, last.start_lsn, None)
    assert found.decoder is not None
    found.decoder.feed_bytes(2 * SEGMENT, bytes(wal.data[SEGMENT:]))
    following = found.decoder.poll_decode()
    assert following is not None
    assert following.start_lsn == last.end_lsn


def test_two_segments_are_one_walk(tmp_path: Path) -> None:
    wal = filled(2)
    paths = store(tmp_path, wal, PARTIAL)
    assert len(paths) == 3
    last = wal.records[-1]
    assert end_of(paths)[:2] == (last.end_lsn, last.start_lsn)
    # Without the one in between, the chain ends with the first.
    end = end_of([paths[0], paths[2]]).end_lsn
    assert end < 2 * SEGMENT


def test_damage_ends_the_walk_before_it(tmp_path: Path) -> None:
    wal = filled()
    paths = store(tmp_path, wal, PARTIAL)
    before, hurt = wal.records[7:9]
    data = bytearray(paths[0].read_bytes())
    data[hurt.start_lsn - SEGMENT + 100] ^= 1
    paths[0].write_bytes(data)
    found = end_of(paths)
    assert found[:2] == (before.end_lsn, before.start_lsn)
    assert found.error is not None
    assert found.error.lsn == hurt.start_lsn
    assert found.decoder is None
    # Nothing from the limit on is looked at.
    assert end_of(paths, limit_lsn=hurt.start_lsn)[:3] == (*found[:2], None)


def test_zeros_end_the_walk(tmp_path: Path) -> None:
    wal = filled()
    last = wal.records[9]
    whole = bytes(wal.data[: last.end_lsn - SEGMENT]).ljust(SEGMENT, b"\0")
    path = tmp_path / (segment_file_name(1, 1, SEGMENT) + PARTIAL)
    path.write_bytes(whole)
    found = end_of([path])
    assert found[:2] == (last.end_lsn, last.start_lsn)
    assert "got 0" in str(found.error)


@pytest.mark.parametrize("left", [8, 16, 24, 4000])
def test_a_switch_in_an_unfinished_file_waits_for_its_zeros(left: int, tmp_path: Path) -> None:
    """Whether it lies over the end of a page or not."""
    wal = WalWriter()
    wal.fill_page(left)
    before = wal.records[-1]
    start = wal.lsn
    switch = wal.switch()
    unfinished = store(tmp_path, wal, PARTIAL)
    assert end_of(unfinished)[:3] == (before.end_lsn, before.start_lsn, None)
    bytes_end = start + 24 + (24 if left < 24 else 0)
    assert end_of(unfinished, past_switch=True)[:3] == (bytes_end, start, None)
    complete = store(tmp_path, wal)
    assert end_of(complete)[:3] == (2 * SEGMENT, switch.start_lsn, None)


def test_no_record_is_no_chain(tmp_path: Path) -> None:
    path = tmp_path / (segment_file_name(1, 1, SEGMENT) + PARTIAL)
    path.write_bytes(b"")
    assert end_of([path])[:3] == (SEGMENT, 0, None)
    path.write_bytes(bytes(SEGMENT))
    assert end_of([path])[:2] == (SEGMENT, 0)


def test_another_clusters_wal_is_an_error(tmp_path: Path) -> None:
    paths = store(tmp_path, filled(), PARTIAL)
    found = end_of(paths, system_id=7)
    assert found[:2] == (SEGMENT, 0)
    assert found.error is not None


def test_whether_wal_goes_on_behind_a_break(tmp_path: Path) -> None:
    wal = filled()
    path = store(tmp_path, wal, size=SEGMENT)[0]
    data = path.read_bytes()
    header = read_long_header(data)
    assert header is not None
    assert not goes_on(path, header)  # it does not break off
    hurt = wal.records[5]
    at = hurt.start_lsn - SEGMENT
    path.write_bytes(data[: at + 100] + b"\xff" + data[at + 101 :])
    assert goes_on(path, header)
    path.write_bytes(data[:at].ljust(SEGMENT, b"\0"))
    assert not goes_on(path, header)


def test_names_of_unfinished_files() -> None:
    name = segment_file_name(1, 1, SEGMENT)
    assert [is_unfinished(name + end) for end in ("", ".gz", PARTIAL, ".zst" + PARTIAL)] == [
        False, False, True, True,
    ]  # fmt: skip
