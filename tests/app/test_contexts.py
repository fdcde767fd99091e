"""Every public context manager: bare errors leave it, and every descriptor is given back."""

from __future__ import annotations

import ast
import gc
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from tests.support.walgen import SEGMENT
from walstream.app import index_start, prepare, run
from walstream.app import open as opening
from walstream.app.open import open_cluster, open_pages, open_past
from walstream.app.run import open_application
from walstream.app.signals import obey_signals
from walstream.app.threads import closing_in_thread
from walstream.config import RunConfig
from walstream.errors import ConfigError, PageNotFound, RedoError, StoreError
from walstream.index.ingest import begin_index
from walstream.index.moment import parse_moment
from walstream.index.page_index import PageIndex
from walstream.records.live import stream_wal
from walstream.status.prometheus import serve_metrics
from walstream.store.base_backup import BaseBackup
from walstream.store.store import Store, StoreIdentity
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.timeline import INFINITY, TimelineHistory, TimelinePart

PACKAGE = Path(__file__).parents[2] / "walstream"
Open = Callable[[Path], AbstractAsyncContextManager[object]]


def a_closed_thing(_path: Path) -> AbstractAsyncContextManager[object]:
    return closing_in_thread(SimpleNamespace(close=lambda: None))


def signals(_path: Path) -> AbstractAsyncContextManager[object]:
    async def reload() -> None:
        await trio.lowlevel.checkpoint()

    return obey_signals(lambda: None, reload, str)


CONTEXTS: dict[str, Open] = {
    "closing_in_thread": a_closed_thing,
    "obey_signals": signals,
    "open_application": lambda path: open_application(
        RunConfig("host=127.0.0.1 port=1", path, sandbox=False)
    ),
    "open_bare_nursery": lambda path: open_bare_nursery(),
    "open_cluster": lambda path: open_cluster(path, parse_moment("latest"), sandbox=False),
    "open_pages": lambda path: open_pages(path, sandbox=False),
    "open_past": lambda path: open_past(path, sandbox=False),
    "stream_wal": lambda path: stream_wal("host=127.0.0.1 port=1"),
    "serve_metrics": lambda path: serve_metrics("127.0.0.1:0", []),
}
# Tested where a server is, a mount, or redo children are.
ELSEWHERE = {
    "demo_server",
    "get_pages",
    "isolated",
    "mount_moment",
    "mounted",
    "open_branch",
    "open_moment",
    "open_reader",
    "place_beside",
    "read",
    "running_server",
    "scan",
}


def test_the_list_is_complete() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                names = {name.id for name in node.decorator_list if isinstance(name, ast.Name)}
                if "asynccontextmanager" in names:
                    found.add(node.name)
    assert found == CONTEXTS.keys() | ELSEWHERE


