"""What a restore_command gets: all that was flushed and nothing else, or why not."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from tests.support.walgen import PAGE, SEGMENT, WalWriter
from walstream.errors import (
    ConfigError,
    SegmentMissing,
    StorageError,
    StoreError,
    WalError,
    WrongCluster,
)
from walstream.store.compressed import CompressedSegment, Compression
from walstream.store.file_layer import FileLayer
from walstream.store.restore_wal import restore_file
from walstream.store.unfinished import Flushed
from walstream.wal.segment import segment_file_name

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".lz4": lz4.frame.compress,
    ".zst": zstandard.compress,
}
NAMES = ["{}.partial", "{}.gz.partial", "{}.partial.gz", "{}.lz4.partial", "{}.zst.partial"]
OLD_PAGE = b"\xaa" * (3 * PAGE)


def name_of(number: int, timeline: int = 1) -> str:
    return segment_file_name(timeline, number, SEGMENT)


def store(directory: Path, name: str, data: bytes) -> Path:
    suffix = next((s for s in COMPRESS if s and s in name), "")
    path = directory / name
    path.write_bytes(COMPRESS[suffix](data))
    return path


def wal_to(left: int, start: int = SEGMENT) -> WalWriter:
    """WAL that fills its first segment up to ``left`` bytes before its end."""
    wal = WalWriter(start_lsn=start)
    while wal.lsn < start + SEGMENT - PAGE:
        wal.fill_page(0)
    wal.fill_page(left)
    return wal


def restored(directory: Path, number: int, timeline: int = 1, **more: Flushed) -> bytes:
    target = directory / "RECOVERYXLOG"
    restore_file(directory, name_of(number, timeline), target, **more)  # type: ignore[arg-type]
    data = target.read_bytes()
    target.unlink()
    assert [path for path in directory.iterdir() if path.name.endswith(".tmp")] == []
    return data


@pytest.mark.parametrize(
    ("partial", "before", "length"),
    list(itertools.product(NAMES, ["{}", "{}.gz"], [200, 12_000])),
)
def test_a_record_that_begins_in_the_segment_before_comes_back(
    tmp_path: Path, partial: str, before: str, length: int
) -> None:
    wal = wal_to(64)
    wal.add_of_length(length)
    store(tmp_path, before.format(name_of(1)), bytes(wal.data[:SEGMENT]))
    tail = bytes(wal.data[SEGMENT:])
    store(tmp_path, partial.format(name_of(2)), tail + OLD_PAGE + bytes(PAGE))
    assert restored(tmp_path, 2) == tail + bytes(SEGMENT - len(tail))


def test_a_record_over_several_segments_comes_back(tmp_path: Path) -> None:
    wal = wal_to(64)
    wal.add_of_length(2 * SEGMENT + 5000)
    for number in (1, 2, 3):
        begin = (number - 1) * SEGMENT
        store(tmp_path, name_of(number), bytes(wal.data[begin : begin + SEGMENT]))
    tail = bytes(wal.data[3 * SEGMENT :])
    (tmp_path / name_of(3)).rename(tmp_path / name_of(3))
    store(tmp_path, name_of(4) + ".partial", tail + OLD_PAGE)
    assert restored(tmp_path, 4) == tail + bytes(SEGMENT - len(tail))


@pytest.mark.parametrize("what", ["missing", "damaged", "empty"])
@pytest.mark.parametrize("more", [False, True])
def test_without_the_segment_before_the_rest_of_its_record_comes_back_too(
    tmp_path: Path, what: str, more: bool
) -> None:
    wal = wal_to(64)
    wal.add_of_length(12_000)
    if more:
        wal.add_of_length(100)
    if what != "missing":
        data = bytes(SEGMENT // 2) + bytes(wal.data[SEGMENT // 2 : SEGMENT])
        store(
            tmp_path, name_of(1), b"" if what == "empty" else bytes(wal.data[:5000]) + data[5000:]
        )
    tail = bytes(wal.data[SEGMENT:])
    store(tmp_path, name_of(2) + ".partial", tail + OLD_PAGE)
    data = restored(tmp_path, 2)
    # Its last record may be followed by nothing but what makes the next one begin at 8 bytes.
    assert data.rstrip(b"\0") == tail.rstrip(b"\0")
    assert len(data) == SEGMENT


def test_the_segment_before_may_be_of_an_earlier_timeline(tmp_path: Path) -> None:
    wal = wal_to(64)
    store(tmp_path, name_of(1), b"")
    wal.timeline = 1
    wal.add_of_length(300)
    first = bytes(wal.data[:SEGMENT])
    store(tmp_path, name_of(1), first)
    switch = SEGMENT + len(wal.data)
    wal.timeline = 2
    wal.add_of_length(9000)
    (tmp_path / "00000002.history").write_text(f"1\t0/{switch:X}\tno recovery target\n")
    tail = bytes(wal.data[SEGMENT:])
    store(tmp_path, name_of(2, 2) + ".partial", tail + OLD_PAGE)
    assert restored(tmp_path, 2, 2) == tail + bytes(SEGMENT - len(tail))


def test_a_switch_is_kept_and_what_follows_it_is_zeros(tmp_path: Path) -> None:
    wal = wal_to(64)
    wal.add_of_length(300)
    wal.switch()
    store(tmp_path, name_of(1), bytes(wal.data[:SEGMENT]))
    tail = bytes(wal.data[SEGMENT:])
    assert len(tail) == SEGMENT
    store(tmp_path, name_of(2) + ".partial", tail[: 4 * PAGE] + OLD_PAGE)
    assert restored(tmp_path, 2) == tail


@pytest.mark.parametrize("method", ["gzip", "lz4", "zstd"])
@pytest.mark.parametrize("torn", [OLD_PAGE, bytes(PAGE), b"\x01", b""])
def test_what_was_flushed_of_a_compressed_file_comes_back_before_a_torn_end(
    tmp_path: Path, method: str, torn: bytes
) -> None:
    wal = WalWriter()
    for i in range(100):
        wal.add_of_length(3000, fill=i)
    data = bytes(wal.data)
    segment = CompressedSegment(
        FileLayer(), tmp_path, name_of(1), Compression(method), iter([data[:100_000]])
    )
    segment.write(0, [data[100_000:]])
    segment.flush()
    segment.close()
    size = segment.path.stat().st_size
    with segment.path.open("ab") as file:
        file.write(torn)
    flushed = Flushed(1, wal.lsn)
    assert restored(tmp_path, 1, flushed=flushed) == data + bytes(SEGMENT - len(data))
    segment.path.write_bytes(segment.path.read_bytes()[: size // 2])
    with pytest.raises(WalError, match="was flushed to"):
        restored(tmp_path, 1, flushed=flushed)


def test_a_damaged_page_that_was_flushed_is_no_end_of_wal(tmp_path: Path) -> None:
    wal = WalWriter()
    for _ in range(100):
        wal.add_of_length(300)
    data = bytearray(wal.data)
    data[20_000] ^= 1
    store(tmp_path, name_of(1) + ".partial", bytes(data))
    assert len(restored(tmp_path, 1).rstrip(b"\0")) < 20_000
    assert len(restored(tmp_path, 1, flushed=Flushed(1, SEGMENT + 10_000)).rstrip(b"\0")) < 20_000
    with pytest.raises(WalError, match="was flushed to"):
        restored(tmp_path, 1, flushed=Flushed(1, wal.lsn))
    assert restored(tmp_path, 1, flushed=Flushed(2, wal.lsn))


def test_half_a_record_may_be_flushed(tmp_path: Path) -> None:
    wal = WalWriter()
    wal.add_of_length(300)
    end = wal.lsn
    wal.add_of_length(5000)
    store(tmp_path, name_of(1) + ".partial", bytes(wal.data[:3000]) + bytes(PAGE))
    data = restored(tmp_path, 1, flushed=Flushed(1, SEGMENT + 3000))
    assert data == bytes(wal.data[: end - SEGMENT]) + bytes(2 * SEGMENT - end)


@pytest.mark.parametrize("content", [b"", bytes(SEGMENT), bytes(8192)])
@pytest.mark.parametrize("name", ["{}.partial", "{}.gz.partial", "{}.zst.partial"])
def test_a_file_that_was_only_made_is_not_there(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name.format(name_of(1))).write_bytes(content)
    with pytest.raises(SegmentMissing, match="holds no WAL yet"):
        restored(tmp_path, 1)


@pytest.mark.parametrize("name", ["{}", "{}.gz", "{}.partial", "{}.gz.partial", "{}.lz4"])
def test_garbage_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / name.format(name_of(1))).write_bytes(b"\xaa" * SEGMENT)
    with pytest.raises((WalError, StorageError)) as caught:
        restored(tmp_path, 1)
    assert not isinstance(caught.value, SegmentMissing)
    assert not (tmp_path / "RECOVERYXLOG").exists()


@pytest.mark.parametrize("cut", [0, 1, 40, 8192, SEGMENT - 1, SEGMENT + 1])
@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_a_complete_segment_of_another_size_is_damage(
    tmp_path: Path, cut: int, suffix: str
) -> None:
    data = (bytes(wal_to(0).data) + bytes(1))[:cut]
    store(tmp_path, name_of(1) + suffix, data)
    with pytest.raises(WalError) as caught:
        restored(tmp_path, 1)
    assert not isinstance(caught.value, SegmentMissing)


def test_a_sound_copy_beside_a_damaged_one_is_taken(tmp_path: Path) -> None:
    data = bytes(wal_to(0).data)
    store(tmp_path, name_of(1), data[:8192])
    store(tmp_path, name_of(1) + ".gz", data)
    assert restored(tmp_path, 1) == data


def test_wal_that_breaks_off_and_goes_on_is_damage(tmp_path: Path) -> None:
    data = bytearray(wal_to(0).data)
    good = bytes(data)
    data[SEGMENT // 2] ^= 1
    store(tmp_path, name_of(1), bytes(data))
    with pytest.raises(WalError, match="is damaged"):
        restored(tmp_path, 1)
    # The newest segment of a server that is gone ends anywhere.
    rescued = good[: SEGMENT // 2] + bytes(PAGE) + OLD_PAGE
    rescued += bytes(SEGMENT - len(rescued))
    store(tmp_path, name_of(1), rescued)
    assert restored(tmp_path, 1) == rescued
    store(tmp_path, name_of(2) + ".gz", bytes(wal_to(0, 2 * SEGMENT).data))
    with pytest.raises(WalError, match="is damaged"):
        restored(tmp_path, 1)


def test_only_a_missing_file_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SegmentMissing):
        restored(tmp_path, 1)
    (tmp_path / name_of(1)).symlink_to(tmp_path / "unmounted")
    with pytest.raises(StorageError, match="a link to a file that is not there"):
        restored(tmp_path, 1)
    (tmp_path / name_of(2)).mkdir()
    with pytest.raises(StoreError, match="is not a file"):
        restored(tmp_path, 2)
    with pytest.raises(StorageError):
        restore_file(tmp_path / "unmounted", name_of(1), tmp_path / "x")
    for name in ("pg_wal/RECOVERYXLOG", "x", name_of(1).lower() + "g", "." + name_of(1), ""):
        with pytest.raises(ConfigError, match="not a WAL file name"):
            restore_file(tmp_path, name, tmp_path / "x")
    (tmp_path / "00000002.history").touch()
    with pytest.raises(WalError, match="is empty"):
        restore_file(tmp_path, "00000002.history", tmp_path / "x")


def test_another_cluster_is_refused(tmp_path: Path) -> None:
    store(tmp_path, name_of(1), bytes(wal_to(0).data))
    with pytest.raises(WrongCluster):
        restore_file(tmp_path, name_of(1), tmp_path / "x", system_id=1)
    assert not (tmp_path / "x").exists()
