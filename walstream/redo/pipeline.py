"""The requests on their way through one redo child's stdin and stdout.

All waiting requests go out in one write; the reader takes whatever came and hands out 8 KB pages
in order. Only order tells whose a page is, so whatever breaks the order is told to ``fail``, and
from then on no request is written. A cancelled caller leaves a tombstone: its reply
is dropped, the pipe stays in step, nobody else notices.

What a failure means for the child is ``process.py``'s business.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import outcome
import trio

from walstream.errors import RedoProcessDied, RedoTimeout
from walstream.wal.model import BLCKSZ

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from walstream.redo.batch import BatchReply, RequestBatch
    from walstream.redo.death import Death

READ_SIZE = 1 << 20
WRITE_BATCH = 256 * 1024
_WRITE_NOW = 32 * 1024


class _Slot:
    """One request: its bytes, and the task that waits for the page (None: a tombstone)."""

    __slots__ = ("data", "left", "offsets", "queued_at", "reply", "task")

    def __init__(
        self,
        data: bytes | bytearray,
        task: trio.lowlevel.Task,
        queued_at: float,
        offsets: Sequence[int] = (),
        reply: BatchReply | None = None,
    ) -> None:
        self.data = data
        self.task: trio.lowlevel.Task | None = task
        self.queued_at = queued_at
        # Of a batch: where its requests begin, and what takes the pages. ``left`` are to come.
        self.offsets = offsets
        self.reply = reply
        self.left = 1 if reply is None else reply.count

    def take(self, view: memoryview) -> bool:
        """Takes whole pages of a batch; returns whether these were the last."""
        reply = self.reply
        assert reply is not None
        at = (reply.count - self.left) * BLCKSZ
        reply.pages[at : at + len(view)] = view
        self.left -= len(view) // BLCKSZ
        reply.came = reply.count - self.left
        return not self.left

    def unanswered(self) -> bytes | memoryview | bytearray:
        """Returns the requests whose pages did not come."""
        if self.reply is None:
            return self.data
        return memoryview(self.data)[self.offsets[self.reply.came] :]

    def abort(self, _: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def finish(self, result: outcome.Outcome[Any]) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)


class Pipeline:
    """Requests that wait, that were sent, and the two loops that move them.

    Args:
        execution_timeout_s, queue_timeout_s, bytes_in_flight: see ``ProcessLimits``.
        fail: called with a cause (of ``death.CAUSES``) and a reason; it must call ``stop``.

    ``answered`` counts pages, ``last_used`` is when the last one came (``time.monotonic``).
    """

    def __init__(
        self,
        *,
        execution_timeout_s: float,
        queue_timeout_s: float,
        bytes_in_flight: int,
        fail: Callable[[str, str], None],
    ) -> None:
        self.answered = 0
        self.last_used = monotonic()
        self.closing = False
        self._execution_timeout_s = execution_timeout_s
        self._queue_timeout_s = queue_timeout_s
        self._bytes_in_flight = bytes_in_flight
        self._fail = fail
        self._queue: deque[_Slot] = deque()
        self._queued_bytes = 0
        self._sent: deque[_Slot] = deque()
        self._sent_bytes = 0
        self._load = 0
        self._unwritten: memoryview | None = None
        self._head_since = 0.0
        self._writer: trio.lowlevel.Task | None = None
        self._stopped = False
        self._stdin = self._stdout = -1

    @property
    def load(self) -> int:
        """Requests queued or in flight."""
        return self._load

    @property
    def in_flight(self) -> bytes:
        """The input that was sent, at least in part, and not answered."""
        return b"".join(slot.unanswered() for slot in self._sent)

    def attach(self, stdin: int, stdout: int) -> None:
        """Gives the child's pipes, non-blocking; they stay the caller's to close."""
        self._stdin, self._stdout = stdin, stdout

    async def send(self, data: bytes) -> bytes:
        """Sends one whole request and returns its 8192 bytes.

        Raises:
            RedoProcessDied: ``fail_all`` was called before the reply came.
            RedoTimeout: the request waited longer than ``queue_timeout_s`` to be written.

        Cancellation: a request that was not written is forgotten; the reply to one that was is
        dropped when it comes.
        """
        slot = _Slot(data, trio.lowlevel.current_task(), monotonic())
        reply: bytes = await self._queued(slot)
        return reply

    async def send_batch(self, batch: RequestBatch, reply: BatchReply) -> None:
        """Sends the requests of a batch, and has its pages put into ``reply``.

        ``reply.came`` tells how many came, however this ends; after a death ``reply.suspects`` how
        many behind them may have been the reason.

        Raises:
            RedoProcessDied, RedoTimeout: as ``send``.

        Cancellation: as ``send``.
        """
        task = trio.lowlevel.current_task()
        await self._queued(_Slot(batch.data, task, monotonic(), batch.offsets, reply))

    async def _queued(self, slot: _Slot) -> Any:
        """Queues a request, writes it where nothing is in the way, and waits for its end."""
        self._queue.append(slot)
        self._load += slot.left
        self._queued_bytes += len(slot.data)
        if self._unwritten is None:
            if not self._sent or self._queued_bytes >= _WRITE_NOW:
                self._flush()
            else:
                self._wake_writer()
        return await trio.lowlevel.wait_task_rescheduled(slot.abort)

    def close(self) -> None:
        """Fails as ``closed`` once every request that waits is answered."""
        self.closing = True
        if not self.load:
            self._fail("closed", "the redo process was closed")

    def stop(self) -> None:
        """Writes no more requests."""
        self._stopped = True

    def fail_all(self, death: Death) -> None:
        """Raises ``RedoProcessDied`` in all who wait."""
        for position, slot in enumerate(self._sent):
            if slot.reply is not None:
                head = int(position == 0)
                slot.reply.suspects = head if death.at_head else slot.left
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
            slot.finish(outcome.Error(death.error()))
        self._sent.clear()
        self._queue.clear()
        self._load = 0
        self._unwritten = None

    def _wake_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    def _park_writer_aborted(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def write_loop(self) -> None:
        """Writes what ``send`` could not write at once. Cancellation: what waits stays."""
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
                self._stopped = True
                return
            except OSError as exc:
                self._fail("pipe", f"write: {exc.strerror}")
                return
            if written < len(data):
                self._unwritten = data[written:]
                self._wake_writer()
                return
            self._unwritten = None

    def _take_queued(self) -> memoryview | None:
        """Moves queued requests to the sent ones; returns their bytes, or None."""
        if self._stopped:
            return None
        queue, sent = self._queue, self._sent
        parts: list[bytes | bytearray] = []
        size = 0
        room = self._bytes_in_flight - self._sent_bytes
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
            if slot.task is None:
                self._load -= slot.left
            else:
                if not sent:
                    self._head_since = monotonic()
                sent.append(slot)
        self._sent_bytes += size
        if not parts:
            return None
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    async def read_loop(self) -> None:
        """Hands out replies until stdout ends. Cancellation: a part of a page is lost."""
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
                self._fail("pipe", f"read: {exc.strerror}")
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
            self._fail("exited", f"stdout ended {length} bytes into a page")
        else:
            self._fail("exited", "stdout ended")

    def _hand_out(self, view: memoryview, length: int) -> bool:
        """Gives whole pages to those who wait, in order; False where the bytes fit nobody."""
        sent = self._sent
        at = 0
        freed = 0
        while length - at >= BLCKSZ and sent:
            slot = sent[0]
            pages = 1
            if slot.reply is None:
                slot.left = 0
                if slot.task is not None:
                    slot.finish(outcome.Value(bytes(view[at : at + BLCKSZ])))
            else:
                pages = min(slot.left, (length - at) // BLCKSZ)
                if slot.take(view[at : at + pages * BLCKSZ]):
                    slot.finish(outcome.Value(None))
            at += pages * BLCKSZ
            self._load -= pages
            if not slot.left:
                sent.popleft()
                freed += len(slot.data)
        self._sent_bytes -= freed
        if not sent and (at < length or self._unwritten is not None):
            what = "half a request" if self._unwritten is not None else "no request"
            self._fail("protocol", f"{length - at or BLCKSZ} bytes on stdout that answer {what}")
            return False
        if at:
            self.answered += at // BLCKSZ
            self.last_used = self._head_since = monotonic()
            if self._queue and self._unwritten is None:
                self._wake_writer()
            elif self.closing and not self.load:
                self._fail("closed", "the redo process was closed")
        return True

    async def watch_deadlines(self) -> None:
        """Fails when a reply is overdue, and single requests that waited too long to be sent.

        Cancellation: deadlines are no longer watched; nothing else changes.
        """
        await trio.lowlevel.checkpoint()
        execution, queue = self._execution_timeout_s, self._queue_timeout_s
        while True:
            now = monotonic()
            wait = min(execution, queue)
            if self._sent:
                left = self._head_since + execution - now
                if left <= 0:
                    self._fail("timeout", f"no reply in {execution} s")
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
