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
from walstream.pages.kinds import BLOOM
from walstream.pages.service import PageService
from walstream.redo.rules.mask import mask_page
from walstream.rmgr.brin.layout import (
    BRIN_PAGETYPE_META,
    BRIN_PAGETYPE_REGULAR,
    BRIN_PAGETYPE_REVMAP,
)
from walstream.rmgr.gist.layout import GIST_PAGE_ID
from walstream.rmgr.hash.layout import HASHO_PAGE_ID
from walstream.rmgr.heap.layout import SEQ_MAGIC
from walstream.rmgr.spgist.layout import SPGIST_PAGE_ID
from walstream.wal.layout import (
    RM_BRIN_ID,
    RM_BTREE_ID,
    RM_GENERIC_ID,
    RM_GIN_ID,
    RM_GIST_ID,
    RM_HASH_ID,
    RM_HEAP_ID,
    RM_SEQ_ID,
    RM_SPGIST_ID,
)
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber
from walstream.wal.relpath import FORK_SUFFIXES, RELSEG_SIZE, RelationFile, parse_relation_file

# The last two bytes of a page say what it is, for the access methods that care (pg_filedump's way).
_PAGE_IDS = {
    HASHO_PAGE_ID: RM_HASH_ID,
    GIST_PAGE_ID: RM_GIST_ID,
    SPGIST_PAGE_ID: RM_SPGIST_ID,
    BLOOM: RM_GENERIC_ID,
    BRIN_PAGETYPE_META: RM_BRIN_ID,
    BRIN_PAGETYPE_REVMAP: RM_BRIN_ID,
    BRIN_PAGETYPE_REGULAR: RM_BRIN_ID,
}
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
        return RM_HEAP_ID
    page_id = int.from_bytes(page[-2:], "little")
    if page_id in _PAGE_IDS:
        return _PAGE_IDS[page_id]
    if size == 8:
        magic = int.from_bytes(page[special : special + 4], "little")
        return RM_SEQ_ID if magic == SEQ_MAGIC and page_id == 0 else RM_GIN_ID
    return RM_BTREE_ID


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
    if rmgr_id == RM_SPGIST_ID and tag.block == 0:
        result[_SPGIST_CACHE] = bytes(_SPGIST_CACHE.stop - _SPGIST_CACHE.start)
    elif rmgr_id == RM_SEQ_ID:
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
