"""What a stretch of WAL says to the index, as far as that does not depend on what came before.

Turns records into the keys and values of blocks, transactions and events, and leaves to
``changes.py`` what needs the sizes of forks: the two together are ingest, in one process or in many
(``parallel.py``). Knows record bodies only as far as they say which blocks, relations and
databases change (storage_xlog.h, xact.h, dbcommands_xlog.h); they are parsed in ``rmgr/``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from walstream.errors import RecordError
from walstream.index import keys
from walstream.index.postings import PostingLists
from walstream.rmgr import database, storage, tablespace, xact
from walstream.rmgr.heap.layout import HEAPBLOCKS_PER_PAGE
from walstream.rmgr.xlog.records import PARAMETERS
from walstream.wal.columns import RecordColumns
from walstream.wal.layout import (
    RM_DBASE_ID,
    RM_MIN_CUSTOM_ID,
    RM_SMGR_ID,
    RM_TBLSPC_ID,
    RM_XACT_ID,
    RM_XLOG_ID,
    XLR_RMGR_INFO_MASK,
)
from walstream.wal.model import ForkNumber
from walstream.wal.opcodes import XLOG_PARAMETER_CHANGE, XLOG_RESTORE_POINT
from walstream.wal.reason import in_record

FORKS = frozenset(ForkNumber)
IMPLICIT = 2
WAL_LEVEL_MINIMAL = 0


class WallKind(IntEnum):
    """Why nothing after a record can be rebuilt from what was before it.

    CUSTOM: the record is of a custom resource manager, which only its extension can replay.
    MINIMAL: it says that the server runs with wal_level = minimal.
    """

    CUSTOM = 1
    MINIMAL = 2


Body = (
    xact.XactDrops
    | storage.StorageCreate
    | storage.StorageTruncate
    | database.DatabaseCreate
    | database.DatabaseDrop
    | tablespace.TablespaceCreate
    | tablespace.TablespaceDrop
)


class Operation(NamedTuple):
    """A record that changes relations or databases by what its body says."""

    end_lsn: int
    body: Body


class Digest(NamedTuple):
    """What some records say, up to the one ``[last_start, last_end)``.

    ``pairs`` are keys and values as they are stored. ``ends`` is the value of the list of ends of
    transactions, whose key has ``ends_lsn`` (0: there are none), ``newest_time`` the latest of
    them. ``growth`` has what may be growth of forks (``keys.GROWTH``), ``operations`` what changes
    them otherwise, both in LSN order. ``marks`` and ``newest_xid`` as in ``PostingLists``.
    """

    pairs: list[tuple[bytes, bytes]]
    ends_lsn: int
    ends: bytes
    newest_time: int
    growth: bytes
    operations: list[Operation]
    marks: list[tuple[int, int, int]]
    newest_xid: int
    last_end: int
    last_start: int


class Digester:
    """Collects what records say. One owner; they must come in LSN order.

    ``barrier``: what follows can only be told when what was collected is known: take it first.
    """

    def __init__(self, version: int, last_end: int = 0, last_start: int = 0) -> None:
        self._version = version
        self.lists = PostingLists()
        if last_start:
            self.lists.go_on_at(last_end, last_start)
        self._pairs: list[tuple[bytes, bytes]] = []
        self._operations: list[Operation] = []
        self.barrier = False

    @property
    def last_end(self) -> int:
        """The end of the last record that was added."""
        return self.lists.last_end

    @property
    def last_start(self) -> int:
        """Where that record starts."""
        return self.lists.last_start

    def take(self) -> Digest:
        """Returns what was collected and starts anew."""
        lists = self.lists
        ends_lsn, ends = lists.take_ends()
        newest_time, growth = lists.newest_time, lists.take_growth()
        pairs = lists.take()
        if ends:
            pairs.append((keys.ENDS_KEY.pack(b"c", ends_lsn), ends))
        pairs += self._pairs
        operations = self._operations
        self._pairs, self._operations, self.barrier = [], [], False
        return Digest(
            pairs,
            ends_lsn,
            ends,
            newest_time,
            growth,
            operations,
            lists.take_marks(),
            lists.newest_xid,
            lists.last_end,
            lists.last_start,
        )

    def add(self, columns: RecordColumns, piece: bytes, row: int) -> int:
        """Adds the records from ``row`` on, up to a barrier or the last; returns the next row.

        ``lists.load`` has been called with the columns.

        Raises:
            RecordError: the body of a record that the index must understand is too short. Nothing
                of it was added.
        """
        lists = self.lists
        while row < columns.count and not self.barrier:
            row = lists.collect(row)
            if row < columns.count:
                self._add_record(columns, piece, row)
                row += 1
        return row

    def _add_record(self, columns: RecordColumns, piece: bytes, row: int) -> None:
        """Adds a record that is not plain."""
        start_lsn, end_lsn = columns.start_lsn[row], columns.end_lsn[row]
        rmgr, info, xid = columns.rmgr[row], columns.info[row], columns.xid[row]
        source, at = piece, columns.main_at[row]
        if at < 0:
            source, at = columns.side, ~at
        main_data = source[at : at + columns.main_length[row]]
        try:
            body = self._parse(rmgr, info, main_data)
        except RecordError as error:
            raise in_record(error, start_lsn) from error
        lists = self.lists
        lists.add_blocks(row)
        if rmgr == RM_XACT_ID:
            assert isinstance(body, xact.XactDrops)
            ended = body.twophase_xid or xid
            lists.add_end(end_lsn, start_lsn, ended, max(body.time_us, 0), info)
            for subxid in body.subxids:
                lists.add_xid(end_lsn, subxid)
        elif rmgr >= RM_MIN_CUSTOM_ID:
            self._wall(end_lsn, start_lsn, rmgr, WallKind.CUSTOM)
        else:
            lists.add_event(end_lsn, start_lsn, rmgr, info, xid)
            if rmgr == RM_XLOG_ID:
                self._add_xlog(start_lsn, end_lsn, info, main_data)
        if body is not None:
            self._operation(start_lsn, end_lsn, body)

    def _parse(self, rmgr: int, info: int, main_data: bytes) -> Body | None:
        """Returns the body of a record whose body matters, else None."""
        if rmgr == RM_XACT_ID:
            return xact.parse_drops(main_data, info, self._version)
        if rmgr == RM_SMGR_ID:
            change = storage.parse_storage(main_data, info)
            if isinstance(change, storage.StorageCreate) and change.fork not in FORKS:
                raise RecordError(f"fork of a new file: expected 0 to 3, got {change.fork}")
            return change
        if rmgr == RM_DBASE_ID:
            return database.parse_database(main_data, info, self._version)
        if rmgr == RM_TBLSPC_ID:
            return tablespace.parse_tablespace(main_data, info)
        if rmgr == RM_XLOG_ID and info & XLR_RMGR_INFO_MASK == XLOG_PARAMETER_CHANGE:
            PARAMETERS.unpack(main_data)
        return None

    def _add_xlog(self, start_lsn: int, end_lsn: int, info: int, main_data: bytes) -> None:
        op = info & XLR_RMGR_INFO_MASK
        if op == XLOG_RESTORE_POINT and len(main_data) >= 8:
            time_us = max(int.from_bytes(main_data[:8], "little", signed=True), 0)
            name = main_data[8:].split(b"\0")[0]
            key = b"n" + name + b"\0" + end_lsn.to_bytes(8, "big")
            self._pairs.append((key, keys.NAMED.pack(start_lsn, time_us)))
        elif (
            op == XLOG_PARAMETER_CHANGE
            and PARAMETERS.unpack(main_data)["wal_level"] == WAL_LEVEL_MINIMAL
        ):
            self._wall(end_lsn, start_lsn, RM_XLOG_ID, WallKind.MINIMAL)

    def _wall(self, end_lsn: int, start_lsn: int, rmgr: int, kind: WallKind) -> None:
        self._pairs.append(
            (keys.WALL_KEY.pack(b"w", end_lsn), keys.WALL.pack(start_lsn, rmgr, kind))
        )

    def _operation(self, start_lsn: int, end_lsn: int, body: Body) -> None:
        lists = self.lists
        if isinstance(body, xact.XactDrops):
            if not body.dropped:
                return
            for locator in body.dropped:
                for fork in ForkNumber:
                    lists.forget_fork(*locator, fork)
        elif isinstance(body, storage.StorageCreate):
            lists.forget_fork(*body.locator, body.fork)
        elif isinstance(body, storage.StorageTruncate):
            lists.forget_fork(*body.locator, ForkNumber.MAIN)
            lists.forget_fork(*body.locator, ForkNumber.VM)
            page, rest = divmod(body.blocks, HEAPBLOCKS_PER_PAGE)
            if body.flags & storage.TRUNCATE_VM and rest:
                # visibilitymap_prepare_truncate: of the last page that stays the bits beyond the
                # cut are cleared, where there is such a page.
                visibility = (*body.locator, int(ForkNumber.VM), page)
                lists.add_entry(*visibility, end_lsn, start_lsn, IMPLICIT)
        else:
            lists.forget_forks()
            self.barrier = True
        self._operations.append(Operation(end_lsn, body))
