"""Full-page images: every compression and hole, and nothing but RecordError for wrong bytes."""

from __future__ import annotations

from types import ModuleType

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import walstream.wal.image
from tests.support.pglz import pglz_compress
from tests.support.pure import pure
from walstream.errors import RecordError
from walstream.wal.model import BLCKSZ, PageImage

BUILDS = [walstream.wal.image, pure("walstream.wal.image")]

builds = pytest.mark.parametrize("image", BUILDS, ids=("installed", "pure"))

PACK = (
    lambda raw: raw,
    pglz_compress,
    lambda raw: lz4.block.compress(raw, store_size=False),
    lambda raw: zstandard.compress(raw),
)


@st.composite
def pages(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """A page with its hole: (page, hole offset, hole length)."""
    lower = draw(st.integers(1, 400))
    upper = draw(st.integers(7000, BLCKSZ - 1))
    seed = draw(st.binary(min_size=1, max_size=40))
    full = (seed * (BLCKSZ // len(seed) + 1))[:BLCKSZ]
    if draw(st.booleans()):
        return full, 0, 0
    return full[:lower] + bytes(upper - lower) + full[upper:], lower, upper - lower


@builds
@given(page=pages(), compression=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_round_trip(image: ModuleType, page: tuple[bytes, int, int], compression: int) -> None:
    full, offset, length = page
    packed = PACK[compression](full[:offset] + full[offset + length :])
    assert image.restore_image(PageImage(packed, offset, length, compression, True)) == full


def result(image: ModuleType, wrong: PageImage) -> bytes | None:
    try:
        page: bytes = image.restore_image(wrong)
    except RecordError:
        return None
    assert len(page) == BLCKSZ
    return page


@given(
    st.binary(max_size=300),
    st.integers(0, 0xFFFF),
    st.one_of(st.integers(0, 0xFFFF), st.integers(8100, BLCKSZ)),
    st.integers(0, 4),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes, offset: int, length: int, compression: int) -> None:
    wrong = PageImage(data, offset, length, compression, True)
    assert result(BUILDS[0], wrong) == result(BUILDS[1], wrong)


@given(pages(), st.integers(1, 3), st.data())
@settings(max_examples=100, deadline=None)
def test_mutated(page: tuple[bytes, int, int], compression: int, data: st.DataObject) -> None:
    full, offset, length = page
    packed = bytearray(PACK[compression](full[:offset] + full[offset + length :]))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del packed[at:]
    wrong = PageImage(bytes(packed), offset, length, compression, True)
    assert result(BUILDS[0], wrong) == result(BUILDS[1], wrong)


@builds
@given(raw=st.binary(max_size=2000))
@settings(max_examples=30, deadline=None)
def test_pglz(image: ModuleType, raw: bytes) -> None:
    assert image.pglz_decompress_bytes(pglz_compress(raw * 3), len(raw) * 3) == raw * 3


@builds
@pytest.mark.parametrize(
    ("packed", "length"),
    [
        (b"\x01\x00\x01", 3),  # a match before anything was written
        (b"\x02a\x00\x00", 4),  # distance 0
        (b"\x02a\x00\x02", 4),  # distance beyond the start
        (b"\x02a\x0f\x01", 30),  # the third byte of a long match is missing
        (b"\x02a\x00", 4),  # the second byte of a match is missing
        (b"\x00abc", 2),  # bytes left over
        (b"\x00abc", 4),  # too few bytes
    ],
)
def test_wrong_pglz(image: ModuleType, packed: bytes, length: int) -> None:
    with pytest.raises(RecordError, match="could not decompress pglz"):
        image.pglz_decompress_bytes(packed, length)


@builds
def test_last_match_is_cut(image: ModuleType) -> None:
    assert image.pglz_decompress_bytes(b"\x02a\x05\x01", 4) == b"aaaa"


@builds
def test_zstd_bomb_is_refused_by_its_header(image: ModuleType) -> None:
    bomb = zstandard.compress(bytes(1 << 24))
    with pytest.raises(RecordError, match="expected 8192, got 16777216"):
        image.restore_image(PageImage(bomb, 0, 0, 3, True))
