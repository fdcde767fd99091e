"""Prints the description of a record: runs the compiled templates of one major version.

``Describer`` is a kernel, so that the templates of op.py are the only copy of every description and
still print at C speed. Operations that a template cannot say call their Python function.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.rmgr.arrays import format_double
from walstream.rmgr.clock import second_text
from walstream.rmgr.rmgrlist import RMGRS
from walstream.rmgr.table import operations_of
from walstream.rmgr.template import Pool, compile_template
from walstream.rmgr.text import Text
from walstream.rmgr.view import View
from walstream.wal.model import POSTGRES_EPOCH_S
from walstream.wal.record import RecordReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.rmgr.heap.effects import PruneParts
    from walstream.rmgr.heap.layout import (
        SizeOfFreezePlan,
        xlhp_freeze_plan_ntuples,
        xlhp_freeze_plan_t_infomask,
        xlhp_freeze_plan_t_infomask2,
        xlhp_freeze_plan_xmax,
    )
    from walstream.rmgr.instructions import (
        ARRAY,
        BITS,
        BLOCK_NUMBER,
        CALL,
        CALL_END,
        CHOICE,
        DOUBLE,
        END,
        FULLXID,
        HEX2,
        LITERAL,
        LOCATOR,
        LSN,
        NAME,
        NEEDS_DATA,
        PRUNE,
        SIGNED,
        TEXT,
        TID,
        TIME,
        UNSIGNED,
        WIDTH,
    )
    from walstream.wal.buffer import bytes_of, ints_of, u8, u16, u32, u64
    from walstream.wal.bufpage import block_at
    from walstream.wal.layout import RM_MAX_BUILTIN_ID, RM_XACT_ID
    from walstream.wal.opcodes import (
        XLHP_HAS_CONFLICT_HORIZON,
        XLHP_IS_CATALOG_REL,
    )

NONE = -1
UNMET = -2


class Describer:
    """Names and descriptions of the records of one major version.

    ``describe`` writes what pg_waldump prints between the operation's name and the block
    references; with ``fields`` the named fields of the body, as JSON without the braces.
    """

    def __init__(self, version: int, fields: bool = False) -> None:
        self.version = version
        self.fields = fields
        self.calls: list[Callable[[View], str]] = []
        self.second = -1
        self.second_data = self.zone_data = b""
        self.pruned = PruneParts()
        self.literal_pool = Pool()
        self.program = array("i", [0])
        self.code = ints_of(self.program)
        # Where the code of an operation begins; NONE: it has none, UNMET: its resource manager
        # was not needed yet.
        self.starts = array("i", [UNMET] * (len(RMGRS) * 16))
        self.start = ints_of(self.starts)
        self.pool = b" "
        self.literals = bytes_of(self.pool)

    def meet(self, rmgr_id: int) -> int:
        """Compiles the operations of a resource manager, of which the first record has come."""
        code = array("i", self.program)
        time_first: object = None
        time_alone = 0
        if self.fields:
            from walstream.rmgr.jsonfields import fields_text
        if rmgr_id == RM_XACT_ID:
            # Most commits tell their time and nothing more.
            from walstream.rmgr.xact import HAS_DBINFO, describe_end

            time_first, time_alone = describe_end, HAS_DBINFO
        for op_code in range(0, 256, 16):
            place = rmgr_id * 16 + (op_code >> 4)
            op = operations_of(self.version, rmgr_id).get(op_code)
            if op is None:
                self.starts[place] = NONE
                continue
            self.starts[place] = len(code)
            text = fields_text(op) if self.fields else op.text
            code.extend((op.layout.size, 0, 0, 0, 0, 0))
            if isinstance(text, str):
                for instruction in compile_template(text, op.layout, self.literal_pool):
                    code.extend(instruction)
            else:
                call = CALL_END if text is time_first else CALL
                code.extend((call, 0, len(self.calls), time_alone, 0, 0))
                code.extend((0,) * WIDTH)
                self.calls.append(text)
        self.program = code
        self.code = ints_of(code)
        self.pool = bytes(self.literal_pool.data) + b" "
        self.literals = bytes_of(self.pool)
        return 0

    def describe_bytes(self, data: Bytes) -> bytes:
        """Returns the description of the raw record ``data``.

        Raises:
            RecordError: the record contradicts itself, or its body is too short.
        """
        reader = RecordReader(self.version)
        if reader.read_bytes(data) != 0:
            raise RecordError(reader.message())
        out = Text(256)
        self.describe(reader, bytes_of(data), 0, out)
        return out.value()

    def describe(self, reader: RecordReader, p: Bytes, at: int, out: Text) -> int:
        """Appends the description of the record at ``p[at]`` that ``reader`` has taken apart.

        Raises:
            RecordError: the body is shorter than the operation says; nothing was appended for a
                body shorter than its fixed part.
        """
        rmgr = reader.rmgr
        if rmgr > RM_MAX_BUILTIN_ID and self.fields:
            return 0
        if rmgr > RM_MAX_BUILTIN_ID:
            out.put_bytes(b"rmid: ")
            return out.put_unsigned(rmgr, 0)
        pc = self.start[rmgr * 16 + (reader.info >> 4)]
        if pc == UNMET:
            self.meet(rmgr)
            pc = self.start[rmgr * 16 + (reader.info >> 4)]
        if pc < 0:
            return 0
        main = reader.main_at
        end = main + reader.main_length
        if reader.main_length < self.code[pc]:
            raise RecordError(
                f"record body too short: expected at least {self.code[pc]} bytes, "
                f"got {reader.main_length}"
            )
        pc += WIDTH
        while self.code[pc] != END:
            what = self.code[pc]
            place = main + self.code[pc + 1]
            a = self.code[pc + 2]
            b = self.code[pc + 3]
            if what == LITERAL:
                out.put(self.literals, a, b)
            elif what == UNSIGNED:
                out.put_unsigned(self.number(p, place, a), 0)
            elif what == SIGNED:
                out.put_signed(self.integer(p, place, a))
            elif what == HEX2:
                out.put_hex(u8(p, place), 2)
            elif what == LSN:
                out.put_lsn(u64(p, place), 1)
            elif what == FULLXID:
                out.put_unsigned(u32(p, place + 4), 0)
                out.put_byte(58)
                out.put_unsigned(u32(p, place), 0)
            elif what == LOCATOR:
                out.put_unsigned(u32(p, place), 0)
                out.put_byte(47)
                out.put_unsigned(u32(p, place + 4), 0)
                out.put_byte(47)
                out.put_unsigned(u32(p, place + 8), 0)
            elif what == TID:
                out.put_unsigned(block_at(p, place), 0)
                out.put_byte(47)
                out.put_unsigned(u16(p, place + 4), 0)
            elif what == TIME:
                self.put_time(self.integer(p, place, 8), out)
            elif what == CHOICE:
                if u8(p, place) & a:
                    out.put(self.literals, self.code[pc + WIDTH + 2], self.code[pc + WIDTH + 3])
                else:
                    out.put(
                        self.literals, self.code[pc + 2 * WIDTH + 2], self.code[pc + 2 * WIDTH + 3]
                    )
                pc += 2 * WIDTH
            elif what == BITS:
                self.put_bits(u8(p, place), pc + WIDTH, a, b, out)
                pc += WIDTH * a
            elif what == ARRAY:
                count = self.number(p, main + b, self.code[pc + 4])
                if count * a > end - place:
                    raise RecordError(f"record body too short: {count} items of {a} bytes")
                self.put_array(p, place, a, count, out)
            elif what == TEXT:
                count = 0
                while place + count < end and u8(p, place + count) != 0:
                    count += 1
                out.put(p, place, count)
            elif what == DOUBLE:
                self.put_double(p, place, out)
            elif what == NEEDS_DATA:
                if not self.has_data(reader):
                    return 0
            elif what == CALL:
                self.call(reader, p, at, a, out)
            elif what == NAME:
                count = u32(p, place)
                if count >= cython.cast(cython.uint, a):
                    count = a
                b = pc + WIDTH * (count + 1)
                out.put(self.literals, self.code[b + 2], self.code[b + 3])
                pc += WIDTH * (a + 1)
            elif what == PRUNE:
                self.put_prune(reader, p, out)
            elif what == CALL_END:
                if reader.main_length >= 20 and u32(p, main + 8) == cython.cast(cython.uint, b):
                    self.put_time(self.integer(p, main, 8), out)
                else:
                    self.call(reader, p, at, a, out)
            elif what == BLOCK_NUMBER:
                out.put_unsigned(block_at(p, place), 0)
            pc += WIDTH
        return 0

    def number(self, p: Bytes, at: int, size: int) -> int:
        if size == 1:
            return u8(p, at)
        if size == 2:
            return u16(p, at)
        if size == 4:
            return u32(p, at)
        return u64(p, at)

    def integer(self, p: Bytes, at: int, size: int) -> int:
        value = self.number(p, at, size)
        if size == 1:
            return value - 0x100 if value >= 0x80 else value
        if size == 4:
            # Two steps, since a literal above 31 bits is a Python object.
            return value - 0x7FFFFFFF - 0x7FFFFFFF - 2 if value >> 31 else value
        if not cython.compiled and value >= 1 << 63:
            return value - (1 << 64)
        return value

    def has_data(self, reader: RecordReader) -> bool:
        # Block ids ascend: block 0, where there is one, is the first.
        return reader.block_count > 0 and reader.block_id[0] == 0 and reader.data_length[0] > 0

    def put_bits(self, value: int, pc: int, count: int, commas: int, out: Text) -> int:
        some = False
        for i in range(count):
            if value >> i & 1:
                if some and commas:
                    out.put_byte(44)
                    out.put_byte(32)
                some = True
                out.put(self.literals, self.code[pc + WIDTH * i + 2], self.code[pc + WIDTH * i + 3])
                if not commas:
                    out.put_byte(32)
        return 0

    def put_prune(self, reader: RecordReader, p: Bytes, out: Text) -> int:
        """Appends all of a PRUNE of 17 and later but the name; see ``PruneParts``."""
        at = reader.main_at
        flags = u8(p, at + 1)
        if flags & XLHP_HAS_CONFLICT_HORIZON:
            if reader.main_length < 6:
                raise RecordError("record body too short: no conflict horizon")
            out.put_bytes(b"snapshotConflictHorizon: ")
            out.put_unsigned(u32(p, at + 2), 0)
        if flags & XLHP_IS_CATALOG_REL:
            out.put_bytes(b", isCatalogRel: T")
        else:
            out.put_bytes(b", isCatalogRel: F")
        if not self.has_data(reader):
            return 0
        parts = self.pruned
        at = reader.data_at[0]
        if parts.find(p, at, reader.data_length[0], flags) != 0:
            raise RecordError("record body too short: items beyond the data of block 0")
        out.put_bytes(b", nplans: ")
        out.put_unsigned(parts.plans, 0)
        out.put_bytes(b", nredirected: ")
        out.put_unsigned(parts.redirected, 0)
        out.put_bytes(b", ndead: ")
        out.put_unsigned(parts.dead, 0)
        out.put_bytes(b", nunused: ")
        out.put_unsigned(parts.unused, 0)
        if parts.plans > 0:
            out.put_bytes(b", plans: ")
            end = at + reader.data_length[0]
            self.put_plans(p, parts.plans_at, parts.plans, parts.offsets_at, end, out)
        if parts.redirected > 0:
            out.put_bytes(b", redirected: [")
            for i in range(parts.redirected):
                if i > 0:
                    out.put_bytes(b", ")
                out.put_unsigned(u16(p, parts.redirected_at + 4 * i), 0)
                out.put_bytes(b"->")
                out.put_unsigned(u16(p, parts.redirected_at + 4 * i + 2), 0)
            out.put_byte(93)
        if parts.dead > 0:
            out.put_bytes(b", dead: ")
            self.put_array(p, parts.dead_at, 2, parts.dead, out)
        if parts.unused > 0:
            out.put_bytes(b", unused: ")
            self.put_array(p, parts.unused_at, 2, parts.unused, out)
        return 0

    def put_plans(self, p: Bytes, at: int, count: int, offsets_at: int, end: int, out: Text) -> int:
        """Appends freeze plans; their offsets lie one after the other from ``offsets_at`` on."""
        out.put_byte(91)
        for i in range(count):
            tuples = u16(p, at + xlhp_freeze_plan_ntuples)
            if 2 * tuples > end - offsets_at:
                raise RecordError("record body too short: offsets beyond the data of block 0")
            if i > 0:
                out.put_bytes(b", ")
            out.put_bytes(b"{ xmax: ")
            out.put_unsigned(u32(p, at + xlhp_freeze_plan_xmax), 0)
            out.put_bytes(b", infomask: ")
            out.put_unsigned(u16(p, at + xlhp_freeze_plan_t_infomask), 0)
            out.put_bytes(b", infomask2: ")
            out.put_unsigned(u16(p, at + xlhp_freeze_plan_t_infomask2), 0)
            out.put_bytes(b", ntuples: ")
            out.put_unsigned(tuples, 0)
            out.put_bytes(b", offsets: ")
            self.put_array(p, offsets_at, 2, tuples, out)
            out.put_bytes(b" }")
            offsets_at += 2 * tuples
            at += SizeOfFreezePlan
        return out.put_byte(93)

    def put_array(self, p: Bytes, at: int, size: int, count: int, out: Text) -> int:
        out.put_byte(91)
        for i in range(count):
            if i > 0:
                out.put_byte(44)
                out.put_byte(32)
            out.put_unsigned(self.number(p, at + i * size, size), 0)
        return out.put_byte(93)

    def put_time(self, time_us: int, out: Text) -> int:
        # C division, towards zero; the smallest number has no positive counterpart.
        if time_us < 0:
            seconds = -(-(time_us + 1) // 1_000_000)
            rest = -(time_us + 1) % 1_000_000 + 1
            if rest == 1_000_000:
                seconds -= 1
                rest = 0
        else:
            seconds = time_us // 1_000_000
            rest = time_us % 1_000_000
        if seconds != self.second:
            text, zone = second_text(seconds + POSTGRES_EPOCH_S)
            self.second_data = f"{text}.".encode()
            self.zone_data = f" {zone}".encode()
            self.second = seconds
        out.put_bytes(self.second_data)
        if time_us < 0 and rest > 0:
            # %06d counts the sign.
            out.put_byte(45)
            out.put_padded(rest, 5 if rest < 100_000 else 6)
        else:
            out.put_padded(rest, 6)
        out.put_bytes(self.zone_data)
        return 0

    def put_double(self, p: Bytes, at: int, out: Text) -> int:
        out.put_bytes(format_double(u64(p, at)))
        return 0

    def call(self, reader: RecordReader, p: Bytes, at: int, index: int, out: Text) -> int:
        view = View(reader, bytes(p[at : at + reader.total_length]), at)
        text = self.calls[index](view)
        out.put_bytes(text.encode("utf-8", "backslashreplace"))
        return 0
