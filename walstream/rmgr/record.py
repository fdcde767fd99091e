"""A record of WAL as a Python program reads it: one object, taken apart as far as it is asked.

Most programs look at two or three things of each record and at more of a few. So a ``WalRecord``
keeps the bytes; its header is read in place, and blocks, fields and the description are made when
they are first asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from walstream.rmgr.clock import POSTGRES_EPOCH
from walstream.rmgr.description import describe, fields, operation_name
from walstream.rmgr.layout import Value
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.xact import ENDS, OP_MASK, XactEnd, parse_end
from walstream.wal.layout import RM_XACT_ID
from walstream.wal.model import BlockRef, RawRecord, XLogRecord, format_lsn
from walstream.wal.record import decode_wal_record


class WalRecord:
    """One record of WAL, whose every check has passed.

    Attributes:
        start_lsn, end_lsn: where its header begins, and its end aligned to 8 (the start of the
            next record; behind an XLOG_SWITCH that of the next segment).
        version: the major version of PostgreSQL that wrote it, 14 to 18.
        data: the record as it stands in WAL, header included, page headers removed.

    What is decoded can raise ``RecordError``: its CRC is right, but it is not what PostgreSQL of
    that version writes.
    """

    __slots__ = ("_decoded", "data", "end_lsn", "start_lsn", "version")

    def __init__(self, start_lsn: int, end_lsn: int, data: bytes, version: int) -> None:
        self.start_lsn = start_lsn
        self.end_lsn = end_lsn
        self.data = data
        self.version = version
        self._decoded: XLogRecord | None = None

    @property
    def decoded(self) -> XLogRecord:
        """The record with all its parts (DecodedXLogRecord)."""
        if self._decoded is None:
            raw = RawRecord(self.start_lsn, self.end_lsn, self.data)
            self._decoded = decode_wal_record(raw, self.version)
        return self._decoded

    @property
    def total_length(self) -> int:
        """Bytes of the record, header included (xl_tot_len)."""
        return len(self.data)

    @property
    def xid(self) -> int:
        """The transaction that wrote it, 0 where there was none."""
        return int.from_bytes(self.data[4:8], "little")

    @property
    def prev_lsn(self) -> int:
        """Where the record before it begins (xl_prev)."""
        return int.from_bytes(self.data[8:16], "little")

    @property
    def info(self) -> int:
        """The whole byte xl_info; the operation is ``info & 0xF0``."""
        return self.data[16]

    @property
    def rmgr_id(self) -> int:
        """The resource manager's number (xl_rmid)."""
        return self.data[17]

    @property
    def rmgr(self) -> str:
        """The resource manager's name, as pg_waldump prints it: ``Heap``, ``Transaction``."""
        return rmgr_name(self.data[17])

    @property
    def operation(self) -> str:
        """The operation's name, as pg_waldump prints it: ``INSERT+INIT``, ``COMMIT``."""
        return operation_name(self.version, self.data[17], self.data[16])

    @property
    def description(self) -> str:
        """What pg_waldump of that version prints behind ``desc:`` and the operation's name."""
        return describe(self.decoded, self.version)

    @property
    def fields(self) -> dict[str, Value]:
        """The body by the names of PostgreSQL's structs; empty where the operation is not known."""
        return fields(self.decoded, self.version)

    @property
    def blocks(self) -> tuple[BlockRef, ...]:
        """The blocks that it changed or refers to."""
        return self.decoded.blocks

    @property
    def main_data(self) -> bytes:
        """The operation's own data, beside that of its blocks."""
        return self.decoded.main_data

    @property
    def origin(self) -> int:
        """The replication origin that it came from, 0 for a session's own."""
        return self.decoded.origin

    @property
    def toplevel_xid(self) -> int:
        """The transaction that the subtransaction ``xid`` belongs to, where the record says so."""
        return self.decoded.toplevel_xid

    @property
    def xact_end(self) -> XactEnd | None:
        """What the end of a transaction says, its subtransactions and dropped files among it.

        None for all but COMMIT, ABORT and the two of a prepared transaction.
        """
        if self.rmgr_id != RM_XACT_ID or (self.info & OP_MASK) not in ENDS:
            return None
        return parse_end(self.main_data, self.info, self.version)

    @property
    def time(self) -> datetime | None:
        """When the transaction committed or aborted, as the server's clock said.

        None for other records, and for a time that ``datetime`` does not have.
        """
        end = self.xact_end
        if end is None:
            return None
        try:
            return POSTGRES_EPOCH + timedelta(microseconds=end.time_us)
        except OverflowError:
            return None

    def __repr__(self) -> str:
        where = format_lsn(self.start_lsn)
        return f"<WalRecord {where} {self.rmgr}/{self.operation} xid {self.xid}>"
