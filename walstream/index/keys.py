"""The stored form of the index: its keys and values, big-endian. No other file knows it.

=========  =====================================================  ==================================
``b``      spc u32, db u32, rel u32, fork u8, block u32,          posting list: 9 bytes an entry:
           end LSN u64 of the first entry                         end - base u32, end - start u32,
                                                                  flags u8; base = LSN of the key
``s``      spc u32, db u32, rel u32, fork u8, end LSN u64         kind u8, blocks u32
``v``      as ``s``: only the changes that make older versions    as ``s``, then depth u32, parent
           of a block void (``voids.py``)                         LSN u64, jump LSN u64
``e``      end LSN u64                                            start LSN u64, rmgr u8, info u8,
                                                                  xid u32
``t``      time u64 (microseconds since 2000-01-01), end LSN u64  start LSN u64, xid u32, kind u8
``a``      spc u32, db u32, end LSN u64; db 0: the tablespace     kind u8, source spc u32, db u32
``m``      name                                                   value
=========  =====================================================  ==================================

Every key but those of ``m`` ends with an END LSN: ``PageIndex.take_back`` relies on it. An entry's
version is the END LSN of its record. A hot block costs one key a batch of ingest, not one a record.

The structs are for Python; the functions put the same bytes from compiled code (``postings.py``).
Each returns the length of what it put.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.wal.buffer import put8, put_be32, put_be64

BLOCK = Struct(">cIIIBI")
BLOCK_KEY = Struct(">cIIIBIQ")
ENTRY = Struct(">IIB")
SIZE_PREFIX = Struct(">cIIIB")
SIZE_KEY = Struct(">cIIIBQ")
SIZE = Struct(">BI")
VOID = Struct(">BIIQQ")
EVENT_KEY = Struct(">cQ")
EVENT = Struct(">QBBI")
TIME_KEY = Struct(">cQQ")
TIME = Struct(">QIB")
DATABASE_KEY = Struct(">cIIQ")
DATABASE = Struct(">BII")


def put_fork(p: Writable, space: int, spc: int, db: int, rel: int, fork: int) -> int:
    put8(p, 0, space)
    put_be32(p, 1, spc)
    put_be32(p, 5, db)
    put_be32(p, 9, rel)
    put8(p, 13, fork)
    return 14


def put_block(p: Writable, spc: int, db: int, rel: int, fork: int, block: int) -> int:
    """Puts a BLOCK, the part of a block's keys before the LSN."""
    put_fork(p, 0x62, spc, db, rel, fork)
    put_be32(p, 14, block)
    return 18


def put_entry(p: Writable, at: int, base: int, end_lsn: int, start_lsn: int, flags: int) -> int:
    """Puts an ENTRY at ``at``."""
    put_be32(p, at, (end_lsn - base) & 0xFFFFFFFF)
    put_be32(p, at + 4, (end_lsn - start_lsn) & 0xFFFFFFFF)
    put8(p, at + 8, flags)
    return 9


def put_size_key(p: Writable, spc: int, db: int, rel: int, fork: int, end_lsn: int) -> int:
    """Puts a SIZE_KEY."""
    put_fork(p, 0x73, spc, db, rel, fork)
    put_be64(p, 14, end_lsn)
    return 22


def put_size(p: Writable, kind: int, blocks: int) -> int:
    """Puts a SIZE."""
    put8(p, 0, kind)
    put_be32(p, 1, blocks)
    return 5


def put_event_key(p: Writable, end_lsn: int) -> int:
    """Puts an EVENT_KEY."""
    put8(p, 0, 0x65)
    put_be64(p, 1, end_lsn)
    return 9


def put_event(p: Writable, start_lsn: int, rmgr: int, info: int, xid: int) -> int:
    """Puts an EVENT."""
    put_be64(p, 0, start_lsn)
    put8(p, 8, rmgr)
    put8(p, 9, info)
    put_be32(p, 10, xid)
    return 14


def put_time_key(p: Writable, time_us: int, end_lsn: int) -> int:
    """Puts a TIME_KEY."""
    put8(p, 0, 0x74)
    put_be64(p, 1, time_us)
    put_be64(p, 9, end_lsn)
    return 17


def put_time(p: Writable, start_lsn: int, xid: int, kind: int) -> int:
    """Puts a TIME."""
    put_be64(p, 0, start_lsn)
    put_be32(p, 8, xid)
    put8(p, 12, kind)
    return 13
