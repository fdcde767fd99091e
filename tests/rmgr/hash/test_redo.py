"""The rules of hash indexes: hand-made records for what is rare."""

from __future__ import annotations

from struct import pack, pack_into, unpack_from
from types import ModuleType

import pytest

from tests.redo.rules.pages import empty_page, items_of, page_lsn, page_of
from tests.redo.rules.requests import END_LSN, redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord

HASH = 12
NONE = 0xFFFFFFFF


def special(previous: int, following: int, bucket: int, flags: int) -> bytes:
    return pack("<IIIHH", previous, following, bucket, flags, 0xFF80)


def bucket_page(tuples: int, *, flags: int = 0x02, following: int = NONE) -> bytes:
    """A bucket page with that many tuples of 16 bytes, made from their number."""
    return page_of(special(3, following, 1, flags), map(entry, range(tuples)))


def entry(number: int) -> bytes:
    return pack("<HHHHII", 0, number, 1, 16, number, 0)


def meta_page(tuples: float, *, maps: int = 1, point: int = 2) -> bytearray:
    page = empty_page(special(NONE, NONE, NONE, 0x08))
    pack_into("<IId", page, 24, 0x6440640, 4, tuples)
    pack_into("<IIIIII", page, 48, 3, 7, 3, point, 5, maps)
    pack_into("<I", page, 76 + 4 * point, 6)
    pack_into("<H", page, 12, 4568)
    return page


def spares(page: bytes) -> tuple[int, ...]:
    return unpack_from("<98I", page, 76)


def split_phases() -> list[int]:
    """Returns how many buckets there are after each splitpoint phase: doubling in four steps."""
    totals = [1 << phase for phase in range(10)]
    while totals[-1] < 1 << 31:
        step = totals[-1] // 4
        totals += [totals[-1] + step * i for i in range(1, 5)]
    return totals


@pytest.mark.parametrize("tuples", [0, 1, 300, 4000, 100_000, 1e6, 1.7e8, 3.3e9, 9e12, -5])
def test_a_metapage_starts_with_buckets_for_the_tuples(build: ModuleType, tuples: float) -> None:
    main = pack("<dIH", tuples, 425, 307)
    new = redo(build, 15, None, 0, HASH, 0x00, [Block(0, tag(0), will_init=True)], main)
    wanted = min(max(int(tuples / 307), 2), 1 << 30)
    phase = next(i for i, total in enumerate(split_phases()) if total >= wanted)
    buckets = split_phases()[phase]
    mask = (1 << buckets.bit_length()) - 1
    assert unpack_from("<IIdHHHH", new, 24) == (0x6440640, 4, 0.0, 307, 8152, 4096, 15)
    assert unpack_from("<IIIIII", new, 48) == (buckets - 1, mask, mask >> 1, phase, 0, 0)
    assert unpack_from("<I", new, 72) == (425,)
    assert spares(new) == tuple(int(i == phase) for i in range(98))
    assert unpack_from("<IIIHH", new, 8176) == (NONE, NONE, NONE, 0x08, 0xFF80)


@pytest.mark.parametrize(("tuples", "fill_factor"), [(float("nan"), 307), (100.0, 0)])
def test_a_metapage_without_a_number_of_buckets_is_refused(
    build: ModuleType, tuples: float, fill_factor: int
) -> None:
    main = pack("<dIH", tuples, 425, fill_factor)
    with pytest.raises(RedoError, match="tuples"):
        redo(build, 15, None, 0, HASH, 0x00, [Block(0, tag(0), will_init=True)], main)


ADD = [
    Block(0, tag(50), pack("<I", 1), will_init=True),
    Block(1, tag(9)),
    Block(3, tag(51), will_init=True),
    Block(4, tag(0), pack("<I", 40_000)),
]


def test_an_overflow_page_can_need_a_new_bitmap_page(build: ModuleType) -> None:
    """Servers write this once for each 32768 overflow pages."""
    main = pack("<H?", 4096, False)
    new = redo(build, 15, None, 50, HASH, 0x30, ADD, main)
    assert unpack_from("<IIIHH", new, 8176) == (9, NONE, 1, 0x01, 0xFF80)
    new = redo(build, 15, bucket_page(2), 9, HASH, 0x30, ADD, main)
    assert unpack_from("<IIIHH", new, 8176) == (3, 50, 1, 0x02, 0xFF80)
    bitmap = redo(build, 15, None, 51, HASH, 0x30, ADD, main)
    assert bitmap[24 : 24 + 4096] == b"\xff" * 4096
    assert not any(bitmap[24 + 4096 : 8176])
    assert unpack_from("<IIIHH", bitmap, 8176) == (NONE, NONE, NONE, 0x04, 0xFF80)
    assert unpack_from("<H", bitmap, 12)[0] == 24 + 4096
    meta = redo(build, 15, bytes(meta_page(10.0)), 0, HASH, 0x30, ADD, main)
    assert unpack_from("<II", meta, 64) == (40_000, 2)
    assert unpack_from("<II", meta, 468) == (0, 51)
    assert spares(meta)[2] == 8


