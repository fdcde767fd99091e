"""Prints records as the lines of pg_waldump, many at once (XLogDumpDisplayRecord).

``LineWriter`` is a kernel: it takes rows of ``RecordColumns``, reads the records where they lie and
puts the text into one buffer. What a record says comes from ``rmgr.program``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.rmgr.description import operation_name
from walstream.rmgr.program import Describer
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.text import Text
from walstream.wal.model import format_lsn
from walstream.wal.record import RecordReader

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
    from walstream.wal.model import RawRecord
if not cython.compiled:
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

_RMGRS = 256
# Numbers in ``places`` for each resource manager.
_PLACES = 34


class LineWriter:
    """Writes the lines of one major version into ``text``.

    Args:
        version: major version (14 to 18) whose pg_waldump is imitated.
        details: block references in full, one a line (``--bkp-details``).
    """

    def __init__(self, version: int, details: bool = False) -> None:
        self.version = version
        self.details = details
        self.text = Text(1 << 20)
        self.reader = RecordReader(version)
        self.describer = Describer(version)
        # Literal bytes of the resource managers met so far: the head of a line, then
        # ", desc: NAME " per operation. Two numbers each (position, length), 17 pairs a manager.
        self.places = array("i", [-1] * (_RMGRS * _PLACES))
        self.pool = b" "
        self.attach(self.pool)

    def meet(self, rmgr_id: int) -> int:
        """Puts the literals of a resource manager into the pool."""
        pool = bytearray(self.pool)
        names = [operation_name(self.version, rmgr_id, op) for op in range(0, 256, 16)]
        pieces = [f"rmgr: {rmgr_name(rmgr_id):<11} len (rec/tot): "]
        pieces += [f", desc: {name} " for name in names]
        place = rmgr_id * _PLACES
        for piece in pieces:
            raw = piece.encode()
            self.places[place] = len(pool)
            self.places[place + 1] = len(raw)
            pool += raw
            place += 2
        self.pool = bytes(pool)
        self.attach(self.pool)
        return 0

    def attach(self, view: bytes) -> None:
        if cython.compiled:
            self.literals = cython.address(view[0])
        else:
            self.literals = view

    def write_record(self, raw: RawRecord) -> None:
        """Appends the line of one record.

        Raises:
            RecordError: its block headers contradict one another.
        """
        self.write_bytes(raw.data, raw.start_lsn)

    def write_bytes(self, data: Bytes, start_lsn: int) -> int:
        if cython.compiled:
            return self.write(cython.address(data[0]), 0, len(data), start_lsn)
        return self.write(data, 0, len(data), start_lsn)

    def write_rows(
        self,
        rows: array[int],
        start_lsn: array[int],
        record_at: array[int],
        total_length: array[int],
        piece: Bytes,
        side: Bytes,
    ) -> None:
        """Appends the lines of some rows of ``RecordColumns``.

        ``record_at`` counts from the start of ``piece``, or, when negative, is the complement of
        an offset in ``side`` (WalScanner with ``keep_records``).
        """
        for i in range(len(rows)):
            row = rows[i]
            at = record_at[row]
            if cython.compiled:
                if at >= 0:
                    self.write(cython.address(piece[0]), at, total_length[row], start_lsn[row])
                else:
                    self.write(cython.address(side[0]), -1 - at, total_length[row], start_lsn[row])
            elif at >= 0:
                self.write(piece, at, total_length[row], start_lsn[row])
            else:
                self.write(side, -1 - at, total_length[row], start_lsn[row])

    def describe_rows(
        self,
        rows: array[int],
        start_lsn: array[int],
        record_at: array[int],
        total_length: array[int],
        piece: Bytes,
        side: Bytes,
        ends: array[int],
    ) -> None:
        """Appends the descriptions alone, as UTF-8 without anything between them.

        ``ends[i + 1]`` becomes where that of ``rows[i]`` ends.

        Raises:
            RecordError: block headers of a record contradict one another.
        """
        for i in range(len(rows)):
            row = rows[i]
            at = record_at[row]
            length = total_length[row]
            if cython.compiled:
                if at >= 0:
                    self.write_description(cython.address(piece[0]), at, length, start_lsn[row])
                else:
                    self.write_description(cython.address(side[0]), -1 - at, length, start_lsn[row])
            elif at >= 0:
                self.write_description(piece, at, length, start_lsn[row])
            else:
                self.write_description(side, -1 - at, length, start_lsn[row])
            ends[i + 1] = self.text.used

    def write_description(self, p: Bytes, at: int, length: int, start_lsn: int) -> int:
        out = self.text
        if self.reader.read(p, at, length) != 0:
            raise RecordError(
                f"{self.reader.message()} in record at {format_lsn(start_lsn)}", start_lsn
            )
        mark = out.used
        self.describe(p, at, out)
        if not out.is_plain(mark):
            # Names in it may be no UTF-8.
            text = bytes(out.store[mark : out.used]).decode("utf-8", "backslashreplace")
            out.cut(mark)
            out.put_bytes(text.encode())
        return 0

    def write(self, p: Bytes, at: int, length: int, start_lsn: int) -> int:
        reader = self.reader
        out = self.text
        if reader.read(p, at, length) != 0:
            raise RecordError(f"{reader.message()} in record at {format_lsn(start_lsn)}", start_lsn)
        fpi = 0
        for i in range(reader.block_count):
            if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
                fpi += reader.image_length[i]
        place = _PLACES * reader.rmgr
        if self.places[place] < 0:
            self.meet(reader.rmgr)
        out.put(self.literals, self.places[place], self.places[place + 1])
        out.put_unsigned(reader.total_length - fpi, 6)
        out.put_byte(47)
        out.put_unsigned(reader.total_length, 6)
        self.put_literal(b", tx: ", out)
        out.put_unsigned(reader.xid, 10)
        self.put_literal(b", lsn: ", out)
        out.put_lsn(start_lsn, 8)
        self.put_literal(b", prev ", out)
        out.put_lsn(reader.prev, 8)
        place += 2 + 2 * (reader.info >> 4)
        out.put(self.literals, self.places[place], self.places[place + 1])
        self.describe(p, at, out)
        if self.details:
            self.put_details(out)
        else:
            self.put_blocks(out)
        return out.put_byte(10)

    def describe(self, p: Bytes, at: int, out: Text) -> int:
        """Appends the description; of a body that is too short, a note instead."""
        mark = out.used
        try:
            self.describer.describe(self.reader, p, at, out)
        except RecordError as error:
            out.cut(mark)
            out.put_bytes(f"({error})".encode())
        return 0

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
