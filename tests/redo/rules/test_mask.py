"""What each mask hides, and that it hides nothing else."""

from __future__ import annotations

from struct import pack, pack_into

import pytest

from tests.redo.rules.pages import page_of
from tests.support.pure import load
from walstream.errors import RedoError
from walstream.redo.rules.mask import mask_page
from walstream.rmgr.heap import mask as installed
from walstream.wal import layout
from walstream.wal.layout import (
    RM_BRIN_ID,
    RM_BTREE_ID,
    RM_GENERIC_ID,
    RM_GIN_ID,
    RM_GIST_ID,
    RM_HASH_ID,
    RM_HEAP2_ID,
    RM_HEAP_ID,
    RM_SEQ_ID,
    RM_SPGIST_ID,
    RM_XLOG_ID,
)

BUILDS = [installed, load("walstream.rmgr.heap.mask", {})]
ITEM = b"an item!"


def btree(flags: int, cycle: int = 0) -> bytes:
    return page_of(pack("<IIIHH", 3, 5, 0, flags, cycle), [ITEM])


def of_hash(flags: int) -> bytes:
    return page_of(pack("<IIIHH", 3, 5, 0, flags, 0xFF80), [ITEM])


def gin(flags: int) -> bytes:
    return page_of(pack("<IHH", 5, 0, flags), [ITEM])


def gist(flags: int, nsn: int = 0) -> bytes:
    return page_of(pack("<QIHH", nsn, 5, flags, 0xFF81), [ITEM])


def brin(kind: int, flags: int = 0) -> bytes:
    return page_of(pack("<HHHH", 0, 0, flags, kind), [ITEM])


def changed(page: bytes, at: int, value: bytes) -> bytes:
    copy = bytearray(page)
    copy[at : at + len(value)] = value
    return bytes(copy)


def same(a: bytes, b: bytes, rmgr: int, *, strict: bool = False) -> bool:
    return mask_page(a, rmgr, 7, strict=strict) == mask_page(b, rmgr, 7, strict=strict)


MANAGERS = [
    pytest.param(RM_HEAP_ID, page_of(b"", [ITEM]), id="heap"),
    pytest.param(RM_HEAP2_ID, page_of(b"", [ITEM]), id="heap2"),
    pytest.param(RM_BTREE_ID, btree(0x01), id="btree"),
    pytest.param(RM_HASH_ID, of_hash(0x02), id="hash"),
    pytest.param(RM_GIN_ID, gin(0x02), id="gin"),
    pytest.param(RM_GIST_ID, gist(0x01), id="gist"),
    pytest.param(RM_SEQ_ID, page_of(pack("<II", 0x1717, 0), [ITEM]), id="sequence"),
    pytest.param(RM_SPGIST_ID, page_of(pack("<HHHH", 0, 0, 0, 0xFF82), [ITEM]), id="spgist"),
    pytest.param(RM_BRIN_ID, brin(0xF093), id="brin"),
    pytest.param(RM_GENERIC_ID, page_of(b"", [ITEM]), id="generic"),
    pytest.param(RM_XLOG_ID, page_of(b"", [ITEM]), id="xlog"),
]


@pytest.mark.parametrize(("rmgr", "page"), MANAGERS)
def test_lsn_checksum_and_hole_are_hidden(rmgr: int, page: bytes) -> None:
    assert same(page, changed(page, 0, b"\1\2\3\4\5\6\7\x08\x09\x0a"), rmgr)
    assert same(page, changed(page, 28, bytes(range(1, 200))), rmgr)
    assert not same(page, changed(page, page.index(ITEM), b"AN"), rmgr)
    assert not same(page, changed(page, 12, pack("<H", 32)), rmgr)


@pytest.mark.parametrize(("rmgr", "page"), MANAGERS)
def test_hints_of_the_header(rmgr: int, page: bytes) -> None:
    """All but those of sequences and of Generic, which have none."""
    hides = rmgr not in (RM_SEQ_ID, RM_GENERIC_ID, RM_XLOG_ID)
    assert same(page, changed(page, 10, b"\7"), rmgr) == hides
    assert same(page, changed(page, 20, b"\1\2\3\4"), rmgr) == hides
    assert not same(page, changed(page, 10, b"\x08"), rmgr)


@pytest.mark.parametrize("rmgr", range(layout.RM_MAX_BUILTIN_ID + 1))
def test_a_new_page_stays_as_it_is(rmgr: int) -> None:
    assert mask_page(bytes(8192), rmgr, 0) == bytes(8192)


@pytest.mark.parametrize(("rmgr", "page"), MANAGERS)
def test_a_broken_header_is_an_error(rmgr: int, page: bytes) -> None:
    if rmgr not in (RM_GIN_ID, RM_BRIN_ID, RM_SPGIST_ID):
        with pytest.raises(RedoError):
            mask_page(changed(page, 12, b"\xff\xff"), rmgr, 0)
    if rmgr in (RM_BTREE_ID, RM_HASH_ID, RM_GIN_ID, RM_GIST_ID, RM_BRIN_ID):
        with pytest.raises(RedoError, match="special area: expected"):
            mask_page(changed(page, 16, pack("<H", 8190)), rmgr, 0)


