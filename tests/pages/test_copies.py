"""Pages of databases that were copied from others, as hostile WAL may claim it of any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.redo import NoRedo
from walstream.errors import NoBaseImage
from walstream.index.ingest import begin_index
from walstream.index.page_index import Batch, DatabaseChange, DatabaseKind, PageIndex
from walstream.pages.plan import MAX_COPIES, Plan
from walstream.pages.service import ClusterFacts, PageService
from walstream.segments.reader import SegmentReader
from walstream.wal.model import BufferTag, RelFileLocator

TAG = BufferTag(1663, 5, 16384, 0, 0)
START = 0x1000000


def copied_from_itself(path: Path, times: int) -> PageService:
    index = PageIndex(path / "index")
    begin_index(index, START, [((RelFileLocator(*TAG[:3]), 0), 1)])
    batch = Batch()
    for number in range(times):
        copy = DatabaseChange(START + 64 + number * 64, DatabaseKind.COPY, 1663, 5)
        batch.databases.append((1663, 5, copy))
    batch.meta["last_record_end"] = str(START + 64 * times).encode()
    index.write(batch)
    facts = ClusterFacts(18, False, False)
    return PageService(index, SegmentReader(path, 1 << 20), [], facts, NoRedo())


async def test_a_database_copied_from_itself_keeps_its_pages(tmp_path: Path) -> None:
    service = copied_from_itself(tmp_path, 3)
    plan = service.planner.plan(TAG)
    depth = 0
    while isinstance(plan.base, Plan):
        plan = plan.base
        depth += 1
    assert depth == 3
    assert await service.get_page(TAG) == bytes(8192)


async def test_copies_of_copies_have_an_end(tmp_path: Path) -> None:
    service = copied_from_itself(tmp_path, MAX_COPIES)
    assert await service.get_page(TAG) == bytes(8192)
    (tmp_path / "more").mkdir()
    service = copied_from_itself(tmp_path / "more", 5000)
    with pytest.raises(NoBaseImage, match="copy of a copy, more than 200 times"):
        await service.get_page(TAG)
