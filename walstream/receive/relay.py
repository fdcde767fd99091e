"""The short way of a synchronous standby: socket, disk and answer in one thread.

The commits of a server wait for its synchronous standby, so every wake-up between the socket and
the disk costs transactions. While the receiver is up to date a ``Relay`` therefore runs in the
sink's own thread, with the sink's open files: it waits for the socket, writes what arrives, flushes
it when no more waits, and answers, as pg_receivewal does.

What must stay true: a flush position is sent after the flush; heartbeats flow while the disk
blocks. So the connection has one owner at a time. The relay touches it under ``connection.lock``
and only while ``recall`` was not called; it never holds the lock while it writes or waits. The
receiver's status sender goes on as ever, and when a flush takes long the receiver recalls the relay
and reads on by itself, while the thread is still in the flush.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from walstream.errors import ConnectionLost, ReplicationProtocolError
from walstream.replication.libpq import ReplicationConnection
from walstream.replication.messages import PrimaryKeepAlive, XLogData, decode_copy_message
from walstream.wal.model import WalChunk

# So much without a pause is a backlog: then receiving and writing are better done side by side.
BACKLOG_BYTES = 4 << 20
# How old what the event loop knows may be; each time it is told costs a wake-up.
PUBLISH_S = 0.02
# TLS may hold decrypted bytes while the socket is quiet: it is asked now and then.
TLS_IDLE_MS = 1000


class OpenWal(Protocol):
    """Files that WAL is written to, at ``next_lsn``; see ``WalFiles`` of ``walstream.store``."""

    next_lsn: int
    written_lsn: int
    flushed_lsn: int

    def feed(self, chunks: Sequence[WalChunk]) -> None: ...
    def write(self) -> None: ...
    def flush(self) -> None: ...


class Relay:
    """One use of the short way. Called in the sink's thread; the rest is for the event loop.

    Args:
        connection: COPY runs on it; the caller does not read from it until ``over``.
        status: makes the status update to send, of (written, flushed); called in the thread.
        report_flush: tell the server of every flush; else only when it asks.
        heard: called in the thread with each message's facts, before it is written.
        publish: called in the event loop, at most every PUBLISH_S, when there is news.
        end_lsn: stop when WAL up to there was written.
    """

    def __init__(
        self,
        connection: ReplicationConnection,
        *,
        status: Callable[[int, int], bytes],
        report_flush: bool,
        heard: Callable[[XLogData | PrimaryKeepAlive], None],
        publish: Callable[[], None],
        end_lsn: int | None = None,
    ) -> None:
        self.over = trio.Event()
        """The connection is the caller's again."""
        self.error: ConnectionLost | ReplicationProtocolError | None = None
        """What the connection or its messages failed with."""
        self.unsent = False
        """The socket did not take all of the last answer."""
        self.in_files_since = 0.0
        """When, by ``time.monotonic``, the thread went to write or flush; 0: it did not."""
        self._connection = connection
        # Asked here: it may be closed before the thread begins.
        self._socket = connection.fileno()
        self._idle_ms = TLS_IDLE_MS if connection.uses_tls else None
        self._status = status
        self._report_flush = report_flush
        self._heard = heard
        self._publish = publish
        self._end_lsn = end_lsn
        self._recalled = False
        self._has_news = False
        self._token = trio.lowlevel.current_trio_token()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def recall(self) -> None:
        """Gives the connection back at once; the thread ends when the disk lets it."""
        if not self._recalled:
            with self._connection.lock:
                self._recalled = True
            os.eventfd_write(self._wake, 1)
        self.over.set()

    def ended(self) -> None:
        """The thread is done with this."""
        self.recall()
        os.close(self._wake)

    # -- in the thread

    def __call__(self, files: OpenWal) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        published_at = 0.0
        news = False
        while self._round(files):
            news = news or self._has_news
            fresh = time.monotonic() - published_at < PUBLISH_S
            if news and fresh and poller.poll(PUBLISH_S * 1000):
                continue
            if news:
                published_at, news = time.monotonic(), False
                self._token.run_sync_soon(self._publish, idempotent=True)
            poller.poll(self._idle_ms)

    def _round(self, files: OpenWal) -> bool:
        """Takes all that has arrived to the disk and answers; returns whether to go on."""
        taken = 0
        asked = False
        self._has_news = False
        while True:
            messages = self._take()
            if messages is None:
                return False
            if not messages:
                break
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
            if self.error is not None or self._connection.copy_ended:
                break
        if taken:
            self._has_news = True
            self.in_files_since = time.monotonic()
            files.flush()
            self.in_files_since = 0.0
        if self.error is not None or self._connection.copy_ended:
            return False
        if asked or (taken and self._report_flush):
            flushed = files.flushed_lsn
            with self._connection.lock:
                if self._recalled:
                    return False
                try:
                    whole = self._connection.send_copy_now(self._status(files.written_lsn, flushed))
                except ConnectionLost as exc:
                    self.error = exc
                    return False
            if not whole:
                self.unsent = True
                return False
        return self._end_lsn is None or files.next_lsn < self._end_lsn

    def _take(self) -> list[XLogData | PrimaryKeepAlive] | None:
        """Returns the messages that are there; None: the connection is not ours any more."""
        connection = self._connection
        found: list[XLogData | PrimaryKeepAlive] = []
        size = 0
        with connection.lock:
            if self._recalled:
                return None
            connection.take_input()
            try:
                while size < BACKLOG_BYTES:
                    message = connection.poll_copy()
                    if message is None:
                        break
                    size += len(message)
                    found.append(decode_copy_message(message))
            except (ConnectionLost, ReplicationProtocolError) as exc:
                self.error = exc  # after what arrived before it
        return found
