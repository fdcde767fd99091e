"""What building and rebuilding a store leaves behind when it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.walgen import SEGMENT, WalWriter
from walstream import app
from walstream.config import RunConfig
from walstream.errors import RecordError, StorageError
from walstream.index.page_index import Batch, PageIndex
from walstream.store.directory import Store, StoreIdentity


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
    monkeypatch.setattr(app, "list_base_backups", lambda _: [backup])
    monkeypatch.setattr(app, "base_pages", lambda *_: SimpleNamespace(sizes=dict))
    with pytest.raises(RecordError, match="checksum"):
        app.reindex(store.path, lambda done, total: None)
    assert not (store.path / "index.new").exists()
    old = PageIndex(store.index_path)
    assert old.meta("old") == b"yes"
    old.close()


async def test_a_store_that_cannot_be_prepared_is_not_locked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise StorageError(f"cannot read {path}", str(path))

    monkeypatch.setattr(app, "list_base_backups", unreadable)
    with pytest.raises(StorageError) as caught:
        await app.prepare_store(RunConfig(conninfo="", store=store.path))
    assert caught.value.path == str(store.base_path)
    Store.open(store.path).close()
