"""Pages that start from a base backup: when it may be used, and for which copies of a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from walstream.errors import LsnNotAvailable
from walstream.index.ingest import begin_index
from walstream.index.page_index import Batch, DatabaseChange, DatabaseKind, PageIndex
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.protocol import RedoRequest
from walstream.store.archive import WalArchive
from walstream.store.base_pages import BasePages
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.relpath import relation_file

TAG = BufferTag(1663, 5, 16384, 0, 0)
START, STOP = 0x1000000, 0x1001000
PAGE = b"\x11" * 8192


class NoRedo:
    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        raise AssertionError("a page that no record changed needs no redo")


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
    archive = WalArchive(tmp_path, 1 << 20)
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
