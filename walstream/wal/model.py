"""The words of WAL: positions, names of blocks, records. No behaviour beyond conversion."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple, NewType

from walstream.wal.bufpage import BLCKSZ as BLCKSZ

Lsn = NewType("Lsn", int)
"""A byte position in the WAL stream (XLogRecPtr). 0 is invalid."""


POSTGRES_EPOCH_S = 946_684_800
"""Seconds from 1970 to 2000, where the clock of TimestampTz begins (POSTGRES_EPOCH_JDATE)."""

POSTGRES_EPOCH_US = POSTGRES_EPOCH_S * 1_000_000

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def format_lsn(lsn: int) -> str:
    """Returns an LSN as PostgreSQL prints it (``%X/%X``), for example ``0/16B3748``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> Lsn:
    """Returns the LSN that ``text`` (``XXX/XXX``) names.

    Raises:
        ValueError: ``text`` is not an LSN.
    """
    match = _LSN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid LSN: expected XXX/XXX in hexadecimal, got {text!r}")
    return Lsn(int(match[1], 16) << 32 | int(match[2], 16))


class ForkNumber(IntEnum):
    """ForkNumber of relpath.h."""

    MAIN = 0
    FSM = 1
    VM = 2
    INIT = 3


FORK_NAMES = {"main": 0, "fsm": 1, "vm": 2, "init": 3}


class RelFileLocator(NamedTuple):
    """Physical name of a relation (RelFileLocator; RelFileNode before 16)."""

    spc_oid: int
    db_oid: int
    rel_number: int

    def __str__(self) -> str:
        return f"{self.spc_oid}/{self.db_oid}/{self.rel_number}"


class BufferTag(NamedTuple):
    """Physical name of one block (BufferTag of buf_internals.h, flattened)."""

    spc_oid: int
    db_oid: int
    rel_number: int
    fork: int
    block: int

    @property
    def locator(self) -> RelFileLocator:
        return RelFileLocator(self.spc_oid, self.db_oid, self.rel_number)


class WalChunk(NamedTuple):
    """WAL bytes ``[start_lsn, start_lsn + len(data))`` as one XLogData message brought them.

    ``server_end_lsn`` is the end of WAL on the server then; ``send_time_us`` is the server's
    clock in microseconds since 2000-01-01.
    """

    start_lsn: int
    data: bytes | memoryview
    server_end_lsn: int
    send_time_us: int


class RawRecord(NamedTuple):
    """One whole record, CRC checked, page headers removed.

    ``start_lsn`` is where its header begins, ``end_lsn`` the end aligned to 8 (EndRecPtr; for
    XLOG_SWITCH the start of the next segment). ``data`` is xl_tot_len bytes, header included.
    """

    start_lsn: int
    end_lsn: int
    data: bytes


class PageImage(NamedTuple):
    """A full-page image as it stands in a record, possibly compressed and with a hole.

    ``compression`` is 0 none, 1 pglz, 2 lz4, 3 zstd. ``apply`` is false for images that only
    wal_consistency_checking put there: they show the result and must not be restored.
    """

    data: bytes
    hole_offset: int
    hole_length: int
    compression: int
    apply: bool


class BlockRef(NamedTuple):
    """One block that a record refers to (DecodedBkpBlock).

    ``flags`` is the high nibble of fork_flags as it stands in the record (BKPBLOCK_*).
    """

    id: int
    tag: BufferTag
    flags: int
    will_init: bool
    image: PageImage | None
    data: bytes


class XLogRecord(NamedTuple):
    """A decoded record (DecodedXLogRecord).

    ``info`` is the whole xl_info byte; the operation is ``info & 0xF0``. ``data`` is the raw
    record, header included.
    """

    start_lsn: int
    end_lsn: int
    prev_lsn: int
    total_length: int
    xid: int
    rmgr_id: int
    info: int
    crc: int
    origin: int
    toplevel_xid: int
    blocks: tuple[BlockRef, ...]
    main_data: bytes
    data: bytes