@pytest.mark.parametrize(("maps", "point", "words"), [(1024, 2, "nmaps"), (1, 98, "ovflpoint")])
def test_a_metapage_that_is_full_or_wrong_is_refused(
    build: ModuleType, maps: int, point: int, words: str
) -> None:
    page = meta_page(1.0)
    pack_into("<I", page, 60, point)
    pack_into("<I", page, 68, maps)
    with pytest.raises(RedoError, match=words):
        redo(build, 15, bytes(page), 0, HASH, 0x30, ADD, pack("<H?", 4096, False))


def squeeze(ntups: int, same_primary: bool, same_previous: bool) -> bytes:
    return pack("<IIHBB", 21, 23, ntups, same_primary, same_previous)


@pytest.mark.parametrize("version", [14, 16, 17, 18])
def test_squeeze_may_list_a_write_page_that_it_does_not_change(
    build: ModuleType, version: int
) -> None:
    """Up to 16 the server stamps it all the same."""
    page = bucket_page(3)
    blocks = [Block(1, tag(9)), Block(2, tag(22)), Block(5, tag(2), pack("<I", 7))]
    new = redo(build, version, page, 9, HASH, 0x80, blocks, squeeze(0, True, False))
    assert new[8:] == page[8:]
    assert page_lsn(new) == (0 if version >= 17 else END_LSN)
    linked = redo(build, version, page, 9, HASH, 0x80, blocks, squeeze(0, True, True))
    assert unpack_from("<II", linked, 8176) == (3, 23)
    assert page_lsn(linked) == END_LSN


def test_squeeze_moves_tuples_and_frees_a_page_in_the_middle(build: ModuleType) -> None:
    blocks = [
        Block(0, tag(8)),
        Block(1, tag(9), pack("<HH", 1, 4) + entry(70) + entry(71)),
        Block(2, tag(22)),
        Block(3, tag(21)),
        Block(4, tag(23)),
        Block(5, tag(2), pack("<I", 35)),
        Block(6, tag(0), pack("<I", 35)),
    ]
    main = squeeze(2, False, False)

    def page_of(block: int, page: bytes) -> bytes:
        return redo(build, 17, page, block, HASH, 0x80, blocks, main)

    page = bucket_page(2, following=22)
    assert page_of(8, page) == page
    assert items_of(page_of(9, page)) == [entry(70), entry(0), entry(1), entry(71)]
    freed = page_of(22, page)
    assert unpack_from("<HHH", freed, 12) == (24, 8176, 8176)
    assert unpack_from("<IIIHH", freed, 8176) == (NONE, NONE, NONE, 0, 0xFF80)
    assert unpack_from("<II", page_of(21, page), 8176) == (3, 23)
    assert unpack_from("<II", page_of(23, page), 8176) == (21, 22)
    bitmap = empty_page(special(NONE, NONE, NONE, 0x04))
    bitmap[24 : 24 + 4096] = b"\xff" * 4096
    new = page_of(2, bytes(bitmap))
    assert [at for at in range(24, 24 + 4096) if new[at] != 0xFF] == [24 + 4]
    assert new[24 + 4] == 0xFF ^ 1 << 3
    assert unpack_from("<I", page_of(0, bytes(meta_page(1.0))), 64) == (35,)


@pytest.mark.parametrize("version", [14, 15, 16, 18])
def test_vacuum_of_one_page_counts_in_its_version(build: ModuleType, version: int) -> None:
    """An int up to 15; since 16 a u16, behind which isCatalogRel is not part of the count."""
    count = pack("<I", 2) if version < 16 else pack("<HBx", 2, 1)
    main = pack("<I", 700) + count + pack("<HH", 1, 3)
    blocks = [Block(0, tag(9)), Block(1, tag(0))]
    new = redo(build, version, bucket_page(4, flags=0x82), 9, HASH, 0xC0, blocks, main)
    assert items_of(new) == [entry(1), entry(3)]
    assert unpack_from("<H", new, 8188)[0] == 0x02
    meta = redo(build, version, bytes(meta_page(100.0)), 0, HASH, 0xC0, blocks, main)
    assert unpack_from("<d", meta, 32)[0] == 98.0


@pytest.mark.parametrize("op", [0x70, 0x80, 0x90])
def test_a_primary_bucket_that_is_only_locked_stays(build: ModuleType, op: int) -> None:
    page = bucket_page(3)
    main = {0x70: pack("<HB", 1, 0), 0x80: squeeze(1, False, True), 0x90: pack("<BB", 1, 0)}[op]
    assert redo(build, 15, page, 8, HASH, op, [Block(0, tag(8)), Block(1, tag(9))], main) == page


def test_what_has_no_rule_is_unsupported(build: ModuleType) -> None:
    with pytest.raises(UnsupportedRecord, match="unknown operation 0xd0"):
        redo(build, 15, bucket_page(1), 9, HASH, 0xD0, [Block(0, tag(9))], b"")
    with pytest.raises(RedoError, match="no page image"):
        redo(build, 15, bucket_page(1), 9, HASH, 0x50, [Block(0, tag(9))], b"")
