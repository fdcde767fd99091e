"""Compares rebuilt pages with the files of a cluster that was shut down cleanly.

Both sides are masked as ``wal_consistency_checking`` masks them: LSN, checksum, hint bits, hole.
The free space map is left out: PostgreSQL does not log it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.errors import PageNotFound
from walstream.pages.items import PAGE_HEADER, page_header, page_items
from walstream.pages.service import PageService
from walstream.redo.rules.mask import mask_page
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber
from walstream.wal.relpath import FORK_SUFFIXES, RELSEG_SIZE, RelationFile, parse_relation_file

RM_HEAP, RM_BTREE, RM_HASH, RM_GIN, RM_GIST = 10, 11, 12, 13, 14
RM_SEQUENCE, RM_SPGIST, RM_BRIN, RM_GENERIC = 15, 16, 17, 20

# The last two bytes of a page say what it is, for the access methods that care (pg_filedump's way).
_PAGE_IDS = {0xFF80: RM_HASH, 0xFF81: RM_GIST, 0xFF82: RM_SPGIST, 0xFF83: RM_GENERIC}
_BRIN_PAGE_TYPES = (0xF091, 0xF092, 0xF093)
_SEQUENCE_MAGIC = 0x1717
# SpGistMetaPageData.lastUsedPages, after the magic number.
_SPGIST_CACHE = slice(28, 28 + 64)


class Difference(NamedTuple):
    """A page that is not what the file has. ``at`` is the first differing byte, masked."""

    path: str
    tag: BufferTag
    reason: str


class Comparison(NamedTuple):
    """How many pages were compared, and those that differ."""

    pages: int
    differences: list[Difference]


def page_rmgr(page: bytes) -> int:
    """Returns the resource manager whose mask applies to a page, by its special area."""
    special = page_header(page).special
    size = BLCKSZ - special
    if size <= 0 or special < 24:
        return RM_HEAP
    page_id = int.from_bytes(page[-2:], "little")
    if page_id in _PAGE_IDS:
        return _PAGE_IDS[page_id]
    if page_id in _BRIN_PAGE_TYPES:
        return RM_BRIN
    if size == 8:
        magic = int.from_bytes(page[special : special + 4], "little")
        return RM_SEQUENCE if magic == _SEQUENCE_MAGIC and page_id == 0 else RM_GIN
    return RM_BTREE


def masked(page: bytes, like: bytes, tag: BufferTag) -> bytes:
    """Returns a page without what may differ; ``like`` says which mask applies.

    Two things that PostgreSQL changes without WAL are hidden beside its own masks: the cache of
    last used pages in an SP-GiST metapage, and where between two logged values a sequence is.
    """
    if tag.fork == ForkNumber.VM:
        # The map's bits are cleared without a stamp: its header says nothing.
        return bytes(PAGE_HEADER) + page[PAGE_HEADER:]
    rmgr_id = page_rmgr(like)
    result = bytearray(mask_page(page, rmgr_id, tag.block))
    if rmgr_id == RM_SPGIST and tag.block == 0:
        result[_SPGIST_CACHE] = bytes(_SPGIST_CACHE.stop - _SPGIST_CACHE.start)
    elif rmgr_id == RM_SEQUENCE:
        for item in page_items(like):
            result[item.offset : item.offset + item.length] = bytes(item.length)
    return bytes(result)


def is_unlogged(path: Path, file: RelationFile) -> bool:
    """Returns whether a file belongs to an unlogged relation: only its init fork is in WAL."""
    init = f"{file.locator.rel_number}{FORK_SUFFIXES[ForkNumber.INIT]}"
    return file.fork != ForkNumber.INIT and path.with_name(init).exists()


def _read_logged(path: Path, file: RelationFile) -> bytes:
    """Returns a relation file, nothing of an unlogged one."""
    return b"" if is_unlogged(path, file) else path.read_bytes()


async def compare_with_directory(
    service: PageService, directory: Path, paths: Iterable[str], at_lsn: int | None = None
) -> Comparison:
    """Compares every page of the relation files ``paths`` (below ``directory``) as of an LSN.

    Raises:
        PageError, RedoError, WalError: a page cannot be rebuilt for another reason than that it
            does not exist.

    Cancellation: nothing is left behind.
    """
    compared = 0
    differences: list[Difference] = []
    for path in paths:
        file = parse_relation_file(path)
        if file is None or file.fork == ForkNumber.FSM:
            continue
        data = await trio.to_thread.run_sync(_read_logged, directory / path, file)
        for number in range(len(data) // BLCKSZ):
            stored = data[number * BLCKSZ : (number + 1) * BLCKSZ]
            tag = BufferTag(*file.locator, file.fork, file.segment * RELSEG_SIZE + number)
            reason = await _compare_page(service, file, tag, stored, at_lsn)
            compared += 1
            if reason is not None:
                differences.append(Difference(path, tag, reason))
    return Comparison(compared, differences)


async def _compare_page(
    service: PageService, file: RelationFile, tag: BufferTag, stored: bytes, at_lsn: int | None
) -> str | None:
    try:
        rebuilt = await service.get_page(tag, at_lsn)
    except PageNotFound as error:
        # A relation may be extended by pages that nothing was written to: no record tells.
        return None if not any(stored) else str(error)
    ours, theirs = masked(rebuilt, stored, tag), masked(stored, stored, tag)
    if ours == theirs:
        return None
    at = next(i for i in range(BLCKSZ) if ours[i] != theirs[i])
    return f"first difference at byte {at}: file {theirs[at]:02x}, rebuilt {ours[at]:02x}"
