"""Ingest in the plainest way: record by record, one entry at a time. Slow; the tests' own."""

from __future__ import annotations

from tests.index.stored import posting_list
from walstream.errors import RecordError, WalError
from walstream.index.ingest import READ_SIZE, WalSource
from walstream.index.page_index import (
    Batch,
    DatabaseChange,
    DatabaseKind,
    Entry,
    Event,
    PageIndex,
    SizeChange,
    SizeKind,
    TimePoint,
)
from walstream.rmgr.database import DatabaseCreate, DatabaseDrop, parse_database
from walstream.rmgr.storage import StorageCreate, StorageTruncate, parse_storage
from walstream.rmgr.tablespace import TablespaceCreate, TablespaceDrop, parse_tablespace
from walstream.rmgr.xact import parse_drops
from walstream.wal.model import BufferTag, RawRecord, RelFileLocator, XLogRecord
from walstream.wal.record import decode_wal_record
from walstream.wal.stream import WalStreamDecoder

ForkKey = tuple[RelFileLocator, int]
# Heap records that clear bits of the visibility map: the length of their main data, where in it
# the flags lie, the flag for the new block and that for the old one.
CLEARS = {
    (10, 0x00): (3, 2, 0x01, 0),
    (10, 0x10): (8, 7, 0, 0x01),
    (10, 0x20): (14, 7, 0x02, 0x01),
    (10, 0x40): (14, 7, 0x02, 0x01),
    (10, 0x60): (8, 7, 0, 0x01),
    (9, 0x50): (4, 0, 0x01, 0),
    (9, 0x60): (8, 7, 0, 0x01),
}
HEAP_BLOCKS_PER_PAGE = (8192 - 24) * 4
ENDS = {0x00: 0, 0x30: 0, 0x20: 1, 0x40: 1}
MAIN, FREE_SPACE, VISIBILITY, INIT = range(4)


