"""Pages that are remembered: for which LSNs, how many, and until when; one flight a page."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from walstream.pages.cache import OVERHEAD, Flights, PageCache
from walstream.wal.model import BufferTag

TAG = BufferTag(1663, 5, 16384, 0, 0)
OTHER = TAG._replace(block=1)
ROOM = 8192 + OVERHEAD


def page(number: int) -> bytes:
    return bytes((number,)) * 8192


def test_a_page_is_right_from_its_first_to_its_last_lsn() -> None:
    cache = PageCache(100 * ROOM)
    cache.put(TAG, 100, 199, page(1), 0)
    cache.put(TAG, 300, 300, page(3), 0)
    found = [cache.get(TAG, lsn, 0) for lsn in (99, 100, 199, 200, 299, 300, 301)]
    assert found == [None, page(1), page(1), None, None, page(3), None]
    assert cache.get(OTHER, 150, 0) is None


def test_a_page_is_right_for_longer_when_more_is_known() -> None:
    cache = PageCache(100 * ROOM)
    cache.put(TAG, 100, 150, page(1), 0)
    assert cache.extend(TAG, 100, 180, 0) == page(1)
    assert cache.get(TAG, 180, 0) == page(1)
    assert cache.extend(TAG, 100, 120, 0) == page(1)
    assert cache.get(TAG, 180, 0) == page(1)
    assert cache.extend(TAG, 101, 180, 0) is None


def test_only_so_many_bytes_are_kept_and_those_used_last() -> None:
    cache = PageCache(3 * ROOM)
    for number in range(3):
        cache.put(TAG, 100 * number, 100 * number + 99, page(number), 0)
    assert cache.get(TAG, 5, 0) == page(0)
    cache.put(OTHER, 0, 10, page(9), 0)
    assert len(cache) == 3
    assert cache.get(TAG, 150, 0) is None
    assert cache.get(TAG, 50, 0) == page(0)
    assert cache.get(TAG, 250, 0) == page(2)
    assert cache.get(OTHER, 5, 0) == page(9)


def test_nothing_is_kept_without_room() -> None:
    cache = PageCache(0)
    cache.put(TAG, 0, 10, page(1), 0)
    assert len(cache) == 0


def test_what_was_known_before_the_index_was_taken_back_is_forgotten() -> None:
    cache = PageCache(100 * ROOM)
    cache.put(TAG, 100, 199, page(1), 0)
    assert cache.get(TAG, 150, 1) is None
    cache.put(TAG, 100, 199, page(1), 0)  # gathered before
    assert cache.get(TAG, 150, 1) is None
    cache.put(TAG, 100, 199, page(2), 1)
    assert cache.get(TAG, 150, 1) == page(2)
    assert cache.extend(TAG, 100, 300, 2) is None


def test_it_agrees_with_a_plain_list() -> None:
    # Ranges of one block never overlap, whatever was dropped in between.
    chosen = random.Random(1)
    cache = PageCache(20 * ROOM)
    versions = {tag: sorted(chosen.sample(range(1000), 30)) for tag in (TAG, OTHER)}
    for _ in range(5000):
        tag, lsn = chosen.choice((TAG, OTHER)), chosen.randrange(1000)
        starts = [start for start in versions[tag] if start <= lsn]
        if not starts:
            assert cache.get(tag, lsn, 0) is None
            continue
        first, right = starts[-1], page(len(starts))
        found = cache.get(tag, lsn, 0)
        assert found in (None, right)
        if found is None and cache.extend(tag, first, lsn, 0) is None:
            cache.put(tag, first, lsn, right, 0)
        assert cache.get(tag, lsn, 0) == right
        assert len(cache) <= 20


KEY = (TAG, 100, 0)


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.go_on = trio.Event()

    async def run(self) -> bytes:
        self.begun += 1
        await self.go_on.wait()
        return page(self.begun)


async def test_the_same_is_done_once() -> None:
    flights, work = Flights(), Work()
    found = []

    async def share() -> None:
        found.append(await flights.share(KEY, work.run))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(share)
        await trio.testing.wait_all_tasks_blocked()
        work.go_on.set()
    assert found == [page(1)] * 10
    assert await flights.share(KEY, work.run) == page(2)


async def test_another_lsn_or_generation_is_other_work() -> None:
    flights, work = Flights(), Work()
    async with trio.open_nursery() as nursery:
        for key in (KEY, (TAG, 101, 0), (TAG, 100, 1), (OTHER, 100, 0)):
            nursery.start_soon(flights.share, key, work.run)
        await trio.testing.wait_all_tasks_blocked()
        work.go_on.set()
    assert work.begun == 4


async def test_who_waits_for_one_that_is_cancelled_goes_on() -> None:
    flights, work = Flights(), Work()
    found = []

    async def share() -> None:
        found.append(await flights.share(KEY, work.run))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(share)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(share)
            nursery.start_soon(share)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert work.begun == 2
        work.go_on.set()
    assert found == [page(2)] * 2


async def test_errors_are_not_shared() -> None:
    flights = Flights()
    go_on = trio.Event()
    begun = 0

    async def fail() -> bytes:
        nonlocal begun
        begun += 1
        await go_on.wait()
        raise KeyError(begun)

    async def share() -> None:
        with pytest.raises(KeyError):
            await flights.share(KEY, fail)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(share)
        await trio.testing.wait_all_tasks_blocked()
        assert begun == 1
        go_on.set()
    assert begun == 3
