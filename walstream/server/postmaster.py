"""A server that runs while a context lasts: started, awaited until it is ready, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from walstream.errors import LocalServerError
from walstream.tasks.supervise import open_bare_nursery

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
# Of postmaster.pid, line 8 (pg_ctl's own test): a standby that takes connections says the second.
_READY = ("ready", "standby")
_STATUS_LINE = 8
_POLL_S = 0.01


@asynccontextmanager
async def running_server(
    postgres: Path,
    data: Path,
    settings: Mapping[str, str],
    log_path: Path,
    *,
    user: str | None = None,
    pid_file: Path | None = None,
) -> AsyncIterator[trio.Process]:
    """Starts a server; at the end of the context it is shut down at once (immediate mode).

    For a clean end call ``stop`` in the context.

    Args:
        postgres: the program.
        data: the data directory.
        settings: given on the command line, where nothing overrides them.
        log_path: what the server says goes there.
        user: whom it runs as; None: ourselves.
        pid_file: where postmaster.pid is read, if not in ``data``.

    Raises:
        LocalServerError: it cannot be started; what it said last is told.

    Cancellation: it is shut down at once.
    """
    options = [f"-c{name}={value}" for name, value in settings.items()]
    try:
        log = log_path.open("ab")
    except OSError as error:
        raise LocalServerError(f"cannot write {log_path}: {error.strerror}") from error
    with log:
        async with open_bare_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [str(postgres), "-D", str(data), *options],
                    user=user,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                    deliver_cancel=stop_at_once,
                    env=_environment(),
                    # Ctrl-C at a terminal is for us to answer.
                    start_new_session=True,
                )
            )
            try:
                await wait_until_ready(process, pid_file or data / "postmaster.pid", log_path)
                yield process
            finally:
                nursery.cancel_scope.cancel()


def _environment() -> dict[str, str]:
    """What a server is given of our environment: nothing that speaks of another one."""
    return {"LANG": "C.UTF-8", "PATH": os.environ.get("PATH", "")}


async def stop(process: trio.Process) -> None:
    """Shuts a server down cleanly (fast mode) and waits for its end.

    Cancellation: the shutdown goes on; whoever owns the process waits for it.
    """
    process.send_signal(signal.SIGINT)
    await process.wait()


async def stop_at_once(process: trio.Process) -> None:
    """Shuts the server down without a checkpoint (immediate mode), or kills it.

    Cancellation: trio shields it.
    """
    process.send_signal(signal.SIGQUIT)
    with trio.move_on_after(STOP_DEADLINE_S):
        await process.wait()
        return
    process.kill()


async def wait_until_ready(process: trio.Process, pid_file: Path, log_path: Path) -> None:
    """Waits until postmaster.pid says that the server takes connections.

    Raises:
        LocalServerError: the server ended, or took longer than ``START_DEADLINE_S``.

    Cancellation: nothing is left behind.
    """
    with trio.move_on_after(START_DEADLINE_S):
        while process.returncode is None:
            await trio.sleep(_POLL_S)
            lines = []
            # Not there yet, or no more: a server that fails to start removes it.
            with suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
            # One that was killed left its own behind.
            ours = lines[:1] == [str(process.pid)]
            if ours and len(lines) >= _STATUS_LINE and lines[_STATUS_LINE - 1].strip() in _READY:
                return
        raise LocalServerError(f"the server did not start: {what_it_said(log_path)}")
    raise LocalServerError(
        f"the server was not ready after {START_DEADLINE_S:.0f} s: {what_it_said(log_path)}"
    )


def end_orphans(data: Path) -> None:
    """Ends the processes of a server that nobody looks after any more. Blocks.

    Args:
        data: its data directory, in which every one of its processes works.
    """
    found = list(_working_in(data))
    for number, patience_s in ((signal.SIGQUIT, STOP_DEADLINE_S), (signal.SIGKILL, 0.0)):
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while found and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            found = [pid for pid in found if Path(f"/proc/{pid}").exists()]


def _working_in(data: Path) -> Iterator[int]:
    for process in Path("/proc").iterdir():
        # Not ours to look at, or gone.
        with suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink() == data:
                yield int(process.name)


def check_end(process: trio.Process, log_path: Path) -> None:
    """Looks how a server ended that was not told to.

    Raises:
        LocalServerError: it was killed, or it failed.
    """
    code = process.returncode
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise LocalServerError(f"the server {how}: {what_it_said(log_path)}")


def what_it_said(log_path: Path) -> str:
    """Returns the last complaint in a server's log, or its last line."""
    lines = log_path.read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if "FATAL:" in line or "PANIC:" in line] or lines
    return f"{told[-1]} ({log_path})" if told else f"nothing in {log_path}"
