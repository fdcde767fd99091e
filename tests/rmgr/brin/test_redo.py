"""The rules of BRIN: the revmap."""

from __future__ import annotations

from struct import pack, unpack_from
from types import ModuleType

import pytest

from tests.redo.rules.pages import empty_page, page_lsn
from tests.redo.rules.requests import END_LSN, redo, tag
from tests.support.walgen import Block
from walstream.errors import RedoError, UnsupportedRecord

BRIN = 17
REVMAP = bytes(empty_page(pack("<HHHH", 0, 0, 0, 0xF092)))


@pytest.mark.parametrize("op", [0x10, 0x90, 0x20, 0xA0])
@pytest.mark.parametrize("heap_block", [0, 128, 1359 * 128, 1360 * 128, 0xFFFFFF80])
def test_a_revmap_entry_names_the_block_of_reference_0(
    build: ModuleType, op: int, heap_block: int
) -> None:
    """The record says where the tuple went; the page of the tuple is not here."""
    blocks = [Block(0, tag(0x12345), b"tuple bytes", will_init=op & 0x80 != 0), Block(1, tag(1))]
    main = pack("<IIH", heap_block, 128, 17)
    if op & 0x70 == 0x20:
        blocks.append(Block(2, tag(77)))
        main = pack("<Hxx", 3) + main
    new = redo(build, 15, REVMAP, 1, BRIN, op, blocks, main)
    at = 24 + heap_block // 128 % 1360 * 6
    assert unpack_from("<HHH", new, at) == (0x1, 0x2345, 17)
    assert new[8:at] == REVMAP[8:at]
    assert new[at + 6 :] == REVMAP[at + 6 :]
    assert page_lsn(new) == END_LSN


def test_desummarize_makes_the_entry_invalid(build: ModuleType) -> None:
    page = bytearray(REVMAP)
    page[24 + 6 : 24 + 12] = pack("<HHH", 0, 2, 17)
    blocks = [Block(0, tag(1)), Block(1, tag(2))]
    new = redo(build, 15, bytes(page), 1, BRIN, 0x50, blocks, pack("<IIH", 4, 4, 17))
    assert unpack_from("<HHH", new, 24 + 6) == (0xFFFF, 0xFFFF, 0)


def test_impossible_records_are_refused(build: ModuleType) -> None:
    with pytest.raises(RedoError, match="no block 0"):
        redo(build, 15, REVMAP, 1, BRIN, 0x10, [Block(1, tag(1))], pack("<IIH", 0, 128, 1))
    with pytest.raises(RedoError, match="pagesPerRange is 0"):
        redo(build, 15, REVMAP, 1, BRIN, 0x50, [Block(0, tag(1))], pack("<IIH", 0, 0, 1))
    with pytest.raises(RedoError, match="does not change block 2"):
        blocks = [Block(0, tag(3)), Block(2, tag(1))]
        redo(build, 15, REVMAP, 1, BRIN, 0x10, blocks, pack("<IIH", 0, 128, 1))
    with pytest.raises(UnsupportedRecord, match="unknown operation 0x70"):
        redo(build, 15, REVMAP, 1, BRIN, 0x70, [Block(0, tag(1))], b"")
    with pytest.raises(RedoError, match="pd_special 8184, got 8192"):
        heap = bytes(empty_page(b""))
        redo(build, 15, heap, 1, BRIN, 0x40, [Block(0, tag(1))], pack("<I", 9))