def with_dead_line(page: bytes) -> bytes:
    return changed(page, 24, pack("<I", int.from_bytes(page[24:28], "little") | 3 << 15))


def test_btree() -> None:
    leaf, inner = btree(0x01), btree(0)
    assert same(leaf, btree(0x01 | 0x20 | 0x40, cycle=9), RM_BTREE_ID)
    assert not same(leaf, btree(0x01 | 0x80), RM_BTREE_ID)
    assert same(leaf, with_dead_line(leaf), RM_BTREE_ID)
    assert not same(inner, with_dead_line(inner), RM_BTREE_ID)


def test_hash() -> None:
    bucket, unused, bitmap = of_hash(0x02), of_hash(0), of_hash(0x04)
    assert same(bucket, of_hash(0x02 | 0x80), RM_HASH_ID)
    assert not same(bucket, of_hash(0x02 | 0x40), RM_HASH_ID)
    assert same(bucket, with_dead_line(bucket), RM_HASH_ID)
    assert not same(bitmap, with_dead_line(bitmap), RM_HASH_ID)
    assert same(unused, bytes(changed(unused, unused.index(ITEM), b"AN")), RM_HASH_ID)


def test_gin() -> None:
    deleted = gin(0x04)
    assert same(deleted, changed(deleted, deleted.index(ITEM), b"AN"), RM_GIN_ID)
    assert not same(gin(0x02), gin(0x42), RM_GIN_ID)


def test_gist() -> None:
    leaf, inner = gist(0x01), gist(0)
    assert same(leaf, gist(0x01 | 0x08 | 0x10, nsn=1 << 40), RM_GIST_ID)
    assert not same(leaf, gist(0x01 | 0x04), RM_GIST_ID)
    assert same(leaf, with_dead_line(leaf), RM_GIST_ID)
    assert not same(inner, with_dead_line(inner), RM_GIST_ID)


def test_brin() -> None:
    regular, revmap = brin(0xF093), brin(0xF092)
    assert same(regular, brin(0xF093, flags=1), RM_BRIN_ID)
    assert not same(regular, brin(0xF093, flags=2), RM_BRIN_ID)
    # A revmap's pd_lower tells nothing of its content.
    assert not same(revmap, changed(revmap, 100, b"\1"), RM_BRIN_ID)


def heap_tuple(infomask: int, offset: int = 1, command: int = 0) -> bytes:
    head = pack("<III", 700, 0, command) + pack("<HHH", 0, 7, offset)
    return head + pack("<HHB", 1, infomask, 24) + bytes(5)


@pytest.mark.parametrize("build", BUILDS, ids=["installed", "uncompiled"])
@pytest.mark.parametrize(
    ("infomask", "other", "hidden", "strict_hides"),
    [
        pytest.param(0x0802, 0x0902, True, True, id="hint-bits"),
        pytest.param(0x0802, 0x0822, True, True, id="combo-command-id"),
        pytest.param(0x0002, 0x0082, True, False, id="lock"),
        pytest.param(0x0002, 0x0003, False, False, id="has-nulls"),
        pytest.param(0x0302, 0x0B02, True, True, id="frozen-hints"),
        pytest.param(0x0302, 0x0382, False, False, id="frozen-lock"),
    ],
)
def test_heap_tuples(
    build: object, infomask: int, other: int, hidden: bool, strict_hides: bool
) -> None:
    for strict, expected in ((False, hidden), (True, strict_hides)):
        pages = []
        for bits, command in ((infomask, 0), (other, 5)):
            page = bytearray(page_of(b"", [heap_tuple(bits, command=command)]))
            build.mask(page, 7, strict)  # type: ignore[attr-defined]
            pages.append(bytes(page))
        assert (pages[0] == pages[1]) is expected


@pytest.mark.parametrize("build", BUILDS, ids=["installed", "uncompiled"])
def test_a_speculative_token_becomes_the_tuples_own_place(build: object) -> None:
    page = bytearray(page_of(b"", [heap_tuple(0x0802), heap_tuple(0x0802, offset=0xFFFE)]))
    build.mask(page, 0x10007, False)  # type: ignore[attr-defined]
    at = int.from_bytes(page[28:32], "little") & 0x7FFF
    assert page[at + 12 : at + 18] == pack("<HHH", 1, 7, 2)


def test_padding_behind_tuples_is_hidden() -> None:
    page = page_of(b"", [heap_tuple(0x0802) + b"x"])
    end = 8192 - 3
    assert same(page, changed(page, end, b"\1\2\3"), RM_HEAP_ID)
    assert not same(page, changed(page, end - 1, b"y"), RM_HEAP_ID)


def test_a_map_page_is_compared_only_where_strict() -> None:
    page = bytearray(8192)
    pack_into("<HHHHH", page, 10, 0, 24, 8192, 8192, 0x2004)
    map_page = bytes(page)
    assert same(map_page, changed(map_page, 24, b"\3"), RM_HEAP2_ID)
    assert not same(map_page, changed(map_page, 24, b"\3"), RM_HEAP2_ID, strict=True)
