"""One redo child: how it is started, watched, ended and reaped.

Requests go through ``pipeline.py``. Any doubt about whose a reply is (a pipe error, a missing or an
extra byte, a deadline, the end of the child) poisons the process: whatever is in flight fails with
``RedoProcessDied``, nobody ever gets another's page, and the process is never used again.

Who retries, and where, is ``manager.py``'s business; what the bytes mean is ``protocol.py``'s.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from subprocess import PIPE
from time import monotonic
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import FdStream

from walstream.errors import RedoProcessDied
from walstream.redo.child import STATE_PREFIX
from walstream.redo.death import Death
from walstream.redo.pipeline import Pipeline
from walstream.redo.protocol import PING, PING_REPLY
from walstream.redo.stderr import StderrLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from walstream.redo.batch import BatchReply, RequestBatch

logger = logging.getLogger(__name__)

PIPE_SIZE = 1 << 20
_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What one child may take. Times in seconds, sizes in bytes.

    ``execution_timeout_s`` counts from when a request is the next to be answered;
    ``queue_timeout_s`` bounds the wait before it is written at all.
    """

    startup_timeout_s: float = 10.0
    execution_timeout_s: float = 20.0
    queue_timeout_s: float = 60.0
    bytes_in_flight: int = 32 * 1024 * 1024


