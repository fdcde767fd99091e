"""Prints records as the lines of pg_waldump (XLogDumpDisplayRecord).

``LineWriter`` is a kernel, as its base: see ``lines.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from walstream.rmgr.description import operation_name
from walstream.rmgr.rmgrlist import rmgr_name

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.dump.lines import RecordWriter
    from walstream.rmgr.text import Text
    from walstream.wal.bufpage import BLCKSZ
    from walstream.wal.layout import (
        BKPBLOCK_HAS_IMAGE,
        COMPRESSION_LZ4,
        COMPRESSION_NONE,
        COMPRESSION_PGLZ,
        FSM_FORKNUM,
        INIT_FORKNUM,
        MAIN_FORKNUM,
        VISIBILITYMAP_FORKNUM,
    )


class LineWriter(RecordWriter):
    """Writes the lines of one major version into ``text``.

    Args:
        version: major version (14 to 18) whose pg_waldump is imitated.
        details: block references in full, one a line (``--bkp-details``).
    """

    def __init__(self, version: int, details: bool = False) -> None:
        super().__init__(version)
        self.details = details

    def literals_of(self, rmgr_id: int) -> list[str]:
        names = [operation_name(self.version, rmgr_id, op) for op in range(0, 256, 16)]
        head = f"rmgr: {rmgr_name(rmgr_id):<11} len (rec/tot): "
        return [head, *(f", desc: {name} " for name in names)]

    def write(self, p: Bytes, at: int, start_lsn: int, _end_lsn: int) -> int:
        reader = self.reader
        out = self.text
        self.put_manager(out)
        out.put_unsigned(reader.total_length - self.image_bytes(), 6)
        out.put_byte(47)
        out.put_unsigned(reader.total_length, 6)
        self.put_literal(b", tx: ", out)
        out.put_unsigned(reader.xid, 10)
        self.put_literal(b", lsn: ", out)
        out.put_lsn(start_lsn, 8)
        self.put_literal(b", prev ", out)
        out.put_lsn(reader.prev, 8)
        self.put_operation(out)
        self.describe(p, at, out)
        if self.details:
            self.put_details(out)
        else:
            self.put_blocks(out)
        return out.put_byte(10)

    def put_literal(self, data: bytes, out: Text) -> int:
        out.put_bytes(data)
        return 0

    def put_reference(self, i: int, out: Text) -> int:
        """Appends ``blkref #0: rel 1663/5/16384``."""
        reader = self.reader
        self.put_literal(b"blkref #", out)
        out.put_unsigned(reader.block_id[i], 0)
        self.put_literal(b": rel ", out)
        out.put_unsigned(reader.block_spc[i], 0)
        out.put_byte(47)
        out.put_unsigned(reader.block_db[i], 0)
        out.put_byte(47)
        return out.put_unsigned(reader.block_rel[i], 0)

    def put_fork(self, fork: int, out: Text) -> int:
        if fork == MAIN_FORKNUM:
            return self.put_literal(b" fork main", out)
        if fork == FSM_FORKNUM:
            return self.put_literal(b" fork fsm", out)
        if fork == VISIBILITYMAP_FORKNUM:
            return self.put_literal(b" fork vm", out)
        if fork == INIT_FORKNUM:
            return self.put_literal(b" fork init", out)
        # forkNames has no such entry; PostgreSQL would print what lies behind it.
        self.put_literal(b" fork ", out)
        return out.put_unsigned(fork, 0)

    def put_blocks(self, out: Text) -> int:
        """Appends the block references in short."""
        reader = self.reader
        for i in range(reader.block_count):
            out.put_byte(44)
            out.put_byte(32)
            self.put_reference(i, out)
            if reader.block_fork[i] != MAIN_FORKNUM:
                self.put_fork(reader.block_fork[i], out)
            self.put_literal(b" blk ", out)
            out.put_unsigned(reader.block_number[i], 0)
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                self.put_literal(b" FPW", out)
                if not reader.image_apply[i]:
                    self.put_literal(b" for WAL verification", out)
        return 0

    def put_details(self, out: Text) -> int:
        """Appends the block references one a line, with their images."""
        reader = self.reader
        for i in range(reader.block_count):
            out.put_byte(10)
            out.put_byte(9)
            self.put_reference(i, out)
            self.put_fork(reader.block_fork[i], out)
            self.put_literal(b" blk ", out)
            out.put_unsigned(reader.block_number[i], 0)
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                self.put_image(i, out)
        return 0

    def put_image(self, i: int, out: Text) -> int:
        reader = self.reader
        self.put_literal(b" (FPW", out)
        if not reader.image_apply[i]:
            self.put_literal(b" for WAL verification", out)
        self.put_literal(b"); hole: offset: ", out)
        out.put_unsigned(reader.hole_offset[i], 0)
        self.put_literal(b", length: ", out)
        out.put_unsigned(reader.hole_length[i], 0)
        compression = reader.image_compression[i]
        if compression != COMPRESSION_NONE:
            self.put_literal(b", compression saved: ", out)
            # An unsigned 32-bit difference in PostgreSQL, too.
            saved = BLCKSZ - reader.hole_length[i] - reader.image_length[i]
            if not cython.compiled:
                saved &= 0xFFFFFFFF
            out.put_unsigned(saved, 0)
            if self.version >= 15:
                self.put_literal(b", method: ", out)
                if compression == COMPRESSION_PGLZ:
                    self.put_literal(b"pglz", out)
                elif compression == COMPRESSION_LZ4:
                    self.put_literal(b"lz4", out)
                else:
                    self.put_literal(b"zstd", out)
        return 0
