from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys

import pytest
import trio

from tests.redo.children.speaker import echo_page
from tests.redo.faults import ENVIRONMENT, request, speaker
from walstream.errors import RedoProcessDied, SandboxError
from walstream.redo import sandbox
from walstream.redo.process import RedoProcess
from walstream.redo.protocol import encode_request

FORBIDDEN = ["fork", "open", "exec", "executable", "limit", "socket", "ptrace", "signal", "memory"]


@pytest.mark.parametrize("act", FORBIDDEN)
async def test_a_forbidden_act_kills_the_child_and_is_reported(act: str) -> None:
    process = speaker("--sandbox")
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        with pytest.raises(RedoProcessDied, match="a system call that the sandbox forbids"):
            await process.request(encode_request(request(1, f"!{act}")))
    assert process.death is not None
    assert process.death.returncode == -signal.SIGSYS


async def test_the_state_of_each_wall_reaches_the_parent() -> None:
    process = speaker("--sandbox")
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        wanted = request(1)
        assert await process.request(encode_request(wanted)) == echo_page(wanted)
        while process.sandbox == "unknown":
            await trio.testing.wait_all_tasks_blocked(0.001)
        process.close()
    user = "nobody" if os.geteuid() == 0 else f"uid:{os.geteuid()}"
    assert re.fullmatch(
        rf"fds=closed no_new_privs=on user=({user}|root\(\w+\))"
        r" landlock=(on\(abi:\d+,refused:open\)|absent\(\w+\))"
        r" rlimits=as:805306368,nofile:3,core:0,nproc:0,cpu:60"
        r" seccomp=on\(refused:open,socket,fork,exec,ptrace,kill\)",
        process.sandbox,
    )
    assert process.death is not None
    assert process.death.stderr == ()


async def test_a_child_that_loops_is_ended_by_the_cpu_limit() -> None:
    process = speaker("--sandbox", "--cpu-seconds", "1")
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        with pytest.raises(RedoProcessDied, match="SIGXCPU"):
            await process.request(encode_request(request(1, "!spin")))


async def test_a_child_that_answers_may_use_more_than_the_cpu_limit() -> None:
    process = speaker("--sandbox", "--cpu-seconds", "1")
    async with trio.open_nursery() as nursery:
        await nursery.start(process.run)
        for block in range(4):
            wanted = request(block, "!burn 0.5")
            assert await process.request(encode_request(wanted)) == echo_page(wanted)
        process.close()


async def test_without_a_sandbox_there_is_no_child() -> None:
    code = (
        "import sys; from walstream.redo import child, sandbox;"
        "sandbox._MACHINES.clear();"
        "sys.exit(child.main(['--wal-redo', '--pg-version', '15']))"
    )
    process = RedoProcess([sys.executable, "-c", code], environment=ENVIRONMENT)
    with pytest.raises(RedoProcessDied, match="SandboxError: no sandbox for linux on"):
        await process.run()


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        ("pass", "wall was not refused"),
        ("os.stat('/nonexistent')", "wall: expected EACCES, got No such file"),
    ],
)
def test_a_wall_that_does_not_hold_is_an_error(attempt: str, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        sandbox._refused("wall", errno.EACCES, lambda: exec(attempt))


def test_file_descriptors_of_the_parent_are_closed() -> None:
    reader, writer = os.pipe()
    code = (
        f"import os; from walstream.redo import sandbox; sandbox.enter()\n"
        f"try: os.write({writer}, b'x')\n"
        f"except OSError as exc: os.write(1, str(exc.errno).encode())\n"
        f"os._exit(0)"
    )
    with os.fdopen(reader), os.fdopen(writer, "w"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=ENVIRONMENT,
            pass_fds=[writer],
            capture_output=True,
            check=True,
        )
    assert result.stdout == str(errno.EBADF).encode()
