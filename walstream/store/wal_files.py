"""WAL into segment files, in order: the synchronous half of the writer.

Checks that each chunk goes on where the last one ended, compares what is sent twice, splits at
segment ends, writes, flushes, completes. Runs in a worker thread, one call at a time. After
``NoSpace`` the same object can be asked to go on; after any other error it cannot.

A full segment is made durable by a ``completer``, beside the next one that is written meanwhile.
Order is kept all the same: one segment at a time is completed, the next waits for it before it is
flushed or completed itself, and ``flushed_lsn`` moves when its fsyncs have returned. Until then the
next one's file has a name that nobody takes for WAL (``SegmentFile`` with ``ahead``): a directory
never shows more than pg_receivewal's would, complete segments and one ``.partial`` behind them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

from walstream.errors import NoSpace, WalDivergedError, WalGapError
from walstream.segments.compression import NO_COMPRESSION, Compression
from walstream.segments.names import segment_file_name
from walstream.store.compressed_segment import CompressedSegment
from walstream.store.file_layer import FileLayer, storage_error
from walstream.store.segment_file import Segment, SegmentFile
from walstream.store.verifier import NoVerifier, Verifier
from walstream.wal.model import WalChunk, format_lsn


class WalFiles:
    """The segments of one timeline from ``start_lsn`` on.

    ``next_lsn`` is the end of what was fed, ``written_lsn`` of what the kernel took,
    ``flushed_lsn`` of what is on disk. ``syncs`` counts flushes, ``sync_seconds`` is what the last
    one took.

    Args:
        files: the system calls.
        directory: where segments live.
        segment_size: in bytes.
        timeline: of the file names.
        start_lsn: a segment start, or a position within the open segment up to which its bytes
            are known: ``.partial`` holds them, or ``prefix``.
        verifier: sees every new byte once, before it is written.
        completer: makes full segments durable, one at a time; None: here, before the next begins.
        prefix: the known bytes of the open segment where a new file is to be made of them; None:
            the plain ``.partial`` has them and is gone on with.
    """

    def __init__(
        self,
        files: FileLayer,
        directory: Path,
        segment_size: int,
        timeline: int,
        start_lsn: int,
        verifier: Verifier | None = None,
        *,
        completer: futures.Executor | None = None,
        prefix: Iterator[bytes] | None = None,
        compression: Compression = NO_COMPRESSION,
        sync: bool = True,
        zero_fill: bool = False,
        mode: int = 0o600,
    ) -> None:
        self._compression = compression
        self._files = files
        self._directory = directory
        self._size = segment_size
        self._timeline = timeline
        self._verifier = verifier or NoVerifier()
        self._sync = sync
        self._zero_fill = zero_fill
        self._mode = mode
        self._pending: deque[bytes | memoryview] = deque()
        self._segment: Segment | None = None
        self._full = False
        self._ahead = False
        self._completer = completer
        self._completing: Segment | None = None
        self.completion: futures.Future[None] | None = None
        """That of the last full segment, until it was noticed that it is over (``settle``)."""
        self.next_lsn = self.written_lsn = self.flushed_lsn = start_lsn
        self.sync_seconds = self.slowest_sync_seconds = 0.0
        self.syncs = 0
        self._failed = False
        if start_lsn % segment_size:
            try:
                segment = self._open(prefix)
                if isinstance(segment, SegmentFile) and prefix is None:
                    # What can be read need not be on disk, even after an fsync: one that failed in
                    # an earlier process left clean pages that no later fsync writes. So write it
                    # again.
                    segment.write_again(start_lsn % segment_size)
                segment.flush()
            except BaseException:
                self.abandon()
                raise
        if sync:
            try:
                files.fsync_directory(directory)
            except OSError as exc:
                raise storage_error("fsync", directory, exc) from exc

    @property
    def timeline(self) -> int:
        return self._timeline

    def create(self) -> None:
        """Creates the segment's file now, not with its first bytes.

        Raises:
            StorageError: a system call failed.
        """
        if self._segment is None:
            self._open()

    def feed(self, chunks: Sequence[WalChunk]) -> None:
        """Takes chunks in order; nothing of them is written yet.

        Raises:
            WalGapError: a chunk begins after the end of the one before.
            WalDivergedError: a chunk repeats an LSN with other content.
            WalError, WrongCluster: the verifier refuses them.
        """
        lsn = self.next_lsn
        pieces: list[bytes | memoryview] = []
        for chunk in chunks:
            start, data = chunk.start_lsn, chunk.data
            if start > lsn:
                raise WalGapError(
                    f"WAL is missing: expected {format_lsn(lsn)}, got {format_lsn(start)}", lsn
                )
            if start < lsn:
                self._take(pieces)
                self.write()
                repeated = min(lsn - start, len(data))
                self._compare(start, data[:repeated])
                data = data[repeated:]
            if len(data):
                pieces.append(data)
                lsn += len(data)
        self._take(pieces)

    def _take(self, pieces: list[bytes | memoryview]) -> None:
        """Verifies pieces, all at once; then they wait to be written. Empties the list."""
        if pieces:
            self._verifier.feed(self.next_lsn, pieces)
            self._pending += pieces
            self.next_lsn += sum(map(len, pieces))
            pieces.clear()

    def _compare(self, start: int, data: bytes | memoryview) -> None:
        """What is sent again must be what is stored; only the open segment can be looked at."""
        begin = self.next_lsn - self.next_lsn % self._size
        skip = max(0, begin - start)
        if skip >= len(data) or self._segment is None or not self._segment.comparable:
            return
        start += skip
        stored = self._segment.read(start % self._size, len(data) - skip)
        if stored == data[skip:]:
            return
        same = next(i for i, (a, b) in enumerate(zip(stored, data[skip:], strict=False)) if a != b)
        raise WalDivergedError(
            f"the server sends other WAL than what is stored, from {format_lsn(start + same)} on, "
            f"timeline {self._timeline}: it is not the server that this WAL came from",
            start + same,
        )

    def write(self) -> None:
        """Writes what was fed; completes segments that are full.

        Raises:
            NoSpace: the disk is full; what was written is kept, call again.
            StorageError: a system call failed.
        """
        self.settle()
        if self._full:
            self._complete()
        pending = self._pending
        while pending:
            segment = self._segment or self._open()
            offset = self.written_lsn % self._size
            room = self._size - offset
            buffers: list[bytes | memoryview] = []
            for buffer in pending:
                if len(buffer) >= room:
                    buffers.append(buffer[:room] if len(buffer) > room else buffer)
                    break
                buffers.append(buffer)
                room -= len(buffer)
            self._taken(segment.write(offset, buffers))

    def _taken(self, size: int) -> None:
        self.written_lsn += size
        pending = self._pending
        while size:
            buffer = pending.popleft()
            if len(buffer) > size:
                pending.appendleft(memoryview(buffer)[size:])
                break
            size -= len(buffer)
        if self.written_lsn % self._size == 0:
            self._full = True
            self._complete()

    def _complete(self) -> None:
        """Has the full segment made durable, after the one before."""
        segment = self._segment
        assert segment is not None
        segment.finish()
        self._wait()
        self._segment, self._full = None, False
        self._completing = segment
        if self._completer is None:
            self._make_durable(segment, self.written_lsn)
            self._completing = None
        else:
            self.completion = self._completer.submit(self._make_durable, segment, self.written_lsn)

    def _make_durable(self, segment: Segment, end_lsn: int) -> None:
        self._durably(segment.complete)
        if self._sync:
            self.flushed_lsn = end_lsn

    @property
    def is_completing(self) -> bool:
        """Whether a full segment is being made durable: a flush would wait for it."""
        return self.completion is not None and not self.completion.done()

    def settle(self) -> None:
        """Notices that the last full segment is complete, if it is; never waits for it.

        Raises:
            StorageError: it could not be made durable.
        """
        if self.completion is not None and self.completion.done():
            self._wait()

    def _wait(self) -> None:
        """Waits until the last full segment is complete; then the next may be seen."""
        if self.completion is not None:
            completion, self.completion = self.completion, None
            completion.result()
            self._completing = None
        if self._ahead:
            assert self._segment is not None
            self._durably(self._segment.appear)
            self._ahead = False

    def flush(self) -> None:
        """Makes what was written durable.

        Raises:
            NoSpace: a compressed segment has no room for what it still held; call again.
            StorageError: fdatasync failed, or a full segment could not be made durable.
        """
        self._wait()
        if self.flushed_lsn == self.written_lsn or not self._sync:
            return
        assert self._segment is not None
        self._durably(self._segment.flush)
        self.flushed_lsn = self.written_lsn

    def _durably(self, action: Callable[[], None]) -> None:
        """Runs what fsyncs. Once it failed it is never tried again: it would seem to succeed."""
        assert not self._failed
        started = time.perf_counter()
        try:
            action()
        except NoSpace:  # of a write before it: nothing was tried that could seem to succeed
            raise
        except BaseException:
            self._failed = True
            raise
        self.sync_seconds = time.perf_counter() - started
        self.slowest_sync_seconds = max(self.slowest_sync_seconds, self.sync_seconds)
        self.syncs += 1

    def close(self) -> None:
        """Flushes what was written and closes the file, which stays ``.partial``.

        After a failed flush the file is only closed.

        Raises:
            StorageError: an fsync failed that was not told of yet.
        """
        try:
            if not self._failed or self.completion is not None:
                self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Closes the files without a flush; waits for a completion that is under way."""
        if self.completion is not None:
            futures.wait([self.completion])
            self.completion = None
        for segment in (self._completing, self._segment):
            if segment is not None:
                segment.close()
        self._completing = self._segment = None

    @property
    def comparable(self) -> bool:
        """Whether what is sent again can be compared with what is stored."""
        return self._segment is not None and self._segment.comparable

    def _open(self, prefix: Iterator[bytes] | None = None) -> Segment:
        name = segment_file_name(self._timeline, self.written_lsn // self._size, self._size)
        if self._compression.method != "none":
            self._segment = CompressedSegment(
                self._files,
                self._directory,
                name,
                self._compression,
                prefix or iter(()),
                sync=self._sync,
                mode=self._mode,
                ahead=self.completion is not None,
            )
            self._ahead = self.completion is not None
            return self._segment
        segment = self._segment = SegmentFile(
            self._files,
            self._directory,
            name,
            self._size,
            sync=self._sync,
            zero_fill=self._zero_fill,
            mode=self._mode,
            ahead=self.completion is not None,
        )
        self._ahead = self.completion is not None
        if prefix is not None:
            at = 0
            for piece in prefix:
                done = 0
                while done < len(piece):
                    done += segment.write(at + done, [memoryview(piece)[done:]])
                at += len(piece)
            segment.flush()
        return segment
