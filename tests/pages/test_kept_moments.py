"""Pages where gc took WAL away between moments that stay: none of the moments that are gone."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.index.stored import posting_list
from tests.pages.test_bases import PAGE, START, STOP, TAG, NamesRecords, base, indexed_to
from walstream.errors import LsnNotAvailable
from walstream.index.ingest import begin_index
from walstream.index.page_index import Batch, Entry, EntryFlag, PageIndex
from walstream.pages import gather
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.protocol import RedoRequest
from walstream.segments.reader import SegmentReader
from walstream.store.removed import Moments

OTHER = b"\x22" * 8192
KEPT_TO = STOP + 0x800
SECOND = STOP + 0x10000
END = SECOND + 0x5000
MOMENTS = (Moments(STOP, KEPT_TO, START), Moments(SECOND + 0x1000, None, SECOND))
GONE = (KEPT_TO + 1, SECOND, MOMENTS[1].from_lsn - 1)


def parted(tmp_path: Path, moments: tuple[Moments, ...] = MOMENTS) -> PageService:
    """A base that is kept, one that the window begins with; no record between changed the page."""
    first = base(tmp_path / "first", PAGE, START, STOP)
    second = base(tmp_path / "second", OTHER, SECOND, MOMENTS[1].from_lsn)
    index = PageIndex(tmp_path / "index")
    begin_index(index, START, first.pages.sizes().items())
    service = PageService(
        index,
        SegmentReader(tmp_path, 1 << 20),
        [first, second],
        ClusterFacts(18, False, False),
        NamesRecords(),
        moments=moments,
    )
    indexed_to(service, END)
    return service


async def many(service: PageService, lsn: int) -> bytes:
    async with service.get_pages(TAG.locator, 0, [0], lsn) as batches:
        async for (block,) in batches:
            return block.rebuilt()
    raise AssertionError


async def one(service: PageService, lsn: int) -> bytes:
    return await service.get_page(TAG, lsn)


@pytest.mark.parametrize("read", [one, many])
async def test_only_moments_that_stay_are_answered(
    tmp_path: Path, read: Callable[[PageService, int], Awaitable[bytes]]
) -> None:
    service = parted(tmp_path)
    for _ in range(2):  # the second time from what is remembered
        assert await read(service, STOP) == PAGE
        assert await read(service, KEPT_TO) == PAGE
        assert await read(service, MOMENTS[1].from_lsn) == OTHER
        assert await read(service, END) == OTHER
        for lsn in GONE:
            with pytest.raises(LsnNotAvailable, match="walstream gc removed"):
                await read(service, lsn)


class Read:
    """Requests whose records could all be read."""

    def add(self, *request: object) -> None:
        pass

    def read(self, archive: SegmentReader) -> None:
        pass

    def is_complete(self, number: int) -> bool:
        return True

    def request(self, number: int) -> RedoRequest:
        return RedoRequest(TAG, None, ((1, b""),))

    def memory(self) -> int:
        return 0

    def clear(self) -> None:
        pass


async def test_a_page_made_by_a_record_is_not_right_before_the_moments_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "Requests", Read)
    service = parted(tmp_path)
    batch = Batch()
    image = SECOND + 0x100  # while the second backup was taken
    batch.pairs.append(posting_list(TAG, [Entry(image, image - 8, EntryFlag.INIT)]))
    indexed_to(service, END, batch)
    await service.get_page(TAG, END)
    assert service._cache.get(TAG, MOMENTS[1].from_lsn, service.planner.generation) is not None
    with pytest.raises(LsnNotAvailable, match="walstream gc removed"):
        await service.get_page(TAG, image)


async def test_what_was_remembered_of_moments_that_go(tmp_path: Path) -> None:
    service = parted(tmp_path, (Moments(STOP, None, START),))
    assert await service.get_page(TAG, KEPT_TO + 1) == PAGE
    service.replace_bases(service.bases)
    assert await service.get_page(TAG, KEPT_TO + 1) == PAGE
    service.replace_bases(service.bases, MOMENTS)
    assert service.moments == MOMENTS
    with pytest.raises(LsnNotAvailable, match="walstream gc removed"):
        await service.get_page(TAG, KEPT_TO + 1)


class Waits:
    """Pages of a base that are read once ``go`` is set."""

    def __init__(self, of: Base) -> None:
        self.of = of
        self.reads, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        method = getattr(self.of.pages, name)

        def call(*arguments: object) -> object:
            self.reads.set()
            assert self.go.wait(60)
            return method(*arguments)

        return call


@pytest.mark.parametrize("read", [one, many])
async def test_a_base_is_left_when_no_page_is_read_from_it(
    tmp_path: Path, read: Callable[[PageService, int], Awaitable[bytes]]
) -> None:
    service = parted(tmp_path)
    first, second = service.bases
    slow = Waits(first)
    service.replace_bases([first._replace(pages=slow), second])  # type: ignore[arg-type]
    left = trio.Event()

    async def leave() -> None:
        await service.leave_bases([second], MOMENTS[1:])
        left.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, service, STOP)
        assert await trio.to_thread.run_sync(slow.reads.wait, 60)
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not left.is_set()
        # What is asked for from now on does not keep it.
        with pytest.raises(LsnNotAvailable):
            service.planner.check_lsn(STOP)
        slow.go.set()
        await left.wait()
    with pytest.raises(LsnNotAvailable, match="before the store begins"):
        await read(service, STOP)
