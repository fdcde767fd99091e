"""The stored form of the index: its keys and values, big-endian. No other file knows it.

=========  =====================================================  ==================================
``b``      spc u32, db u32, rel u32, fork u8, block u32,          posting list: 9 bytes an entry:
           end LSN u64 of the first entry                         end - base u32, end - start u32,
                                                                  flags u8; base = LSN of the key
``s``      spc u32, db u32, rel u32, fork u8, end LSN u64         kind u8, blocks u32
``v``      as ``s``: only the changes that make older versions    as ``s``, then depth u32, parent
           of a block void (``voids.py``)                         LSN u64, jump LSN u64
``d``      spc u32, db u32, end LSN u64 of the first entry        changes before these since the
                                                                  last ``l`` u32; 14 bytes an entry,
                                                                  what ``s`` has, in WAL's order:
                                                                  end - base u32, rel u32, fork u8,
                                                                  kind u8, blocks u32
``l``      spc u32, db u32, end LSN u64                           all forks at that LSN, 9 bytes
                                                                  each: rel u32, fork u8, blocks u32
``a``      spc u32, db u32, end LSN u64; db 0: the tablespace     kind u8, source spc u32, db u32
``c``      end LSN u64 of the first entry                         ends of transactions, 21 bytes
                                                                  each, each number less that of the
                                                                  entry before: end LSN u32, length
                                                                  u32, xid u32, time u64; info u8
``x``      xid / 256 u32, end LSN u64 of the first entry          5 bytes an entry: xid mod 256 u8,
                                                                  end - base u32
``t``      time u64 (microseconds since 2000-01-01), end LSN u64  empty
``n``      name of a restore point, 0 u8, end LSN u64             start LSN u64, time u64
``e``      end LSN u64                                            start LSN u64, rmgr u8, info u8,
                                                                  xid u32
``w``      end LSN u64                                            start LSN u64, rmgr u8, kind u8
``h``      end LSN u64                                            start LSN u64, xid u32
``f``      start LSN u64 of a base backup, part u8, number u64,   a part of a folded state
           end LSN u64                                            (``state/snapshots.py``)
``m``      name                                                   value
=========  =====================================================  ==================================

Every key but those of ``m`` ends with an END LSN: ``PageIndex.take_back`` relies on it. An entry's
version is the END LSN of its record. A hot block costs one key a batch of ingest, not one a record.

``d`` and ``l`` under database 0 of a tablespace have its database directories, with the OID as
``rel``; under tablespace 0 they have the tablespaces. (Shared relations are database 0 of
tablespace 1664, which has no directories.)

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
DIRECTORY_KEY = Struct(">cIIQ")
COUNT = Struct(">I")
CHANGE = Struct(">IIBBI")
FORK = Struct(">IBI")
DATABASE = Struct(">BII")
ENDS_KEY = Struct(">cQ")
END = Struct(">IIIQB")
XIDS_KEY = Struct(">cIQ")
XID = Struct(">BI")
TIME_KEY = Struct(">cQQ")
NAMED = Struct(">QQ")
EVENT_KEY = Struct(">cQ")
EVENT = Struct(">QBBI")
WALL_KEY = Struct(">cQ")
WALL = Struct(">QBB")
MARK_KEY = Struct(">cQ")
MARK = Struct(">QI")
FOLDED_KEY = Struct(">cQBQQ")
# Not stored: how a digest tells a fork's growth (``digest.py``).
GROWTH = Struct(">IIIBQI")


def put_block(p: Writable, spc: int, db: int, rel: int, fork: int, block: int) -> int:
    """Puts a BLOCK, the part of a block's keys before the LSN."""
    put8(p, 0, 0x62)
    put_be32(p, 1, spc)
    put_be32(p, 5, db)
    put_be32(p, 9, rel)
    put8(p, 13, fork)
    put_be32(p, 14, block)
    return 18


def put_entry(p: Writable, at: int, base: int, end_lsn: int, start_lsn: int, flags: int) -> int:
    """Puts an ENTRY at ``at``."""
    put_be32(p, at, (end_lsn - base) & 0xFFFFFFFF)
    put_be32(p, at + 4, (end_lsn - start_lsn) & 0xFFFFFFFF)
    put8(p, at + 8, flags)
    return 9


def put_growth(
    p: Writable, at: int, spc: int, db: int, rel: int, fork: int, end_lsn: int, blocks: int
) -> int:
    """Puts a GROWTH at ``at``."""
    put_be32(p, at, spc)
    put_be32(p, at + 4, db)
    put_be32(p, at + 8, rel)
    put8(p, at + 12, fork)
    put_be64(p, at + 13, end_lsn)
    put_be32(p, at + 21, blocks)
    return 25


def put_end(
    p: Writable, at: int, lsn_step: int, length: int, xid_step: int, time_step: int, info: int
) -> int:
    """Puts an END at ``at``."""
    put_be32(p, at, lsn_step)
    put_be32(p, at + 4, length)
    put_be32(p, at + 8, xid_step)
    put_be64(p, at + 12, time_step)
    put8(p, at + 20, info)
    return 21


def put_xid(p: Writable, at: int, low: int, lsn_step: int) -> int:
    """Puts an XID at ``at``."""
    put8(p, at, low)
    put_be32(p, at + 1, lsn_step)
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