class RedoProcess:
    """A supervised redo child. ``run`` owns it; ``request`` may be called by any task.

    ``dump`` is called (in a thread) with the input in flight when the child fails; it returns the
    name of the file it wrote, or None.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        limits: ProcessLimits | None = None,
        dump: Callable[[bytes], str | None] | None = None,
    ) -> None:
        self.limits = limits or ProcessLimits()
        self.pid: int | None = None
        self.sandbox = "unknown"
        self.death: Death | None = None
        self._command = list(command)
        self._environment = dict(environment)
        self._dump = dump
        self._pipeline = Pipeline(
            execution_timeout_s=self.limits.execution_timeout_s,
            queue_timeout_s=self.limits.queue_timeout_s,
            bytes_in_flight=self.limits.bytes_in_flight,
            fail=self._poison,
        )
        self._started = False
        self._lines = StderrLines(self.last_used)
        self._settled = trio.Event()
        self._ending = trio.Event()
        self._stderr_ended = trio.Event()

    @property
    def load(self) -> int:
        """Requests queued or in flight."""
        return self._pipeline.load

    @property
    def answered(self) -> int:
        """Pages that came back so far, those of cancelled requests and pings included."""
        return self._pipeline.answered

    @property
    def last_used(self) -> float:
        """When the last page came back (``time.monotonic``), at first when this was made."""
        return self._pipeline.last_used

    @property
    def stderr_bytes(self) -> int:
        """How much the child wrote to stderr so far."""
        return self._lines.total_bytes

    async def request(self, data: bytes) -> bytes:
        """Sends one whole request (``encode_request``, or a ping) and returns its 8192 bytes.

        Raises:
            RedoProcessDied: the process ended before the reply; ``suspect`` tells whether it
                may have been of this request.
            RedoTimeout: the request waited longer than ``queue_timeout_s`` to be written.

        Cancellation: a request that was not written is forgotten; the reply to one that was is
        dropped when it comes. No other request is affected.
        """
        if self.death is not None or self._pipeline.closing:
            raise self._refusal()
        return await self._pipeline.send(data)

    async def request_batch(self, batch: RequestBatch, reply: BatchReply) -> None:
        """Sends many requests at once; their pages are put into ``reply`` as they come.

        Raises:
            RedoProcessDied, RedoTimeout: as ``request``; ``reply`` tells how far it came.

        Cancellation: as ``request``.
        """
        if self.death is not None or self._pipeline.closing:
            raise self._refusal()
        await self._pipeline.send_batch(batch, reply)

    async def ping(self) -> None:
        """Returns when the child has answered everything before, and a ping.

        Raises:
            RedoProcessDied: as ``request``; also where the reply is not a ping's.

        Cancellation: as ``request``.
        """
        if await self.request(PING) != PING_REPLY:
            self._poison("protocol", "the reply to a ping is not 8192 zero bytes")
            raise self._refusal()

    def close(self) -> None:
        """Refuses new requests, lets those that wait finish, then ends the child."""
        self._pipeline.close()

    def distrust(self, reason: str) -> None:
        """Ends the process because of what it answered: nothing more from it can be believed."""
        self._poison("protocol", reason)

    async def run(
        self, *, task_status: trio.TaskStatus[RedoProcess] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Starts the child, reports itself started after the first ping, returns when it ended.

        ``death`` tells why. The child is reaped when this returns, however it returns.

        Raises:
            RedoProcessDied: the child never answered its first ping.

        Cancellation: the child is killed and reaped; all requests fail.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._supervise, nursery)
                await self._settled.wait()
                if self._started:
                    task_status.started(self)
        finally:
            self._poison("killed", "the redo process was cancelled")
            assert self.death is not None
            self._pipeline.fail_all(self.death)
        if not self._started:
            raise RedoProcessDied(self.death.describe(), cause="startup")

    async def _supervise(self, nursery: trio.Nursery) -> None:
        """Everything between the start of the child and its burial; ends ``nursery``'s tasks."""
        await trio.lowlevel.checkpoint()
        try:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    self._command,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=PIPE,
                    check=False,
                    env=self._environment,
                    deliver_cancel=_kill,
                    # Ctrl-C at a terminal is for us to answer: pages are needed while we end.
                    process_group=0,
                )
            )
        except OSError as exc:
            self._poison("startup", f"cannot start {self._command[0]}: {exc.strerror}")
            self._settled.set()
            return
        assert isinstance(process.stdin, FdStream)
        assert isinstance(process.stdout, FdStream)
        assert isinstance(process.stderr, FdStream)
        self.pid = process.pid
        stdin, stdout = process.stdin.fileno(), process.stdout.fileno()
        _widen(stdin)
        _widen(stdout)
        self._pipeline.attach(stdin, stdout)
        nursery.start_soon(self._log_stderr, process.stderr)
        try:
            async with trio.open_nursery() as workers:
                workers.start_soon(self._pipeline.write_loop)
                workers.start_soon(self._pipeline.read_loop)
                workers.start_soon(self._watch_exit, process)
                workers.start_soon(self._pipeline.watch_deadlines)
                workers.start_soon(self._start)
                await self._ending.wait()
                workers.cancel_scope.cancel()
        finally:
            self._poison("killed", "the redo process was cancelled")
            with trio.CancelScope(shield=True):
                await self._bury(process)
            process.stdout.close()
            process.stderr.close()
            self._settled.set()
        nursery.cancel_scope.cancel()

    async def _start(self) -> None:
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(self.limits.startup_timeout_s), suppress(RedoProcessDied):
            await self.ping()
            self._started = True
            self._settled.set()
            return
        self._poison("startup", f"no reply to a ping in {self.limits.startup_timeout_s} s")

    async def _bury(self, process: trio.Process) -> None:
        """Makes sure that the child is gone, then tells everyone who waits what happened.

        Runs shielded; every wait in here is bounded.
        """
        death = self.death
        assert death is not None
        assert isinstance(process.stdin, FdStream)
        process.stdin.close()
        if death.cause in ("exited", "closed"):
            with trio.move_on_after(_GRACE_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
            if death.cause == "exited":
                death.reason += ", but it did not end and was killed"
        else:
            death.returncode = process.returncode
        with trio.move_on_after(_GRACE_S):
            await self._stderr_ended.wait()
        death.stderr = tuple(self._lines.tail)
        death.in_flight = self._pipeline.in_flight
        if self._dump is not None and death.in_flight and not death.wanted:
            death.dump = await trio.to_thread.run_sync(self._dump, death.in_flight)
        if not death.wanted:
            logger.warning("redo process %d: %s", process.pid, death.describe())
        self._pipeline.fail_all(death)

    def _poison(self, cause: str, reason: str) -> None:
        if self.death is None:
            self.death = Death(cause, reason)
            self._pipeline.stop()
            self._ending.set()

    def _refusal(self) -> RedoProcessDied:
        if self.death is None:
            return RedoProcessDied("the redo process is closing", cause="closed")
        return self.death.error()

    async def _watch_exit(self, process: trio.Process) -> None:
        """Notices a child that is gone although something holds its stdout open."""
        await process.wait()
        await trio.sleep(_GRACE_S)
        self._poison("exited", "the child ended")

    async def _log_stderr(self, stream: FdStream) -> None:
        await trio.lowlevel.checkpoint()
        try:
            while data := await stream.receive_some(65536):
                for line in self._lines.feed(data, monotonic()):
                    self._log_line(line)
            for line in self._lines.close():
                self._log_line(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._stderr_ended.set()

    def _log_line(self, line: str) -> None:
        if line.startswith(STATE_PREFIX):
            with suppress(ValueError):
                self._lines.tail.remove(line)
            self.sandbox = line.removeprefix(STATE_PREFIX)
            logger.debug("redo process %s: sandbox %s", self.pid, self.sandbox)
        else:
            logger.warning("redo process %s: %s", self.pid, line)


async def _kill(process: trio.Process) -> None:
    process.kill()
    await trio.lowlevel.checkpoint()


def _widen(fd: int) -> None:
    """Asks for a larger pipe (the default of 64 KB is eight pages); works without, too."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        logger.debug("pipe size stays at the default")
