"""Pages that start from a base backup: when it may be used, and for which copies of a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.stored import posting_list
from tests.support.redo import NoRedo
from walstream.errors import LsnNotAvailable, PageDamaged, PageNotFound
from walstream.index.ingest import begin_index
from walstream.index.page_index import (
    Batch,
    DatabaseChange,
    DatabaseKind,
    Entry,
    EntryFlag,
    PageIndex,
    SizeChange,
    SizeKind,
)
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.protocol import RedoRequest
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.relpath import relation_file

TAG = BufferTag(1663, 5, 16384, 0, 0)
START, STOP = 0x1000000, 0x1001000
PAGE = b"\x11" * 8192


def base(path: Path, page: bytes, start_lsn: int, stop_lsn: int) -> Base:
    """A backup that has the one page of ``TAG``."""
    file = path / relation_file(RelFileLocator(*TAG[:3]), 0, 0, "")
    file.parent.mkdir(parents=True)
    (path / "global").mkdir()
    file.write_bytes(page)
    return Base(start_lsn, stop_lsn, BasePages(path))


def service_of(tmp_path: Path, *bases: Base) -> PageService:
    index = PageIndex(tmp_path / "index")
    begin_index(index, START, bases[0].pages.sizes().items())
    archive = SegmentReader(tmp_path, 1 << 20)
    return PageService(index, archive, bases, ClusterFacts(18, False, False), NoRedo())


def indexed_to(service: PageService, lsn: int, batch: Batch | None = None) -> None:
    batch = batch or Batch()
    batch.meta = {"last_record_end": str(lsn).encode()}
    service.index.write(batch)


async def test_no_page_before_the_end_of_the_backup_is_indexed(tmp_path: Path) -> None:
    """Its files are of any moment up to then; none of them may pass for the newest version."""
    service = service_of(tmp_path, base(tmp_path / "base", PAGE, START, STOP))
    indexed_to(service, STOP - 8)
    with pytest.raises(LsnNotAvailable, match=r"ends at 0/1000FF8, .* needs WAL up to 0/1001000"):
        await service.get_page(TAG)
    indexed_to(service, STOP)
    assert await service.get_page(TAG) == PAGE


async def test_a_database_copied_while_the_backup_ran(tmp_path: Path) -> None:
    """Its pages are the source's of the backup, never those of a later one."""
    first = base(tmp_path / "base", PAGE, START, STOP)
    later = base(tmp_path / "later", b"\x22" * 8192, STOP + 0x1000, STOP + 0x2000)
    service = service_of(tmp_path, first, later)
    batch = Batch()
    copy = DatabaseChange(START + 0x100, DatabaseKind.COPY, TAG.spc_oid, TAG.db_oid)
    batch.databases = [(TAG.spc_oid, 6, copy)]
    indexed_to(service, STOP + 0x3000, batch)
    copied = TAG._replace(db_oid=6)
    assert await service.get_page(copied, STOP) == PAGE
    assert await service.get_page(copied) == PAGE
    assert await service.get_page(TAG) == b"\x22" * 8192


class NamesRecords(NoRedo):
    """Redo that answers with the ends of the records that it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, list[int]]] = []

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        self.seen.append((request.base_page is not None, [end for end, _ in request.records]))
        return request.base_page or bytes(8192)


async def test_records_before_the_start_of_a_backup_are_not_replayed_on_its_pages(
    tmp_path: Path,
) -> None:
    """Visibility map bits that were set again would be lost: clears do not ask for the LSN."""
    first = base(tmp_path / "base", PAGE, START, STOP)
    second = base(tmp_path / "second", b"\x22" * 8192, STOP + 0x1000, STOP + 0x2000)
    service = service_of(tmp_path, first, second)
    redo = NamesRecords()
    service._redo = redo
    ends = [STOP + 0x100, second.start_lsn, second.start_lsn + 0x100, STOP + 0x3000]
    batch = Batch()
    batch.pairs.append(
        posting_list(TAG, [Entry(end, end - 0x80, EntryFlag.IMPLICIT) for end in ends])
    )
    indexed_to(service, STOP + 0x4000, batch)
    service.archive.read_record = lambda lsn: b""  # type: ignore[method-assign, assignment]
    await service.get_page(TAG)
    # Before the end of the second backup only the first may be used.
    await service.get_page(TAG, second.stop_lsn - 8)
    assert redo.seen == [(True, ends[2:]), (True, ends[:3])]


@pytest.mark.parametrize("again", [DatabaseKind.CREATE, DatabaseKind.DROP])
@pytest.mark.parametrize("whole_tablespace", [False, True])
async def test_a_directory_that_is_made_again_is_empty(
    tmp_path: Path, again: DatabaseKind, whole_tablespace: bool
) -> None:
    """An OID that is used again shows nothing of the database that had it before."""
    service = service_of(tmp_path, base(tmp_path / "base", PAGE, START, STOP))
    visibility = TAG._replace(fork=2)
    batch = Batch()
    batch.sizes.append((TAG.locator, 2, SizeChange(STOP + 8, SizeKind.EXTEND, 1)))
    batch.pairs.append(posting_list(visibility, [Entry(STOP + 8, STOP, EntryFlag.INIT)]))
    change = DatabaseChange(STOP + 0x100, again, 0, 0)
    batch.databases = [(TAG.spc_oid, 0 if whole_tablespace else TAG.db_oid, change)]
    indexed_to(service, STOP + 0x100, batch)
    for tag in (TAG, visibility):
        assert service.planner.plan(tag, STOP + 0xF8)
        with pytest.raises(PageNotFound, match="does not exist at 0/1001100"):
            service.planner.plan(tag)
    batch = Batch()
    for fork in (0, 2):
        batch.sizes.append((TAG.locator, fork, SizeChange(STOP + 0x200, SizeKind.EXTEND, 1)))
    indexed_to(service, STOP + 0x300, batch)
    for tag in (TAG, visibility):
        assert await service.get_page(tag) == bytes(8192)


async def test_a_damaged_page_is_passed_over_where_it_is_not_needed(tmp_path: Path) -> None:
    """A page torn while the backup ran has an image in WAL; an older base may do as well."""
    first = base(tmp_path / "base", PAGE, START, STOP)
    second = base(tmp_path / "second", PAGE, STOP + 0x1000, STOP + 0x2000)
    service = service_of(tmp_path, first, second)
    second.pages._checksums = True
    indexed_to(service, STOP + 0x4000)
    assert await service.get_page(TAG) == PAGE
    first.pages._checksums = True
    with pytest.raises(PageDamaged, match=r"block 0 of relation 1663/5/16384 .*/second/"):
        await service.get_page(TAG)
    redo = NamesRecords()
    service._redo = redo
    service.archive.read_record = lambda lsn: b""  # type: ignore[method-assign, assignment]
    batch = Batch()
    image = second.start_lsn + 0x100
    batch.pairs.append(posting_list(TAG, [Entry(image, image - 8, EntryFlag.INIT)]))
    indexed_to(service, STOP + 0x5000, batch)
    await service.get_page(TAG)
    assert redo.seen == [(False, [image])]
