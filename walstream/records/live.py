"""The records of a live server, as they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import trio
from trio_util import AsyncValue

from walstream.errors import ConnectionLost
from walstream.receive.chunk_sink import ChunkSink
from walstream.receive.receiver import Receiver
from walstream.records.match import Position, position, record_match
from walstream.rmgr.record import WalRecord
from walstream.scanning.output import Batch, records_output
from walstream.scanning.stream_scan import StreamScan
from walstream.scanning.wal_range import WalRange
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.layout import XLOG_BLCKSZ
from walstream.wal.model import RelFileLocator, WalChunk
from walstream.wal.timeline import Upstream


class _Decoder:
    """Makes records of chunks; hands them over a chunk's worth at a time."""

    def __init__(
        self, scan: StreamScan[Batch], out: trio.MemorySendChannel[list[WalRecord]]
    ) -> None:
        self._scan = scan
        self._out = out
        self._segment_size = 0
        self._begun = False

    def connected(self, upstream: Upstream, _connection: object) -> None:
        self._segment_size = upstream.segment_size

    async def take(self, chunk: WalChunk) -> None:
        scan = self._scan
        if not self._begun:
            scan.begin_with(chunk.start_lsn, self._segment_size)
            self._begun = True
        found = [
            WalRecord(
                batch.columns.start_lsn[row],
                batch.columns.end_lsn[row],
                batch.record(row),
                batch.version,
            )
            for batch in scan.feed(chunk.start_lsn, bytes(chunk.data))
            for row in range(batch.rows)
        ]
        if found:
            await self._out.send(found)


class _OneByOne:
    """What comes in lists, one by one. No generator: a loop may be left at any time."""

    def __init__(self, lists: trio.MemoryReceiveChannel[list[WalRecord]]) -> None:
        self._lists = lists
        self._next: Iterator[WalRecord] = iter(())

    def __aiter__(self) -> AsyncIterator[WalRecord]:
        return self

    async def __anext__(self) -> WalRecord:
        """Returns the next record.

        Cancellation: no record is lost.
        """
        while True:
            for record in self._next:
                return record
            try:
                self._next = iter(await self._lists.receive())
            except trio.EndOfChannel:
                raise StopAsyncIteration from None


@asynccontextmanager
async def stream_wal(
    conninfo: str,
    start: Position | None = None,
    end: Position | None = None,
    *,
    rmgr: str | Iterable[str] | None = None,
    xid: int | None = None,
    relation: str | RelFileLocator | None = None,
    block: int | None = None,
    loop: bool = True,
) -> AsyncIterator[AsyncIterator[WalRecord]]:
    """Opens a stream of the records of a server, as it writes them::

        async with stream_wal("host=db1 user=replicator") as records:
            async for record in records:
                print(record.operation)

    Lost connections are made again (``loop``) and timelines followed, without a gap. No slot is
    used: a server that has removed WAL before it was read is an error. The role needs REPLICATION.

    Args:
        conninfo: libpq's connection string or URI.
        start: the first record is the first that begins there or later; default: where the
            server's WAL ends now.
        end: the last record is the last that ends there or before; default: goes on for ever.
        rmgr, xid, relation, block: as of ``read_wal``.
        loop: whether a lost connection is made again.

    Raises:
        ValueError: an LSN, a resource manager or a relation that is none, or ``block`` alone.
        ServerRefused: no REPLICATION, or WAL from ``start`` on is not there any more.
        ConnectionLost: with ``loop`` off.
        WalError: the server's WAL is not what PostgreSQL writes, or of another branch than before.

    What is raised in the context leaves as it is, not in a group.

    Cancellation: the connection is closed.
    """
    first, last = position(start), position(end)
    scan = StreamScan(
        records_output, WalRange(first, last), record_match(rmgr, xid, relation, block)
    )
    out, records = trio.open_memory_channel[list[WalRecord]](1)
    decoder = _Decoder(scan, out)
    # From the start of the page: its header says where the record under way ends.
    sink = ChunkSink(decoder.take, None if first is None else first - first % XLOG_BLCKSZ)
    receiver = Receiver(
        AsyncValue(conninfo),
        sink,
        end_lsn=last,
        loop=loop,
        application_name="walstream",
        on_connected=decoder.connected,
    )

    async def run() -> None:
        await receiver.run()
        # Not after an error: the caller is to see that, not an end.
        out.close()

    async with open_bare_nursery((ConnectionLost,)) as nursery:
        # What goes wrong at the start ends the body, as what goes wrong later.
        nursery.start_soon(run)  # noqa: ASYNC113
        yield _OneByOne(records)
        nursery.cancel_scope.cancel()
