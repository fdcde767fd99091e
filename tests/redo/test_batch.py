"""Many requests to one child: each is answered as if it were alone, whatever the others do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from struct import pack, unpack_from
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.redo.children.speaker import echo_page
from tests.redo.faults import config, limits, request
from tests.support.pure import pure
from walstream.errors import RedoError, RedoQuarantined, RedoTimeout
from walstream.redo import batch as compiled
from walstream.redo.batch import BatchReply, RequestBatch
from walstream.redo.dumps import dump_settings
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.redo.protocol import RedoRequest, decode_requests, encode_request
from walstream.redo.result import check_page


def batch_of(requests: Sequence[RedoRequest]) -> RequestBatch:
    data = bytearray()
    offsets = [0]
    for one in requests:
        data += encode_request(one)
        offsets.append(len(data))
    lsns = b"".join(pack("<Q", one.records[-1][0]) for one in requests)
    return RequestBatch(data, offsets, lsns, sum(len(one.records) for one in requests))


@asynccontextmanager
async def running(settings: RedoConfig) -> AsyncIterator[RedoManager]:
    manager = RedoManager(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        yield manager
        manager.shutdown()


async def ask(manager: RedoManager, requests: Sequence[RedoRequest]) -> BatchReply:
    """Asks for a batch; checks all pages that came."""
    reply = await manager.redo_batch(batch_of(requests), version=15, stamp_hints=False)
    for number, one in enumerate(requests):
        if number not in reply.errors:
            assert reply.page(number) == echo_page(one), number
    return reply


async def ask_well(manager: RedoManager, requests: Sequence[RedoRequest]) -> None:
    assert (await ask(manager, requests)).errors == {}


async def test_batches_and_single_requests_share_a_child() -> None:
    async def ask_one(one: RedoRequest) -> None:
        assert await manager.redo(one, version=15, stamp_hints=False) == echo_page(one)

    async with running(config(warm_spare=False)) as manager:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                batch = [request(100 * number + i, size=24 + 8000 * (i % 3)) for i in range(40)]
                nursery.start_soon(ask_well, manager, batch)
                nursery.start_soon(ask_one, request(number))
        (worker,) = manager.status()
        assert worker.answered == 20 * 41 + 1
        assert worker.load == 0
        assert sum(manager.metrics.seconds.counts) == 20 * 41


@pytest.mark.parametrize("place", [0, 5, 19])
@pytest.mark.parametrize("fault", ["!die SIGKILL", "!die SIGSEGV", "!fail x", "!half", "!hang"])
async def test_only_the_culprit_fails(fault: str, place: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"dump_directory": tmp_path / "dumps"}
    if fault == "!hang":
        changes["limits"] = limits(execution_timeout_s=0.5)
    requests = [request(block, fault if block == place else "") for block in range(20)]
    async with running(config(**changes)) as manager:
        reply = await ask(manager, requests)
        assert list(reply.errors) == [place]
        error = reply.errors[place]
        assert isinstance(error, RedoQuarantined)
        assert f"block {place} of 1663/5/16384" in str(error)
        assert error.dump is not None
        path = Path(error.dump)
        assert list(decode_requests(await trio.Path(path).read_bytes())) == [requests[place]]
        assert dump_settings(path) == (15, False)
        # It is refused when it comes again, its neighbours are not.
        started = manager.metrics.started
        again = await ask(manager, requests)
        assert list(again.errors) == [place]
        assert isinstance(again.errors[place], RedoQuarantined)
        assert manager.metrics.started <= started + 1


async def test_a_page_of_another_request_is_never_handed_out() -> None:
    requests = [request(block, "!garbage 1" if block == 3 else "") for block in range(10)]
    async with running(config()) as manager:
        reply = await ask(manager, requests)
        assert set(reply.errors) <= {3}
        assert all(isinstance(error, RedoError) for error in reply.errors.values())


async def test_a_page_with_a_wrong_lsn_is_tried_again() -> None:
    requests = [request(block, "!wrong" if block == 3 else "") for block in range(10)]
    async with running(config()) as manager:
        reply = await ask(manager, requests)
        assert set(reply.errors) <= {3}


async def test_a_batch_that_is_given_up_costs_the_others_nothing() -> None:
    async with running(config(warm_spare=False)) as manager:
        slow = [request(block, "!slow 0.05") for block in range(10)]
        async with trio.open_nursery() as nursery, trio.open_nursery() as impatient:
            impatient.start_soon(ask_well, manager, slow)
            while not manager.status() or not manager.status()[0].load:
                await trio.testing.wait_all_tasks_blocked(0.001)
            nursery.start_soon(ask_well, manager, [request(block) for block in range(50)])
            await trio.testing.wait_all_tasks_blocked(0.001)
            impatient.cancel_scope.cancel()
        await ask_well(manager, [request(99)])
        assert manager.metrics.started == 1


async def test_a_batch_that_is_never_sent_fails_as_a_whole() -> None:
    settings = config(warm_spare=False, limits=limits(queue_timeout_s=0.3, bytes_in_flight=1 << 16))
    async with running(settings) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(ask_well, manager, [request(1, "!slow 1.5", size=1 << 17)])
        while not manager.status() or not manager.status()[0].load:
            await trio.testing.wait_all_tasks_blocked(0.001)
        with pytest.raises(RedoTimeout, match="not sent to the redo child"):
            await ask(manager, [request(block, size=1 << 17) for block in range(5)])


def test_a_batch_is_taken_apart_again() -> None:
    requests = [request(block, records=1 + block % 3) for block in range(9)]
    batch = batch_of(requests)
    assert batch.requests == 9
    assert [batch.request(number) for number in range(9)] == requests
    assert batch.records == sum(len(one.records) for one in requests)


PURE = pure("walstream.redo.batch")


@given(st.integers(0, 2**64), st.integers(1, 8))
def test_compiled_doubts_what_plain_does(seed: int, count: int) -> None:
    chosen = Random(seed)
    pages, lsns = bytearray(), b""
    for number in range(count):
        lsn = chosen.getrandbits(64)
        page = bytearray(echo_page(request(number)))
        page[:8] = pack("<II", lsn >> 32, lsn & 0xFFFFFFFF)
        if chosen.random() < 0.5:
            page[chosen.randrange(24)] ^= 1 << chosen.randrange(8)
        pages += page
        lsns += pack("<Q", lsn)
    found = compiled.doubtful_pages(pages, count, lsns)
    assert found == PURE.doubtful_pages(pages, count, lsns)
    for number in set(range(count)) - set(found):
        (lsn,) = unpack_from("<Q", lsns, 8 * number)
        one = request(number)._replace(records=((lsn, bytes(24)),))
        check_page(bytes(pages[8192 * number : 8192 * (number + 1)]), one)


def test_wrong_lengths_are_refused() -> None:
    for build in (compiled, PURE):
        with pytest.raises(ValueError, match="expected 2"):
            build.doubtful_pages(bytearray(8192), 2, bytes(16))
        with pytest.raises(ValueError, match="expected 2"):
            build.doubtful_pages(bytearray(2 * 8192), 2, bytes(8))
