from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest

from tests.redo.children.speaker import echo_page
from tests.redo.faults import ENVIRONMENT, config, limits, request
from walstream.errors import RedoError, RedoQuarantined, UnsupportedRecord
from walstream.redo import dumps
from walstream.redo.dumps import dump_settings, write_dump
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.redo.protocol import RedoRequest, decode_requests
from walstream.status.prometheus import RedoCollector

DATA = Path(__file__).parent.parent / "data"


@asynccontextmanager
async def running(settings: RedoConfig) -> AsyncIterator[RedoManager]:
    manager = RedoManager(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        yield manager
        manager.shutdown()
    assert manager.status() == []
    metrics = manager.metrics
    assert metrics.stopped.total() <= metrics.started


async def ask(manager: RedoManager, wanted: RedoRequest) -> None:
    page = await manager.redo(wanted, version=15, stamp_hints=False)
    assert page == echo_page(wanted)


async def until_children(manager: RedoManager, count: int) -> None:
    """Waits until that many children are alive."""
    await trio.lowlevel.checkpoint()
    while len(manager.status()) != count:
        await trio.testing.wait_all_tasks_blocked(0.001)


async def test_children_are_launched_for_the_first_request_with_a_spare() -> None:
    async with running(config()) as manager:
        assert manager.status() == []
        async with trio.open_nursery() as nursery:
            for block in range(200):
                nursery.start_soon(ask, manager, request(block))
        await until_children(manager, 2)
        worker, spare = manager.status()
        assert (worker.role, spare.role) == ("worker", "spare")
        assert worker.answered == 201
        assert manager.metrics.started == 2


async def test_kinds_have_children_of_their_own() -> None:
    async with running(config(warm_spare=False)) as manager:
        wanted = request(1)
        for version, stamp_hints in ((15, False), (15, True), (18, False)):
            page = await manager.redo(wanted, version=version, stamp_hints=stamp_hints)
            assert page == echo_page(wanted)
        assert len({line.kind for line in manager.status()}) == 3
        with pytest.raises(UnsupportedRecord, match="no redo for PostgreSQL 13"):
            await manager.redo(wanted, version=13, stamp_hints=False)


async def test_a_busy_pool_grows_to_its_size() -> None:
    async with running(config(pool_size=2, warm_spare=False)) as manager:
        async with trio.open_nursery() as nursery:
            for block in range(200):
                nursery.start_soon(ask, manager, request(block, "!slow 0.001"))
            await until_children(manager, 2)
        assert manager.metrics.started == 2


@pytest.mark.parametrize("fault", ["!die SIGKILL", "!die SIGSEGV", "!fail x", "!half", "!hang"])
async def test_only_the_culprit_fails(fault: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"dump_directory": tmp_path / "dumps"}
    if fault == "!hang":
        changes["limits"] = limits(execution_timeout_s=0.5)
    culprit = request(7, fault)
    async with running(config(**changes)) as manager:
        async with trio.open_nursery() as nursery:
            for block in range(7):
                nursery.start_soon(ask, manager, request(block))
            nursery.start_soon(_expect_quarantine, manager, culprit, "two redo children died of")
            for block in range(8, 60):
                nursery.start_soon(ask, manager, request(block))
        started = manager.metrics.started
        await _expect_quarantine(manager, culprit, "two redo children died of")
        assert manager.metrics.failed == {"RedoQuarantined": 2}
        await ask(manager, request(7))  # the same block, another request
        assert manager.metrics.started <= started + 1  # nobody died of the last two
    dumps = [list(decode_requests(file.read_bytes())) for file in (tmp_path / "dumps").iterdir()]
    assert [culprit] in dumps
    assert all(culprit in dump for dump in dumps)


async def _expect_quarantine(manager: RedoManager, culprit: RedoRequest, words: str) -> None:
    with pytest.raises(RedoQuarantined, match=words) as caught:
        await ask(manager, culprit)
    assert caught.value.dump is not None
    path = Path(caught.value.dump)
    assert list(decode_requests(await trio.Path(path).read_bytes())) == [culprit]
    assert dump_settings(path) == (15, False)


async def test_a_page_of_another_request_is_never_handed_out() -> None:
    async with running(config()) as manager, trio.open_nursery() as nursery:

        async def shifted() -> None:
            with pytest.raises(RedoError):
                await ask(manager, request(3, "!garbage 1"))

        for block in range(3):
            nursery.start_soon(ask, manager, request(block))
        nursery.start_soon(shifted)
        for block in range(4, 20):
            nursery.start_soon(ask, manager, request(block))


async def test_a_child_that_gave_a_wrong_page_ends_though_it_was_alone() -> None:
    async with running(config()) as manager:
        with pytest.raises(RedoError, match="wrong result for block 7"):
            await ask(manager, request(7, "!wrong"))
        await ask(manager, request(8))
    assert manager.metrics.stopped["protocol"] == 2


async def test_children_that_die_of_nothing_cost_nobody_an_answer(tmp_path: Path) -> None:
    """A request that kills the first child it meets, but not the second, is answered."""
    marker = tmp_path / "once"
    async with running(config()) as manager, trio.open_nursery() as nursery:
        for block in range(40):
            command = f"!once {marker}" if block == 20 else ""
            nursery.start_soon(ask, manager, request(block, command))
    assert marker.exists()


@pytest.mark.parametrize("seed", range(3))
async def test_random_faults_and_128_callers(seed: int) -> None:
    """Every caller gets its own page or its own error."""
    chance = random.Random(seed)
    faults = ["!die SIGKILL", "!exit 0", "!fail y", "!half", "!slow 0.01", "!flood 100000"]
    outcomes = {"page": 0, "error": 0, "cancelled": 0}

    async def caller(number: int) -> None:
        await trio.lowlevel.checkpoint()
        for i in range(6):
            bad = chance.random() < 0.01
            wanted = request(number * 100 + i, chance.choice(faults) if bad else "")
            patience = 0.005 if chance.random() < 0.2 else 120
            with trio.move_on_after(patience) as scope:
                await trio.lowlevel.checkpoint()
                try:
                    await ask(manager, wanted)
                    outcomes["page"] += 1
                except RedoQuarantined:
                    assert bad
                    outcomes["error"] += 1
            if scope.cancelled_caught:
                outcomes["cancelled"] += 1

    async with running(config(pool_size=2)) as manager, trio.open_nursery() as nursery:
        for number in range(128):
            nursery.start_soon(caller, number)
    assert sum(outcomes.values()) == 128 * 6
    assert outcomes["page"] > 400


async def test_idle_children_end_and_come_back() -> None:
    async with running(config(idle_s=0.2)) as manager:
        await ask(manager, request(1))
        await until_children(manager, 2)
        await until_children(manager, 0)
        await ask(manager, request(2))


async def test_shutdown_refuses_then_waits() -> None:
    manager = RedoManager(config())
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        nursery.start_soon(ask, manager, request(1, "!slow 0.3"))
        await until_children(manager, 1)
        manager.shutdown()
        with pytest.raises(RedoError, match="the redo manager is shut down"):
            await ask(manager, request(2))
    assert manager.status() == []
    assert manager.metrics.failed == {}


async def test_cancelling_the_manager_fails_the_callers() -> None:
    manager = RedoManager(config())

    async def caller() -> None:
        with pytest.raises(RedoError, match="cancelled"):
            await ask(manager, request(1, "!hang"))

    async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        callers.start_soon(caller)
        await until_children(manager, 2)
        nursery.cancel_scope.cancel()
    assert manager.status() == []


async def test_a_command_that_does_not_exist_is_said_at_once() -> None:
    async with running(RedoConfig(command=("/nonexistent",))) as manager:
        with pytest.raises(RedoError, match="cannot start /nonexistent: No such file"):
            await ask(manager, request(1))


async def test_children_that_do_not_start_break_the_circuit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("walstream.redo.pool.BACKOFF_S", (0.01, 60.0))
    command = (sys.executable, "-S", "-c", "raise SystemExit('broken installation')")
    async with running(RedoConfig(command=command, environment=ENVIRONMENT)) as manager:
        with pytest.raises(RedoError, match=r"broken installation .5 failures, next attempt in"):
            await ask(manager, request(1))
        with pytest.raises(RedoError, match=r"5 failures"):
            await ask(manager, request(2))
        assert manager.metrics.started == 5


async def test_our_own_child_answers_errors_without_dying(tmp_path: Path) -> None:
    (good,) = decode_requests((DATA / "neon_short_pg15.request").read_bytes())
    assert good is not None
    end_lsn, record = good.records[1]
    unknown = (end_lsn, record[:17] + b"\xc8" + record[18:])
    bad = good._replace(records=(good.records[0], unknown))
    page = (DATA / "neon_short_pg15.page").read_bytes()
    settings = RedoConfig(limits=limits(), warm_spare=False, dump_directory=tmp_path)
    async with running(settings) as manager:
        for _ in range(2):
            assert await manager.redo(good, version=15, stamp_hints=False) == page
            with pytest.raises(UnsupportedRecord, match="block 0 of 1663/13010/1259"):
                await manager.redo(bad, version=15, stamp_hints=False)
        assert manager.metrics.started == 1
        (line,) = manager.status()
        assert "seccomp=on" in line.sandbox
    (dump,) = tmp_path.iterdir()
    assert list(decode_requests(dump.read_bytes())) == [bad]


async def test_metrics_are_those_of_prometheus() -> None:
    registry = CollectorRegistry()
    async with running(config(warm_spare=False)) as manager:
        registry.register(RedoCollector(manager))
        for block in range(3):
            await ask(manager, request(block))
        text = generate_latest(registry).decode()
    for line in (
        "walstream_redo_seconds_count 3.0",
        'walstream_redo_records_bucket{le="2.0"} 3.0',
        "walstream_redo_records_sum 6.0",
        "walstream_redo_bytes_count 3.0",
        "walstream_redo_launch_seconds_count 1.0",
        "walstream_redo_processes_started_total 1.0",
        "walstream_redo_queue_depth 0.0",
        "walstream_redo_processes 1.0",
    ):
        assert line in text.splitlines()
    assert manager.metrics.stopped == {"closed": 1}


def test_the_newest_dumps_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("walstream.redo.dumps.KEEP", 3)
    (tmp_path / "unrelated").write_bytes(b"")
    paths = [write_dump(tmp_path, b"x", version=18, stamp_hints=True) for _ in range(5)]
    assert set(tmp_path.iterdir()) == {*paths[2:], tmp_path / "unrelated"}
    assert dump_settings(paths[4]) == (18, True)
    assert dump_settings(tmp_path / "unrelated") is None


def test_a_dump_that_another_removed_first_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children of several kinds, and other processes, dump into the same directory."""
    listed = Path.iterdir
    gone = tmp_path / "redo-pg18-20200101T000000.000000-1.request"
    monkeypatch.setattr(Path, "iterdir", lambda path: [*listed(path), gone])
    monkeypatch.setattr(dumps, "KEEP", 2)
    written = [write_dump(tmp_path, b"x", version=18, stamp_hints=False) for _ in range(4)]
    assert sorted(listed(tmp_path)) == sorted(written[2:])
