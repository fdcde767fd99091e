"""An LSN that has not been reached is waited for, as long as was asked and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.redo import NoRedo
from walstream.errors import LsnNotAvailable
from walstream.index.ingest import begin_index
from walstream.index.page_index import PageIndex
from walstream.pages.service import ClusterFacts, PageService
from walstream.segments.reader import SegmentReader
from walstream.tasks.watermark import Watermark
from walstream.wal.model import BufferTag, RelFileLocator

TAG = BufferTag(1663, 5, 16384, 0, 0)
START = 0x1000000


@pytest.fixture
def last_valid() -> Watermark:
    return Watermark(START)


@pytest.fixture
def service(tmp_path: Path, last_valid: Watermark) -> PageService:
    index = PageIndex(tmp_path / "index")
    begin_index(index, START, [((RelFileLocator(*TAG[:3]), 0), 1)])
    facts = ClusterFacts(18, False, False)
    archive = SegmentReader(tmp_path, 1 << 20)
    return PageService(index, archive, [], facts, NoRedo(), last_valid)


async def test_an_lsn_is_waited_for(service: PageService, last_valid: Watermark) -> None:
    pages = []

    async def ask() -> None:
        # In the middle of a record: the bytes before it are enough.
        pages.append(await service.get_page(TAG, START + 100, wait_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert pages == []
        last_valid.advance(START + 160)
    assert pages == [bytes(8192)]
    assert service.last_valid_lsn == START + 160
    assert service.last_record_lsn == START


async def test_waiting_ends(service: PageService, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(LsnNotAvailable, match="LSN 0/1000064 has not been reached"):
        await service.get_page(TAG, START + 100, wait_s=5)
    assert trio.current_time() == pytest.approx(5)


async def test_without_ingest_nothing_is_waited_for(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "other")
    begin_index(index, START, [])
    facts = ClusterFacts(18, False, False)
    service = PageService(index, SegmentReader(tmp_path, 1 << 20), [], facts, NoRedo())
    with pytest.raises(LsnNotAvailable, match="has not been reached"):
        await service.get_page(TAG, START + 100, wait_s=60)
