from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.redo.children.speaker import echo_page
from tests.redo.faults import ENVIRONMENT, limits, request, speaker
from walstream.errors import RedoProcessDied, RedoTimeout
from walstream.redo.process import RedoProcess
from walstream.redo.protocol import RedoRequest, encode_request


@asynccontextmanager
async def running(process: RedoProcess) -> AsyncIterator[RedoProcess]:
    """Runs ``process``; at the end it is closed (where it still lives), reaped, and gone."""
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        yield process
        process.close()
    assert process.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def ask(process: RedoProcess, wanted: RedoRequest) -> None:
    assert await process.request(encode_request(wanted)) == echo_page(wanted)


async def outcomes(process: RedoProcess, *wanted: RedoRequest) -> list[RedoProcessDied | None]:
    """Sends all at once, in order; a page that is not the request's own fails the test."""
    results: list[RedoProcessDied | None] = [None] * len(wanted)

    async def one(i: int) -> None:
        await turns[i].wait()
        turns[i + 1].set()
        try:
            await ask(process, wanted[i])
        except RedoProcessDied as exc:
            results[i] = exc

    turns = [trio.Event() for _ in range(len(wanted) + 1)]
    turns[0].set()
    async with trio.open_nursery() as nursery:
        for i in range(len(wanted)):
            nursery.start_soon(one, i)
    return results


async def test_requests_and_pings_are_answered_in_order() -> None:
    async with running(speaker()) as process:
        await process.ping()
        assert await outcomes(process, *map(request, range(300))) == [None] * 300
        await process.ping()
        assert process.answered == 303
    assert process.death is not None
    assert process.death.cause == "closed"
    assert process.death.returncode == 0


async def test_records_larger_than_all_buffers_pass() -> None:
    async with running(speaker()) as process:
        big = request(1, size=64 << 20, records=1)
        assert await outcomes(process, request(2), big, request(3)) == [None] * 3


@pytest.mark.parametrize(
    ("command", "cause", "words", "at_head"),
    [
        ("!die SIGKILL", "exited", "killed by SIGKILL", False),
        ("!die SIGSEGV", "exited", "killed by SIGSEGV", False),
        ("!exit 0", "exited", "stdout ended; exit status 0", True),
        ("!exit 3", "exited", "stdout ended; exit status 3", True),
        ("!fail now", "exited", "RedoError: told to fail now", True),
        ("!garbage 1", "protocol", "7 bytes on stdout that answer no request", False),
        ("!garbage 9000", "protocol", "bytes on stdout that answer", False),
        ("!half", "exited", "stdout ended 4096 bytes into a page", True),
        ("!hang", "timeout", "no reply in 2.0 s", False),
        ("!spin", "timeout", "no reply in 2.0 s", False),
        ("!die SIGSTOP", "timeout", "no reply in 2.0 s", False),
        ("!eat", "exited", "MemoryError", True),
    ],
)
async def test_a_fault_ends_the_process_and_nobody_gets_a_wrong_page(
    command: str, cause: str, words: str, at_head: bool
) -> None:
    arguments = ["--memory", "200000000"] if command == "!eat" else []
    changes: dict[str, Any] = {"execution_timeout_s": 2.0} if cause == "timeout" else {}
    kept: list[bytes] = []

    def dump(data: bytes) -> str:
        kept.append(data)
        return "dumped"

    bad = request(3, command)
    if command.startswith("!garbage"):
        # Nothing in front or behind, or the garbage would be taken for the next one's page: the
        # protocol gives replies no name. What a process can tell, it tells.
        wanted = [bad]
    else:
        wanted = [request(1), request(2), bad, request(4), request(5)]
    async with running(speaker(*arguments, dump=dump, **changes)) as process:
        if command.startswith("!garbage"):
            with pytest.raises(RedoProcessDied) as caught:
                while True:
                    await process.request(encode_request(bad))
            results: list[RedoProcessDied | None] = [caught.value]
        else:
            results = await outcomes(process, *wanted)
        assert process.death is not None
        assert process.death.cause == cause
        assert words in process.death.describe()
        assert process.death.at_head == at_head
        with pytest.raises(RedoProcessDied, match=words[:4]):
            await process.request(encode_request(request(9)))
    if at_head:
        assert [result is None for result in results] == [True, True, False, False, False]
        assert [result.suspect for result in results if result] == [True, False, False]
    if not command.startswith("!garbage"):
        failed = [encode_request(w) for w, r in zip(wanted, results, strict=True) if r]
        assert b"".join(failed).startswith(kept[0])
        assert len(kept) == 1
        assert not at_head or kept[0].startswith(encode_request(bad))
        assert all(result.dump == "dumped" for result in results if result and result.suspect)


