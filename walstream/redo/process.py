"""One redo child, its three pipes, and the requests that are on their way through it.

Callers never touch the pipes: ``request`` queues bytes and waits. All waiting requests go out in
one write; the reader takes whatever came and hands out 8 KB pages in order. Only order tells whose
a page is, so any doubt (a pipe error, a missing or an extra byte, a deadline, the end of the
child) poisons the process: whatever is in flight fails with ``RedoProcessDied``, nobody ever gets
another's page, and the process is never used again. A cancelled caller leaves a tombstone: its
reply is dropped, the pipe stays in step, nobody else notices.

Who retries, and where, is ``manager.py``'s business; what the bytes mean is ``protocol.py``'s.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from subprocess import PIPE
from time import monotonic
from typing import TYPE_CHECKING

import outcome
import trio
from trio.lowlevel import FdStream

from walstream.errors import RedoProcessDied, RedoTimeout
from walstream.redo.child import STATE_PREFIX
from walstream.redo.protocol import PING, PING_REPLY
from walstream.redo.stderr import StderrLines
from walstream.wal.model import BLCKSZ

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

CAUSES = ("exited", "timeout", "protocol", "pipe", "startup", "closed", "killed")
"""Why a process ended: the child went away, a deadline passed, it broke the protocol, a pipe
failed, it never answered its first ping, we asked it to end, or its supervisor was cancelled."""

READ_SIZE = 1 << 20
PIPE_SIZE = 1 << 20
WRITE_BATCH = 256 * 1024
_WRITE_NOW = 32 * 1024
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


class _Slot:
    """One request: its bytes, and the task that waits for the page (None: a tombstone)."""

    __slots__ = ("data", "queued_at", "task")

    def __init__(self, data: bytes, task: trio.lowlevel.Task, queued_at: float) -> None:
        self.data = data
        self.task: trio.lowlevel.Task | None = task
        self.queued_at = queued_at

    def abort(self, _: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def finish(self, result: outcome.Outcome[bytes]) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)


@dataclass(slots=True)
class Death:
    """Why and how a process ended. ``in_flight`` is the input that was not answered."""

    cause: str
    reason: str
    in_flight: bytes = field(default=b"", repr=False)
    returncode: int | None = None
    stderr: tuple[str, ...] = ()
    dump: str | None = None

    @property
    def at_head(self) -> bool:
        """Whether only the first request in flight can have been the reason.

        A child that exits by itself has written the replies before the one it failed at. One that
        hangs, or that a signal killed, may hold replies that it did not get to write.
        """
        return self.cause == "exited" and self.returncode is not None and self.returncode >= 0

    def describe(self) -> str:
        text = self.reason
        if self.returncode is not None:
            text += f"; {describe_exit(self.returncode)}"
        if self.stderr:
            text += f"; its last words: {self.stderr[-1]}"
        return text


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
        self.answered = 0
        self.last_used = monotonic()
        self._command = list(command)
        self._environment = dict(environment)
        self._dump = dump
        self._queue: deque[_Slot] = deque()
        self._queued_bytes = 0
        self._sent: deque[_Slot] = deque()
        self._sent_bytes = 0
        self._unwritten: memoryview | None = None
        self._head_since = 0.0
        self._writer: trio.lowlevel.Task | None = None
        self._broken = False
        self._closing = False
        self._started = False
        self._stdin = self._stdout = -1
        self._lines = StderrLines(self.last_used)
        self._settled = trio.Event()
        self._ending = trio.Event()
        self._stderr_ended = trio.Event()

    @property
    def load(self) -> int:
        """Requests queued or in flight."""
        return len(self._queue) + len(self._sent)

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
        if self.death is not None or self._closing:
            raise self._refusal()
        slot = _Slot(data, trio.lowlevel.current_task(), monotonic())
        self._queue.append(slot)
        self._queued_bytes += len(data)
        if self._unwritten is None:
            if not self._sent or self._queued_bytes >= _WRITE_NOW:
                self._flush()
            else:
                self._wake_writer()
        reply: bytes = await trio.lowlevel.wait_task_rescheduled(slot.abort)
        return reply

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
        self._closing = True
        if not self.load:
            self._poison("closed", "the redo process was closed")

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
            self._fail_all()
        if not self._started:
            assert self.death is not None
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
        self._stdin = process.stdin.fileno()
        self._stdout = process.stdout.fileno()
        _widen(self._stdin)
        _widen(self._stdout)
        nursery.start_soon(self._log_stderr, process.stderr)
        try:
            async with trio.open_nursery() as workers:
                workers.start_soon(self._write_loop)
                workers.start_soon(self._read_loop)
                workers.start_soon(self._watch_exit, process)
                workers.start_soon(self._watch_deadlines)
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
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
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
        death.in_flight = b"".join(slot.data for slot in self._sent)
        if self._dump is not None and death.in_flight and death.cause not in ("closed", "killed"):
            death.dump = await trio.to_thread.run_sync(self._dump, death.in_flight)
        if death.cause != "closed":
            logger.warning("redo process %d: %s", process.pid, death.describe())
        self._fail_all()

    def _poison(self, cause: str, reason: str) -> None:
        if self.death is None:
            self.death = Death(cause, reason)
            self._ending.set()

    def _refusal(self) -> RedoProcessDied:
        if self.death is None:
            return RedoProcessDied("the redo process is closing", cause="closed")
        return RedoProcessDied(self.death.describe(), cause=self.death.cause)

    def _fail_all(self) -> None:
        death = self.death
        assert death is not None
        for position, slot in enumerate(self._sent):
            slot.finish(
                outcome.Error(
                    RedoProcessDied(
                        death.describe(),
                        cause=death.cause,
                        suspect=position == 0 or not death.at_head,
                        dump=death.dump,
                    )
                )
            )
        for slot in self._queue:
            slot.finish(outcome.Error(self._refusal()))
        self._sent.clear()
        self._queue.clear()
        self._unwritten = None

    def _wake_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    def _park_writer_aborted(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _write_loop(self) -> None:
        while True:
            self._writer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._park_writer_aborted)
            self._flush()
            while self._unwritten is not None:
                await trio.lowlevel.wait_writable(self._stdin)
                self._flush()

    def _flush(self) -> None:
        """Writes what the pipe and the limit of bytes in flight allow; never waits."""
        while True:
            data = self._unwritten or self._take_queued()
            if data is None:
                return
            try:
                written = os.write(self._stdin, data)
            except BlockingIOError:
                written = 0
            except BrokenPipeError:
                # The reader still takes what the child answered before; it sees the end.
                self._unwritten = None
                self._broken = True
                return
            except OSError as exc:
                self._poison("pipe", f"write: {exc.strerror}")
                return
            if written < len(data):
                self._unwritten = data[written:]
                self._wake_writer()
                return
            self._unwritten = None

    def _take_queued(self) -> memoryview | None:
        """Moves queued requests to the sent ones; returns their bytes, or None."""
        if self.death is not None or self._broken:
            return None
        queue, sent = self._queue, self._sent
        parts: list[bytes] = []
        size = 0
        room = self.limits.bytes_in_flight - self._sent_bytes
        while queue and size < WRITE_BATCH:
            slot = queue[0]
            length = len(slot.data)
            if slot.task is not None:
                if size + length > room and (sent or parts):
                    break
                parts.append(slot.data)
                size += length
            self._queued_bytes -= length
            queue.popleft()
            if slot.task is not None:
                if not sent:
                    self._head_since = monotonic()
                sent.append(slot)
        self._sent_bytes += size
        if not parts:
            return None
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    async def _read_loop(self) -> None:
        buffer = bytearray(READ_SIZE)
        view = memoryview(buffer)
        length = 0
        while True:
            await trio.lowlevel.wait_readable(self._stdout)
            try:
                count = os.readv(self._stdout, [view[length:]])
            except BlockingIOError:
                continue
            except OSError as exc:
                self._poison("pipe", f"read: {exc.strerror}")
                break
            if count == 0:
                break
            length += count
            pages = length // BLCKSZ
            if not self._hand_out(view, length):
                break
            if rest := length % BLCKSZ:
                view[:rest] = view[pages * BLCKSZ : length]
            length = rest
        if length % BLCKSZ:
            self._poison("exited", f"stdout ended {length} bytes into a page")
        else:
            self._poison("exited", "stdout ended")

    def _hand_out(self, view: memoryview, length: int) -> bool:
        """Gives whole pages to those who wait, in order; False where the bytes fit nobody."""
        sent = self._sent
        at = 0
        freed = 0
        while length - at >= BLCKSZ and sent:
            slot = sent.popleft()
            freed += len(slot.data)
            if slot.task is not None:
                slot.finish(outcome.Value(bytes(view[at : at + BLCKSZ])))
            at += BLCKSZ
        self._sent_bytes -= freed
        if not sent and (at < length or self._unwritten is not None):
            what = "half a request" if self._unwritten is not None else "no request"
            self._poison("protocol", f"{length - at or BLCKSZ} bytes on stdout that answer {what}")
            return False
        if at:
            self.answered += at // BLCKSZ
            self.last_used = self._head_since = monotonic()
            if self._queue and self._unwritten is None:
                self._wake_writer()
            elif self._closing and not self.load:
                self._poison("closed", "the redo process was closed")
        return True

    async def _watch_exit(self, process: trio.Process) -> None:
        """Notices a child that is gone although something holds its stdout open."""
        await process.wait()
        await trio.sleep(_GRACE_S)
        self._poison("exited", "the child ended")

    async def _watch_deadlines(self) -> None:
        await trio.lowlevel.checkpoint()
        execution, queue = self.limits.execution_timeout_s, self.limits.queue_timeout_s
        while True:
            now = monotonic()
            wait = min(execution, queue)
            if self._sent:
                left = self._head_since + execution - now
                if left <= 0:
                    self._poison("timeout", f"no reply in {execution} s")
                    return
                wait = min(wait, left)
            for slot in self._queue:
                if slot.task is None:
                    continue
                left = slot.queued_at + queue - now
                if left > 0:
                    wait = min(wait, left)
                    break
                slot.finish(outcome.Error(RedoTimeout(f"not sent to the redo child in {queue} s")))
            await trio.sleep(wait)

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


def describe_exit(returncode: int) -> str:
    """Returns how a child ended, in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    why = {
        "SIGSYS": " (a system call that the sandbox forbids)",
        "SIGXCPU": " (CPU time limit)",
        "SIGKILL": " (killed from outside, or out of memory)",
    }
    return f"killed by {name}{why.get(name, '')}"


async def _kill(process: trio.Process) -> None:
    process.kill()
    await trio.lowlevel.checkpoint()


def _widen(fd: int) -> None:
    """Asks for a larger pipe (the default of 64 KB is eight pages); works without, too."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        logger.debug("pipe size stays at the default")
