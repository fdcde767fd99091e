"""Reading segments back: records over pages, timelines, damage."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from walstream.errors import FileDamaged, NoSpace, RecordError, SegmentMissing, WalError
from walstream.segments import reader
from walstream.segments.compression import CODECS
from walstream.segments.files import read_file
from walstream.segments.names import compression_of, segment_file_name
from walstream.segments.reader import SegmentReader

SEGMENT = 1 << 20


def write_segment(path: Path, timeline: int, number: int, fill: bytes, suffix: str = "") -> Path:
    file = path / (segment_file_name(timeline, number, SEGMENT) + suffix)
    file.write_bytes(fill * SEGMENT)
    return file


def test_bytes_cross_segments(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, 1, b"a")
    write_segment(tmp_path, 1, 2, b"b", ".partial")
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(2 * SEGMENT - 2, 4) == b"aabb"
    assert archive.end_lsn() == 3 * SEGMENT


def test_the_newest_timeline_that_has_the_segment_is_read(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, 1, b"a")
    write_segment(tmp_path, 1, 2, b"b", ".partial")
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(2 * SEGMENT, 1) == b"b"
    # A switch in segment 2: its file on timeline 2 repeats what timeline 1 had.
    (tmp_path / "00000002.history").write_text("1\t0/250000\tno recovery target\n")
    write_segment(tmp_path, 2, 2, b"c", ".partial")
    assert archive.read(2 * SEGMENT - 1, 2) == b"ac"
    # Timeline 1 went on further than the switch: that is a dead branch.
    write_segment(tmp_path, 1, 3, b"d")
    with pytest.raises(SegmentMissing, match="segment 000000020000000000000003 is missing"):
        archive.read(3 * SEGMENT, 1)
    assert SegmentReader(tmp_path, SEGMENT, timeline=1).read(3 * SEGMENT, 1) == b"d"


def test_a_timeline_with_any_number_is_found_when_its_segment_is_looked_for(
    tmp_path: Path,
) -> None:
    write_segment(tmp_path, 1, 1, b"a")
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(SEGMENT, 1) == b"a"
    (tmp_path / "000003E8.history").write_text("1\t0/200000\tno recovery target\n")
    write_segment(tmp_path, 1000, 2, b"c", ".partial")
    assert archive.read(2 * SEGMENT - 1, 2) == b"ac"
    assert archive.current_history().current == 1000


def test_a_file_that_takes_the_place_of_another_is_read(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, 1, b"a")
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(SEGMENT, 1) == b"a"
    write_segment(tmp_path, 1, 1, b"b", ".new").rename(tmp_path / segment_file_name(1, 1, SEGMENT))
    assert archive.read(SEGMENT, 1) == b"b"
    # The history comes first, the new timeline's file of the segment later.
    (tmp_path / "00000002.history").write_text("1\t0/150000\tno recovery target\n")
    assert archive.read(SEGMENT, 1) == b"b"
    write_segment(tmp_path, 2, 1, b"c", ".partial")
    assert archive.read(SEGMENT, 1) == b"c"


def test_a_directory_that_changes_is_not_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        write_segment(tmp_path, 1, number, b"a")
    archive = SegmentReader(tmp_path, SEGMENT)

    def listed(path: Path) -> list[str]:
        raise AssertionError(f"{path} was listed")

    monkeypatch.setattr("os.scandir", listed)
    for number in range(4, 10):
        write_segment(tmp_path, 1, number, b"b", ".partial")
        assert archive.read(number * SEGMENT - 1, 2) in (b"ab", b"bb")


def test_a_malformed_history_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000002.history").write_text("nonsense\n")
    with pytest.raises(WalError, match="timeline history 2"):
        SegmentReader(tmp_path, SEGMENT)


def test_a_short_file_is_named(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, 1, b"a").write_bytes(b"short")
    with pytest.raises(FileDamaged, match="too short: expected 16 bytes at offset 0, got 5"):
        SegmentReader(tmp_path, SEGMENT).read(SEGMENT, 16)


def test_garbage_is_no_record(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, 1, b"\0")
    with pytest.raises(
        RecordError, match=r"invalid record length: expected 24 to .* got 0 at 0/100"
    ):
        SegmentReader(tmp_path, SEGMENT).read_record(SEGMENT + 40)
    write_segment(tmp_path, 1, 1, b"\x30\0\0\0")
    (tmp_path / segment_file_name(1, 1, SEGMENT)).write_bytes(b"\x30\0\0\0" * (SEGMENT // 4))
    with pytest.raises(RecordError, match="incorrect resource manager data checksum in record"):
        SegmentReader(tmp_path, SEGMENT).read_record(SEGMENT + 40)


def write_compressed(path: Path, number: int, content: bytes, suffix: str = ".zst") -> Path:
    file = path / (segment_file_name(1, number, SEGMENT) + suffix)
    codec = next(codec for codec in CODECS if codec.suffix == compression_of(file.name))
    compressor = codec.compressor(None)
    file.write_bytes(compressor.compress(content) + compressor.finish())
    return file


@pytest.mark.parametrize("suffix", [".gz", ".lz4", ".zst", ".lz4.partial", ".partial.gz"])
def test_compressed_segments_are_read_at_any_place(tmp_path: Path, suffix: str) -> None:
    write_segment(tmp_path, 1, 1, b"a")
    write_compressed(tmp_path, 2, bytes(range(256)) * (SEGMENT // 256), suffix)
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(2 * SEGMENT - 1, 3) == b"a\0\1"
    assert archive.read(3 * SEGMENT - 1, 1) == b"\xff"
    assert archive.end_lsn() == 3 * SEGMENT
    archive.close()


def test_unpacked_segments_are_kept_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "UNPACKED", 2 * SEGMENT)
    unpacked: list[str] = []

    def counted(path: Path) -> Iterator[bytes]:
        unpacked.append(path.name)
        return read_file(path)

    monkeypatch.setattr(reader, "read_file", counted)
    for number in range(1, 5):
        write_compressed(tmp_path, number, bytes([number]) * SEGMENT)
    archive = SegmentReader(tmp_path, SEGMENT)
    for number in (1, 1, 2, 1, 2, 3, 2, 3, 1):
        assert archive.read(number * SEGMENT + 5, 1) == bytes([number])
    assert [int(name[16:24]) for name in unpacked] == [1, 2, 3, 1]
    archive.close()


def test_an_unfinished_compressed_segment_grows(tmp_path: Path) -> None:
    path = write_compressed(tmp_path, 1, b"a" * 1000, ".gz.partial")
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(SEGMENT, 1000) == b"a" * 1000
    with pytest.raises(FileDamaged, match="is too short"):
        archive.read(SEGMENT, 1001)
    write_compressed(tmp_path, 1, b"a" * 2000, ".gz.partial")
    assert archive.read(SEGMENT + 1500, 500) == b"a" * 500
    path.rename(path.with_suffix(""))
    assert archive.read(SEGMENT + 1500, 500) == b"a" * 500
    archive.close()


def test_what_precedes_the_damage_of_a_compressed_segment_is_read(tmp_path: Path) -> None:
    compressor = CODECS[0].compressor(None)
    file = tmp_path / (segment_file_name(1, 1, SEGMENT) + ".gz")
    file.write_bytes(compressor.compress(b"a" * 5000) + compressor.sync() + b"\xff" * 100)
    archive = SegmentReader(tmp_path, SEGMENT)
    assert archive.read(SEGMENT, 5000) == b"a" * 5000
    with pytest.raises(FileDamaged, match=r"could not read .*\.gz: "):
        archive.read(SEGMENT, 5001)
    archive.close()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_compressed(tmp_path, 1, b"a" * SEGMENT)
    archive = SegmentReader(tmp_path, SEGMENT)

    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(NoSpace, match=r"unpack .*\.zst in .*: No space left"):
        archive.read(SEGMENT, 1)
