"""What building and rebuilding a store leaves behind when it fails."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from trio_util import AsyncValue

from tests.support.walgen import SEGMENT, WalWriter
from walstream import progress
from walstream.app import full_disk, prepare, reindex, run
from walstream.app import open as opening
from walstream.config import RunConfig
from walstream.errors import NoSpace, RecordError, StorageError, StoreError
from walstream.index.page_index import Batch, PageIndex
from walstream.receive.receiver import Receiver
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup import BaseBackup
from walstream.store.store import Store, StoreIdentity
from walstream.store.writer import Writer
from walstream.terminal import StatusLine


@pytest.fixture
def store(tmp_path: Path) -> Store:
    identity = StoreIdentity(1, 18, SEGMENT, 8192, True, True)
    store = Store.create(tmp_path / "store", identity)
    store.close()
    return store


def test_a_reindex_that_fails_keeps_the_old_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = PageIndex(store.index_path)
    batch = Batch()
    batch.meta = {"old": b"yes"}
    old.write(batch)
    old.close()
    wal = WalWriter(system_identifier=1)
    wal.add_of_length(100)
    wrong = wal.add_of_length(100)
    wal.data[wrong.start_lsn - SEGMENT + 60] ^= 1
    (store.wal_path / "000000010000000000000001").write_bytes(wal.close())
    backup = SimpleNamespace(start_lsn=SEGMENT, path=store.path)
    monkeypatch.setattr(reindex, "list_base_backups", lambda _: [backup])
    monkeypatch.setattr(reindex, "base_pages", lambda *_: SimpleNamespace(sizes=dict))
    with pytest.raises(RecordError, match="checksum"):
        reindex.reindex(store.path, lambda done, total: None)
    assert not (store.path / "index.new").exists()
    old = PageIndex(store.index_path)
    assert old.meta("old") == b"yes"
    old.close()


async def test_a_store_that_cannot_be_prepared_is_not_locked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise StorageError(f"cannot read {path}", str(path))

    monkeypatch.setattr(prepare, "list_base_backups", unreadable)
    with pytest.raises(StorageError) as caught:
        await prepare.prepare_store(RunConfig(conninfo="", store=store.path))
    assert caught.value.path == str(store.base_path)
    Store.open(store.path).close()


async def test_open_pages_gives_back_what_it_opened_and_raises_bare_errors(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageIndex(store.index_path).close()
    (store.wal_path / "000000010000000000000001").write_bytes(bytes(SEGMENT))
    monkeypatch.setattr(opening, "list_base_backups", lambda _: [])
    with pytest.raises(StoreError, match="no base backup"):
        async with opening.open_pages(store.path):
            raise AssertionError
    backup = BaseBackup(store.path, SEGMENT, SEGMENT, SEGMENT, 1)
    monkeypatch.setattr(opening, "list_base_backups", lambda _: [backup])
    opened: list[SegmentReader] = []

    class Watched(SegmentReader):
        def __init__(self, path: Path, segment_size: int) -> None:
            super().__init__(path, segment_size)
            opened.append(self)

    monkeypatch.setattr(opening, "SegmentReader", Watched)
    with pytest.raises(ZeroDivisionError):
        async with opening.open_pages(store.path, sandbox=False):
            opened[0].read(SEGMENT, 8)
            held = [path for path in open_files() if path.startswith(str(store.path))]
            assert held
            raise ZeroDivisionError
    assert not [path for path in open_files() if path.startswith(str(store.path))]
    with trio.move_on_after(0):  # a cancellation stays one
        async with opening.open_pages(store.path, sandbox=False):
            await trio.sleep_forever()


def open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def test_the_watermarks_are_the_same_before_and_during_a_run(tmp_path: Path) -> None:
    application = run.Application(RunConfig(conninfo="", store=tmp_path))
    writer = Writer(tmp_path, flushed=application.flushed)
    assert writer.flushed is application.flushed


class FullDisk:
    """What is written finds no space so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def write(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise NoSpace("write index: No space left on device", "index")
        return "written"


async def test_a_full_disk_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(full_disk, "RETRY_S", 0.01)
    assert await full_disk.with_space(FullDisk(3).write) == "written"
    (message,) = caplog.messages
    assert message.startswith("write index: No space left on device")
    assert message.endswith("waiting for space")
    with pytest.raises(ZeroDivisionError):  # any other failure is one
        await full_disk.with_space(lambda: str(1 // 0))


async def test_who_waits_for_space_can_be_cancelled() -> None:
    begun = trio.Event()

    def full() -> None:
        trio.from_thread.run_sync(begun.set)
        raise NoSpace("write index: No space left on device", "index")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(full_disk.with_space, full)
        await begun.wait()
        nursery.cancel_scope.cancel()


class HangingFile:
    """A status file's disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _path: Path, _content: bytes) -> None:
        self.begun.set()
        self.go_on.wait()


async def test_a_disk_that_hangs_under_the_status_file_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    hanging = HangingFile()
    monkeypatch.setattr(progress, "replace_file", hanging)
    writer = Writer(tmp_path)
    shown = progress.Progress(Receiver(AsyncValue(""), writer), writer)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run, tmp_path / "s", StatusLine(False))
            await trio.to_thread.run_sync(hanging.begun.wait)
            await trio.sleep(100)  # the loop turns
            nursery.cancel_scope.cancel()
    finally:
        hanging.go_on.set()