def open_files() -> list[str]:
    gc.collect()
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return sorted(name for name in found if not name.startswith(("anon_inode", "/proc")))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with an index and an empty base backup."""
    store = Store.create(tmp_path / "store", StoreIdentity(1, 18, SEGMENT, 8192, True, True))
    store.close()
    index = PageIndex(store.index_path)
    begin_index(index, SEGMENT, [])
    index.close()
    store.status_path.touch()  # it has streamed before
    backup = BaseBackup(store.base_path / "0", SEGMENT, SEGMENT, SEGMENT, 1)
    backup.path.with_suffix(".toml").touch()
    for module in (opening, prepare):
        monkeypatch.setattr(module, "list_base_backups", lambda _: [backup])
    pages = SimpleNamespace(sizes=dict)
    monkeypatch.setattr(index_start, "base_pages", lambda *_: pages)
    history = TimelineHistory((TimelinePart(1, 0, INFINITY),))
    monkeypatch.setattr(
        "walstream.segments.reader.SegmentReader.current_history", lambda _: history
    )
    state = SimpleNamespace(transactions=None, relation_maps=None)
    monkeypatch.setattr(opening, "cluster_state", lambda *_: state)
    monkeypatch.setattr("walstream.rows.cluster.ClusterAt", lambda *_: None)
    return store.path


@pytest.mark.parametrize("name", CONTEXTS)
async def test_an_error_of_the_body_leaves_bare(name: str, store: Path) -> None:
    async with CONTEXTS[name](store):  # what is loaded once, is
        pass
    before = open_files()
    for error in (PageNotFound("x"), ExceptionGroup("the caller's own", [ValueError("y")])):
        with pytest.raises(type(error)) as caught:
            async with CONTEXTS[name](store):
                raise error
        assert caught.value is error
    assert open_files() == before


@pytest.mark.parametrize("name", CONTEXTS)
async def test_a_cancellation_stays_one(name: str, store: Path) -> None:
    async with CONTEXTS[name](store):
        pass
    before = open_files()
    with trio.CancelScope() as scope:
        async with CONTEXTS[name](store):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        async with CONTEXTS[name](store):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert open_files() == before
    Store.open(store).close()  # nor is it locked


@pytest.mark.parametrize("name", ["open_application", "open_cluster", "open_pages", "open_past"])
async def test_an_error_inside_leaves_bare(
    name: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()
        task_status.started()
        raise RedoError("the manager failed")

    async with CONTEXTS[name](store):
        pass
    before = open_files()
    monkeypatch.setattr("walstream.redo.manager.RedoManager.run", fails)
    with pytest.raises(RedoError, match="the manager failed"):
        async with CONTEXTS[name](store):
            await trio.sleep_forever()
    assert open_files() == before


@pytest.mark.parametrize("name", ["open_application", "open_cluster", "open_pages", "open_past"])
async def test_what_cannot_be_opened_leaves_nothing_open(
    name: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()

    def broken(*_: object) -> None:
        raise StoreError("the last part is broken")

    for module in (opening, run):
        monkeypatch.setattr(module, "page_service", broken)
    with pytest.raises(StoreError, match="the last part is broken"):
        async with CONTEXTS[name](store):
            raise AssertionError
    assert open_files() == before
    Store.open(store).close()


async def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    for address in ("nowhere", "127.0.0.1:99999", "127.0.0.1:x", "no.such.host.invalid:9000"):
        with pytest.raises(ConfigError, match="cannot serve metrics at"):
            async with serve_metrics(address, []):
                raise AssertionError


async def test_the_attributes_of_an_application_are_there_and_stay(store: Path) -> None:
    names = ("receiver", "writer", "flushed", "ingested", "pages", "redo")
    async with open_application(RunConfig("host=127.0.0.1 port=1", store)) as application:
        before = [getattr(application, name) for name in names]
        assert application.writer.flushed is application.flushed
        assert application.ingested.value == SEGMENT
        await trio.sleep(0.05)
        assert all(getattr(application, n) is b for n, b in zip(names, before, strict=True))
        application.stop()
        await application.stopped()
        await application.streaming()  # there will be none, and who waits for it hears so
    assert [getattr(application, name) for name in names] == before


async def test_signals_stop_then_cancel() -> None:
    stopped = trio.Event()
    reloaded = trio.Event()

    async def reload() -> None:
        await trio.lowlevel.checkpoint()
        reloaded.set()
        raise ConfigError("no such file")

    before = signal.getsignal(signal.SIGTERM)
    with trio.CancelScope() as scope:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(obey_signals(stopped.set, reload, str))
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGHUP)
            await reloaded.wait()
            signal.raise_signal(signal.SIGTERM)
            await stopped.wait()
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
    assert not scope.cancelled_caught  # the body alone was
    assert signal.getsignal(signal.SIGTERM) is before


async def test_draining_has_an_end() -> None:
    async def reload() -> None:
        await trio.lowlevel.checkpoint()

    async with obey_signals(lambda: None, reload, str, drain_s=0.01):
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()
