"""The queue in front of the files: what is put is written in order, and who else has the thread."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from walstream.errors import WalGapError
from walstream.store import write_queue
from walstream.store.file_layer import FileLayer
from walstream.store.wal_files import WalFiles
from walstream.store.write_queue import WriteQueue
from walstream.wal.model import WalChunk

SIZE = 1 << 20


def chunk(lsn: int, size: int) -> WalChunk:
    return WalChunk(lsn, bytes([lsn % 251]) * size, lsn + size, 0)


@asynccontextmanager
async def writing(directory: Path, *, synchronous: bool = False) -> AsyncIterator[WriteQueue]:
    queue = WriteQueue(synchronous=synchronous, sync=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(queue.run)
        queue.use(WalFiles(FileLayer(), directory, SIZE, 1, SIZE, zero_fill=synchronous))
        yield queue
        queue.close()


async def test_what_is_put_is_on_disk_after_a_flush(tmp_path: Path) -> None:
    async with writing(tmp_path) as queue:
        with trio.fail_after(30):
            for number in range(5):
                await queue.put(chunk(SIZE + 1000 * number, 1000))
            assert queue.received.value == SIZE + 5000
            await queue.flush()
        assert queue.flushed.value == queue.written.value == SIZE + 5000
    stored = (tmp_path / "000000010000000000000001.partial").read_bytes()
    assert stored[:5000] == b"".join(bytes(chunk(SIZE + 1000 * n, 1000).data) for n in range(5))


async def test_put_waits_where_the_queue_is_full_and_takes_nothing_when_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "QUEUE_BYTES", 1000)
    go_on = threading.Event()
    async with writing(tmp_path) as queue, trio.open_nursery() as nursery:
        nursery.start_soon(queue.in_thread, go_on.wait, 30)
        await trio.testing.wait_all_tasks_blocked()
        await queue.put(chunk(SIZE, 10))
        await trio.testing.wait_all_tasks_blocked()  # that one waits for the thread
        await queue.put(chunk(SIZE + 10, 1000))
        with trio.move_on_after(0.05) as scope:
            await queue.put(chunk(SIZE + 1010, 10))
        assert scope.cancelled_caught
        assert queue.received.value == SIZE + 1010
        go_on.set()
        with trio.fail_after(30):
            await queue.put(chunk(SIZE + 1010, 10))
            await queue.flush()
        assert queue.flushed.value == SIZE + 1020


async def test_wrong_wal_ends_run(tmp_path: Path) -> None:
    with pytest.RaisesGroup(WalGapError, flatten_subgroups=True), trio.fail_after(30):
        async with writing(tmp_path) as queue:
            await queue.put(chunk(SIZE + 8, 10))
            await trio.sleep_forever()


async def test_the_thread_is_handed_over_and_goes_on_with_what_was_put(tmp_path: Path) -> None:
    taken_back = threading.Event()
    ended = trio.Event()

    def job(files: WalFiles) -> None:
        files.feed([chunk(SIZE, 100)])
        files.write()
        taken_back.wait(30)

    async with writing(tmp_path, synchronous=True) as queue:
        assert queue.hand_over(job, take_back=taken_back.set, ended=ended.set)
        assert not queue.hand_over(job, take_back=taken_back.set, ended=ended.set)
        while queue.written.value < SIZE + 100:
            await trio.sleep(0.001)
            queue.publish()
        assert not ended.is_set()
        await queue.put(chunk(SIZE + 100, 50))
        taken_back.set()
        with trio.fail_after(30):
            await ended.wait()
            await queue.flush()
        assert queue.flushed.value == SIZE + 150


async def test_a_queue_that_ends_takes_the_thread_back(tmp_path: Path) -> None:
    taken_back = threading.Event()
    ended = trio.Event()
    async with writing(tmp_path, synchronous=True) as queue, trio.open_nursery() as nursery:

        def job(files: WalFiles) -> None:
            files.feed([chunk(SIZE, 100)])
            files.write()
            assert taken_back.wait(30)

        assert queue.hand_over(job, take_back=taken_back.set, ended=ended.set)
        nursery.cancel_scope.cancel()
        queue.close()
        taken_back.set()
    assert ended.is_set()
    assert queue.flushed.value == SIZE + 100


def nothing() -> None:
    """What nobody calls."""


async def test_nothing_is_handed_over_where_no_flush_is_waited_for(tmp_path: Path) -> None:
    async with writing(tmp_path) as queue:
        assert not queue.is_quick
        assert not queue.hand_over(lambda files: None, take_back=nothing, ended=nothing)
