"""A synchronous standby: socket, disk and answer in one thread, for as long as it is up to date.

The commits of a server wait for its synchronous standby, so every wake-up between the socket and
the disk costs transactions. PostgreSQL's walreceiver is one process for that reason: it writes what
has arrived (XLogWalRcvWrite), flushes when no more waits (XLogWalRcvFlush) and answers
(XLogWalRcvSendReply). Here the thread of the write queue does the same. The connection and the
files are handed over to it while nothing is queued and the disk is quick, and taken back:

    SESSION     the session reads the connection, the write queue has the files
       |  hand over
    THREAD      the thread has both
       |  take back: the session is cancelled, or a flush takes long
    FLUSHING    the session reads again and queues; the thread is still in the files
       |  the disk lets the thread go
    SESSION

From THREAD it also goes to SESSION at once, where the thread ends by itself: a backlog, COPY's end,
an error, a socket that does not take the answer.

What must stay true: a flush position is sent after the flush; heartbeats flow while the disk
blocks; the connection has one reader at a time. So the state changes under ``connection.lock``, the
thread touches the connection under it and only in THREAD, and never holds it while it writes or
waits. The status sender goes on as ever.
"""

from __future__ import annotations

import enum
import logging
import os
import select
import time
from collections.abc import Callable

import trio

from walstream.errors import ConnectionLost, ReplicationProtocolError
from walstream.replication.copy_stream import CopyStream
from walstream.replication.messages import PrimaryKeepAlive, XLogData, decode_copy_message
from walstream.replication.status import Report, StatusSender
from walstream.store.wal_files import WalFiles
from walstream.store.write_queue import WriteQueue
from walstream.wal.model import WalChunk

log = logging.getLogger("walstream.receiver")

# So much without a pause is a backlog: then receiving and writing are better done side by side.
BACKLOG_BYTES = 4 << 20
# How old what the event loop knows may be; each time it is told costs a wake-up.
PUBLISH_S = 0.02
# TLS may hold decrypted bytes while the socket is quiet: it is asked now and then.
TLS_IDLE_MS = 1000
# A flush that takes longer is no longer waited for before what arrives meanwhile is read.
STUCK_S = 0.2


class State(enum.Enum):
    """Who has what; see the module's docstring."""

    SESSION = "session"
    THREAD = "thread"
    FLUSHING = "flushing"