async def test_a_child_that_cannot_be_started_says_so() -> None:
    process = RedoProcess(["/nonexistent/postgres"], environment={})
    with pytest.raises(RedoProcessDied, match="cannot start /nonexistent/postgres: No such file"):
        await process.run()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such library')", "exit status 1; its last words: no such lib"),
        ("import time; time.sleep(1000)", "no reply to a ping in 0.5 s"),
        ("import os; os.close(1); os.read(0, 1); os.read(0, 9999)", "stdout ended"),
        ("import os; os.read(0, 99); os.write(1, b'x' * 8192)", "ping is not 8192 zero bytes"),
    ],
)
async def test_a_child_that_never_answers_its_first_ping(code: str, words: str) -> None:
    startup = 0.5 if "0.5" in words else 60
    process = RedoProcess(
        [sys.executable, "-c", code],
        environment=ENVIRONMENT,
        limits=limits(startup_timeout_s=startup),
    )
    with pytest.raises(RedoProcessDied, match=words) as caught:
        await process.run()
    assert caught.value.cause == "startup"


async def test_a_cancelled_caller_leaves_a_tombstone() -> None:
    async with running(speaker()) as process, trio.open_nursery() as nursery:
        wanted = encode_request(request(1, "!slow 0.3"))
        scope = trio.CancelScope()

        async def impatient() -> None:
            with scope:
                await process.request(wanted)

        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(ask, process, request(2))
        nursery.start_soon(ask, process, request(3))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert process.load == 3
        scope.cancel()
    assert process.load == 0
    assert process.death is not None
    assert process.death.cause == "closed"


async def test_a_cancelled_caller_in_the_queue_is_never_sent() -> None:
    async with running(speaker(bytes_in_flight=1000)) as process, trio.open_nursery() as nursery:
        nursery.start_soon(ask, process, request(1, "!slow 0.3"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.01):
            await ask(process, request(2, "!die SIGKILL", size=2000))
        await ask(process, request(3))


async def test_bytes_in_flight_are_bounded_and_waiting_has_a_deadline() -> None:
    changes = {"bytes_in_flight": 1000, "queue_timeout_s": 0.2}
    async with running(speaker(**changes)) as process:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, process, request(1, "!slow 0.7"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            with pytest.raises(RedoTimeout, match=r"not sent to the redo child in 0\.2 s"):
                await ask(process, request(2, size=2000))
        await ask(process, request(3, size=2000))  # larger than the limit, but alone


@pytest.mark.parametrize("amount", [8 << 20, pytest.param(1 << 30, marks=pytest.mark.soak)])
@pytest.mark.parametrize("command", ["!flood", "!line"])
async def test_a_flood_on_stderr_is_drained_and_cut(command: str, amount: int) -> None:
    async with running(speaker()) as process:
        result = await outcomes(process, request(1), request(2, f"{command} {amount}"), request(3))
        assert result == [None] * 3
    assert process.death is not None
    assert process.stderr_bytes >= amount
    assert len(process.death.stderr) <= 20
    assert max(map(len, process.death.stderr)) < 1100


async def test_cancelling_the_supervisor_kills_the_child_and_fails_the_callers() -> None:
    process = speaker()
    async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
        await nursery.start(process.run)
        callers.start_soon(_expect_death, process, request(1, "!hang"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert process.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def _expect_death(process: RedoProcess, wanted: RedoRequest) -> None:
    with pytest.raises(RedoProcessDied):
        await ask(process, wanted)


PARENT = """
import os, sys, trio
from tests.redo.faults import request, speaker
from walstream.redo.protocol import encode_request

async def main():
    process = speaker()
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        print(process.pid, flush=True)
        await process.request(encode_request(request(1, sys.argv[1])))
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("command", ["", "!slow 0.5"])
async def test_a_child_ends_when_its_parent_is_killed(command: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    reader, writer = os.pipe()
    async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(reader) as stream:
        try:
            parent = await nursery.start(
                partial(
                    trio.run_process,
                    [sys.executable, str(script), command],
                    env=ENVIRONMENT,
                    stdout=writer,
                    check=False,
                )
            )
        finally:
            os.close(writer)
        pid = int(await stream.receive_some(100))
        gone = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
        try:
            with trio.fail_after(60):
                await trio.lowlevel.wait_readable(gone)
        finally:
            os.close(gone)
