"""Codecs: round trips, cuts, damage, frames that follow one another, bombs."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walstream.errors import FileDamaged
from walstream.segments.compression import (
    CODECS,
    Codec,
    Compression,
    DecompressedFile,
    parse_compression,
)

EACH = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.method)


def wal_like(size: int) -> bytes:
    rng = random.Random(size)
    return b"".join(rng.randbytes(32) + bytes(32) for _ in range(size // 64))


def compressed(codec: Codec, data: bytes, step: int = 40_000) -> bytes:
    """``data`` as a receiver compresses it: written in pieces, each flushed."""
    compressor = codec.compressor(None)
    parts = []
    for at in range(0, len(data), step):
        parts += [compressor.compress(data[at : at + step]), compressor.sync()]
    return b"".join([*parts, compressor.finish()])


def plain(codec: Codec, data: bytes, size: int = 10_000) -> tuple[bytes, str]:
    """What can be read of a file, and how it ended."""
    stream = DecompressedFile(io.BytesIO(data), codec.suffix, "file")
    parts = []
    try:
        while piece := stream.read(size):
            parts.append(piece)
    except FileDamaged as error:
        return b"".join(parts), str(error)
    return b"".join(parts), ""


@EACH
@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 300_000), step=st.integers(1000, 100_000), piece=st.integers(1, 70_000))
def test_round_trip(codec: Codec, size: int, step: int, piece: int) -> None:
    data = wal_like(size)
    assert plain(codec, compressed(codec, data, step), max(piece, size // 50)) == (data, "")


@EACH
def test_a_file_that_was_cut_gives_what_was_flushed(codec: Codec) -> None:
    data = wal_like(200_000)
    whole = compressed(codec, data)
    got, error = plain(codec, whole[: len(whole) * 3 // 4])
    assert error == ""
    assert data.startswith(got)
    assert len(got) > 80_000


@EACH
def test_of_a_damaged_file_all_before_the_damage_is_given(codec: Codec) -> None:
    data = wal_like(200_000)
    compressor = codec.compressor(None)
    first = compressor.compress(data[:130_000]) + compressor.sync()
    # A crash left other bytes behind what was flushed. lz4 has no flush: of it whole blocks count.
    got, _ = plain(codec, first + b"\xff" * 50_000)
    assert data[:130_000].startswith(got[:130_000])
    assert len(got) >= 130_000 if codec.method != "lz4" else len(got) >= 64 << 10


@EACH
def test_frames_and_padding_and_strangers_behind(codec: Codec) -> None:
    frames = compressed(codec, b"one" * 1000) + bytes(512) + compressed(codec, b"two" * 1000)
    expected = b"one" * 1000 + b"two" * 1000
    assert plain(codec, frames) == (expected, "")
    assert plain(codec, frames + b"no frame at all") == (expected, "")
    assert plain(codec, b"") == (b"", "")


@EACH
@settings(max_examples=40, deadline=None)
@given(at=st.floats(0, 1), value=st.integers(0, 255))
def test_any_damage_is_told_or_harmless(codec: Codec, at: float, value: int) -> None:
    data = wal_like(100_000)
    whole = bytearray(compressed(codec, data))
    whole[int(at * (len(whole) - 1))] = value
    got, _ = plain(codec, bytes(whole))
    assert len(got) <= 1 << 24


@EACH
def test_memory_stays_bounded(codec: Codec) -> None:
    bomb = compressed(codec, bytes(64 << 20), 64 << 20)
    stream = DecompressedFile(io.BytesIO(bomb), codec.suffix, "file")
    tracemalloc.start()
    try:
        total = 0
        while piece := stream.read(1 << 16):
            total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    if codec.method != "zstd":  # 64 MB of zeros are shorter than any step
        assert peak < 48 << 20


def test_what_the_command_line_says() -> None:
    assert parse_compression("none") == parse_compression("0") == Compression("none")
    assert parse_compression("9") == parse_compression("gzip:level=9") == Compression("gzip", 9)
    assert parse_compression("zstd:22").suffix == ".zst"
    for wrong in ("bz2", "gzip:10", "lz4:0", "none:1", "zstd:level", "gzip:x"):
        with pytest.raises(ValueError, match="compression"):
            parse_compression(wrong)


def test_no_codec_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, walstream.segments.source, walstream.segments.names;"
        "print({'zlib', 'gzip', 'lz4', 'lz4.frame', 'zstandard', 'tarfile'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-Sc", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