class Reference:
    """Indexes all of a source from where ``index`` begins; see the module."""

    def __init__(
        self,
        index: PageIndex,
        source: WalSource,
        version: int,
        segment_size: int,
        read_size: int = READ_SIZE,
    ) -> None:
        self.index = index
        self.source = source
        self.version = version
        self.read_size = read_size
        self.at = int(index.meta("last_record_end") or 0)
        self.decoder = WalStreamDecoder(version, segment_size, self.at)
        self.known: dict[ForkKey, int] = {}
        self.batch = Batch()
        self.entries: dict[tuple[int, int, int, int, int], list[Entry]] = {}

    def run(self, upto_lsn: int) -> WalError | None:
        """Indexes up to ``upto_lsn``; returns what was wrong, after all that was before it."""
        while self.at < upto_lsn:
            size = min(upto_lsn - self.at, self.read_size)
            self.decoder.feed_bytes(self.at, self.source.read(self.at, size))
            self.at += size
            try:
                while (raw := self.decoder.poll_decode()) is not None:
                    self.add(raw)
            except WalError as error:
                self.write()
                return error
            self.write()
        return None

    def write(self) -> None:
        if self.batch.meta:
            self.batch.pairs = [posting_list(tag, found) for tag, found in self.entries.items()]
            self.index.write(self.batch)
        self.batch = Batch()
        self.entries = {}

    def add(self, raw: RawRecord) -> None:
        record = decode_wal_record(raw, self.version)
        kind = record.info & 0xF0
        body: object = None
        if record.rmgr_id == 1 and record.info & 0x70 in ENDS:
            body = parse_drops(record.main_data, record.info, self.version)
        elif record.rmgr_id == 2:
            body = parse_storage(record.main_data, record.info)
        elif record.rmgr_id == 4:
            body = parse_database(record.main_data, record.info, self.version)
        elif record.rmgr_id == 5:
            body = parse_tablespace(record.main_data, record.info)

        batch, end_lsn, start_lsn = self.batch, record.end_lsn, record.start_lsn
        for block in record.blocks:
            makes = block.flags & 0x40 or (block.image is not None and block.image.apply)
            self.entry(block.tag, record, 1 if makes else 0)
            fork = (RelFileLocator(*block.tag[:3]), block.tag.fork)
            if block.tag.block >= self.blocks(fork):
                self.resize(fork, end_lsn, SizeKind.EXTEND, min(block.tag.block + 1, 0xFFFFFFFF))
        if record.rmgr_id in (9, 10):
            self.clear_bits(record)
        pages = 9 <= record.rmgr_id <= 17 or record.rmgr_id == 20
        if not pages and not (record.rmgr_id == 0 and kind in (0xA0, 0xB0)):
            event = Event(end_lsn, start_lsn, record.rmgr_id, record.info, record.xid)
            batch.events.append(event)
        if record.rmgr_id == 0 and kind == 0x70 and len(record.main_data) >= 8:
            time_us = int.from_bytes(record.main_data[:8], "little", signed=True)
            batch.times.append(TimePoint(max(time_us, 0), end_lsn, start_lsn, 0, 2))
        elif record.rmgr_id == 1 and record.info & 0x70 in ENDS:
            end = parse_drops(record.main_data, record.info, self.version)
            xid, what = end.twophase_xid or record.xid, ENDS[record.info & 0x70]
            batch.times.append(TimePoint(max(end.time_us, 0), end_lsn, start_lsn, xid, what))
            for locator in end.dropped:
                for number in range(4):
                    if self.blocks((locator, number)) >= 0:
                        self.resize((locator, number), end_lsn, SizeKind.DROP, 0)
        elif isinstance(body, StorageCreate):
            self.resize((body.locator, body.fork), end_lsn, SizeKind.CREATE, 0)
        elif isinstance(body, StorageTruncate):
            self.truncate(body, record)
        elif isinstance(body, DatabaseDrop):
            gone = DatabaseChange(end_lsn, DatabaseKind.DROP, 0, 0)
            batch.databases += [(spc, body.db_oid, gone) for spc in body.spc_oids]
        elif isinstance(body, DatabaseCreate):
            made = DatabaseChange(end_lsn, DatabaseKind.CREATE, 0, 0)
            if body.source_db_oid is not None and body.source_spc_oid is not None:
                source = (body.source_spc_oid, body.source_db_oid)
                made = DatabaseChange(end_lsn, DatabaseKind.COPY, *source)
            batch.databases.append((body.spc_oid, body.db_oid, made))
        elif isinstance(body, TablespaceDrop | TablespaceCreate):
            dropped = isinstance(body, TablespaceDrop)
            what = DatabaseKind.DROP if dropped else DatabaseKind.CREATE
            batch.databases.append((body.spc_oid, 0, DatabaseChange(end_lsn, what, 0, 0)))
        batch.meta = {
            "last_record_end": str(end_lsn).encode(),
            "last_record_start": str(start_lsn).encode(),
        }
        if isinstance(body, DatabaseDrop | DatabaseCreate):
            self.known = {key: n for key, n in self.known.items() if key[0].db_oid != body.db_oid}
            self.write()
        elif isinstance(body, TablespaceDrop | TablespaceCreate):
            self.known = {}
            self.write()

    def entry(self, tag: BufferTag, record: XLogRecord, flags: int) -> None:
        entries = self.entries.setdefault(tag, [])
        if entries and entries[-1].end_lsn == record.end_lsn:
            flags |= entries.pop().flags
        entries.append(Entry(record.end_lsn, record.start_lsn, flags))

    def blocks(self, fork: ForkKey) -> int:
        if fork not in self.known:
            size = self.index.size_at(*fork)
            self.known[fork] = -1 if size is None else size
        return self.known[fork]

    def resize(self, fork: ForkKey, end_lsn: int, kind: SizeKind, blocks: int) -> None:
        self.known[fork] = -1 if kind == SizeKind.DROP else blocks
        self.batch.sizes.append((*fork, SizeChange(end_lsn, kind, blocks)))

    def clear_bits(self, record: XLogRecord) -> None:
        length, at, new, old = CLEARS.get((record.rmgr_id, record.info & 0x70), (0, 0, 0, 0))
        flags = record.main_data[at] if length and length <= len(record.main_data) else 0
        tags = [block.tag for block in record.blocks if block.tag.fork == MAIN]
        for flag, found in ((new, tags[:1]), (old, tags[-1:])):
            for heap in found if flags & flag else ():
                tag = heap._replace(fork=VISIBILITY, block=heap.block // HEAP_BLOCKS_PER_PAGE)
                entries = self.entries.get(tag)
                if not entries or entries[-1].end_lsn != record.end_lsn:
                    self.entry(tag, record, 2)

    def truncate(self, change: StorageTruncate, record: XLogRecord) -> None:
        main, visibility = (change.locator, MAIN), (change.locator, VISIBILITY)
        if change.flags & 1 and self.blocks(main) > change.blocks:
            self.resize(main, record.end_lsn, SizeKind.TRUNCATE, change.blocks)
        if change.flags & 2 and self.blocks(visibility) >= 0:
            page, rest = divmod(change.blocks, HEAP_BLOCKS_PER_PAGE)
            if rest and self.blocks(visibility) > page:
                self.entry(BufferTag(*change.locator, VISIBILITY, page), record, 2)
            pages = page + (1 if rest else 0)
            if self.blocks(visibility) > pages:
                self.resize(visibility, record.end_lsn, SizeKind.TRUNCATE, pages)


def said(error: WalError | None) -> tuple[str, int | None] | None:
    """Returns what must be the same of two errors: their kind and place."""
    if error is None:
        return None
    return ("RecordError" if isinstance(error, RecordError) else type(error).__name__, error.lsn)
