"""What building and rebuilding a store leaves behind when it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from tests.support.walgen import SEGMENT, WalWriter
from walstream.app import full_disk, index_start, prepare, reindex
from walstream.config import RunConfig
from walstream.errors import NoSpace, ReadError, RecordError
from walstream.index.page_index import Batch, PageIndex
from walstream.store.base_backup import BaseBackup
from walstream.store.store import Store, StoreIdentity


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
    backup = BaseBackup(store.path, SEGMENT, SEGMENT, SEGMENT, 1)
    monkeypatch.setattr(reindex, "list_base_backups", lambda _: [backup])
    monkeypatch.setattr(index_start, "base_pages", lambda *_: SimpleNamespace(sizes=dict))
    monkeypatch.setattr(index_start, "base_tablespaces", lambda _: ())
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
        raise ReadError(f"cannot read {path}", str(path))

    monkeypatch.setattr(prepare, "list_base_backups", unreadable)
    with pytest.raises(ReadError) as caught:
        await prepare.prepare_store(RunConfig(conninfo="", store=store.path))
    assert caught.value.path == str(store.base_path)
    Store.open(store.path).close()


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