class SynchronousStandby:
    """Hands one COPY and the write queue's files over to the queue's thread, again and again.

    Args:
        copy: what is read; while ``run`` runs nobody else reads from it.
        queue: whose thread and files they are.
        status: sends the answers; it goes on in its own task.
        report: makes of (written, flushed) what is told; called in the thread.
        tells_flush: the server is told of every flush; else only when it asks.
        heard: called in the thread with each message's facts, before it is written.
        end_lsn: the thread ends when WAL up to there was written.
    """

    def __init__(
        self,
        copy: CopyStream,
        queue: WriteQueue,
        status: StatusSender,
        *,
        report: Callable[[int, int], Report],
        tells_flush: bool,
        heard: Callable[[XLogData | PrimaryKeepAlive], None],
        end_lsn: int | None = None,
    ) -> None:
        self.state = State.SESSION
        self.in_files_since = 0.0
        """When, by ``time.monotonic``, the thread went to write or flush; 0: it did not."""
        self._copy = copy
        self._queue = queue
        self._status = status
        self._report = report
        self._tells_flush = tells_flush
        self._heard = heard
        self._end_lsn = end_lsn
        self._lock = copy.connection.lock
        # Asked here: it may be closed before the thread begins.
        self._socket = copy.connection.fileno()
        self._idle_ms = TLS_IDLE_MS if copy.connection.uses_tls else None
        self._error: ConnectionLost | ReplicationProtocolError | None = None
        self._wake = -1
        self._taken_back = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    async def run(self) -> bool:
        """Hands over, and waits until the connection is ours again; False: not now.

        Raises:
            ConnectionLost, ReplicationProtocolError: the connection or its messages failed.

        Cancellation: the connection is ours again; the thread may still be in a flush.
        """
        if self.state is not State.SESSION or not self._queue.is_quick:
            return False  # noqa: ASYNC910 (what follows waits for the socket)
        with trio.move_on_after(STUCK_S):
            await self._queue.flush()
        if not self._hand_over():
            return False
        try:
            while not self._taken_back.is_set():
                with trio.move_on_after(STUCK_S):
                    await self._taken_back.wait()
                since = self.in_files_since
                if since and time.monotonic() - since > STUCK_S:
                    log.info("a flush takes long: reading on meanwhile")
                    self.take_back()
        finally:
            self.take_back()
            self._queue.publish()
        if self._error is not None:
            raise self._error
        return True

    def _hand_over(self) -> bool:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._taken_back = trio.Event()
        self.state = State.THREAD
        if self._queue.hand_over(self._serve, take_back=self.take_back, ended=self._ended):
            return True
        self._ended()
        return False

    def take_back(self) -> None:
        """Gives the connection back to the session; the thread ends when the disk lets it.

        Safe at any time, in the event loop.
        """
        if self.state is State.THREAD:
            with self._lock:
                self.state = State.FLUSHING
            os.eventfd_write(self._wake, 1)
        self._taken_back.set()

    def _ended(self) -> None:
        """The thread is done with the files."""
        self.state = State.SESSION
        self._taken_back.set()
        os.close(self._wake)

    # -- in the thread

    def _serve(self, files: WalFiles) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        published_at = 0.0
        news = False
        while True:
            before = files.next_lsn
            if not self._round(files):
                return
            news = news or files.next_lsn > before
            fresh = time.monotonic() - published_at < PUBLISH_S
            if news and fresh and poller.poll(PUBLISH_S * 1000):
                continue
            if news:
                published_at, news = time.monotonic(), False
                self._token.run_sync_soon(self._queue.publish, idempotent=True)
            poller.poll(self._idle_ms)

    def _round(self, files: WalFiles) -> bool:
        """Takes all that has arrived to the disk and answers; returns whether to go on."""
        taken = 0
        asked = False
        while messages := self._take():
            chunks = []
            for message in messages:
                self._heard(message)
                if isinstance(message, PrimaryKeepAlive):
                    asked = asked or message.reply_requested
                    continue
                start_lsn, server_end_lsn, sent, data = message
                chunks.append(WalChunk(start_lsn, data, server_end_lsn, sent))
                taken += len(data)
            if chunks:
                self.in_files_since = time.monotonic()
                files.feed(chunks)
                files.write()
                self.in_files_since = 0.0
            if taken > BACKLOG_BYTES:
                return False
        if messages is None:
            return False
        if taken:
            self.in_files_since = time.monotonic()
            files.flush()
            self.in_files_since = 0.0
        if self._error is not None or self._copy.ended:
            return False
        if (asked or (taken and self._tells_flush)) and not self._answer(files):
            return False
        return self._end_lsn is None or files.next_lsn < self._end_lsn

    def _take(self) -> list[XLogData | PrimaryKeepAlive] | None:
        """Returns the messages that are there; None: the connection is not ours any more."""
        found: list[XLogData | PrimaryKeepAlive] = []
        with self._lock:
            if self.state is not State.THREAD:
                return None
            if self._error is not None or self._copy.ended:
                return found
            self._copy.take_input()
            size = 0
            try:
                while size < BACKLOG_BYTES and (message := self._copy.taken()) is not None:
                    size += len(message)
                    found.append(decode_copy_message(message))
            except (ConnectionLost, ReplicationProtocolError) as exc:
                self._error = exc  # after what arrived before it
        return found

    def _answer(self, files: WalFiles) -> bool:
        """Tells the server how far the files are; returns whether to go on."""
        report = self._report(files.written_lsn, files.flushed_lsn)
        with self._lock:
            if self.state is not State.THREAD:
                return False
            try:
                whole = self._status.send_now(report)
            except ConnectionLost as exc:
                self._error = exc
                return False
        if not whole:  # the rest is for the status sender, which can wait for the socket
            self._token.run_sync_soon(self._status.tell_again)
        return whole
