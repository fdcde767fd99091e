"""Prints the description of a record: runs the compiled templates of one major version.

``Text`` is the growing line buffer, ``Describer`` the interpreter; both are kernels, so that the
templates of op.py are the only copy of every description and still print at C speed. Operations
that a template cannot say call their Python function.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.rmgr.arrays import format_double
from walstream.rmgr.clock import POSTGRES_EPOCH_S, second_text
from walstream.rmgr.table import MODULES, operations
from walstream.rmgr.template import CALL, WIDTH, Pool, compile_template
from walstream.rmgr.view import View
from walstream.wal.record import RecordReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import move, u8, u16, u32, u64


class Text:
    """A line buffer that grows: ``store[:used]`` is what was written since ``clear``."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.used = 0
        self.room = size
        self.store = bytearray(size)
        self.attach(self.store)

    def attach(self, view: bytearray) -> None:
        if cython.compiled:
            self.p = cython.address(view[0])
        else:
            self.p = self.store

    def clear(self) -> None:
        self.used = 0

    def cut(self, used: int) -> None:
        """Forgets what was written behind the first ``used`` bytes."""
        if 0 <= used <= self.used:
            self.used = used

    def value(self) -> bytes:
        """Returns a copy of what was written."""
        return bytes(self.store[: self.used])

    def put_bytes(self, data: bytes) -> None:
        """Appends bytes of Python."""
        length = len(data)
        if length > 0:
            self.need(length)
            if cython.compiled:
                self.put_view(data)
            else:
                self.p[self.used : self.used + length] = data
                self.used += length

    def put_view(self, data: bytes) -> int:
        self.put(cython.address(data[0]), 0, len(data))
        return 0

    def need(self, count: int) -> int:
        """Makes room for ``count`` more bytes."""
        if self.room - self.used < count:
            grown = bytearray(2 * self.room + count)
            grown[: self.used] = self.store[: self.used]
            self.store = grown
            self.room = len(grown)
            self.attach(grown)
        return 0

    def put(self, p: Bytes, at: int, length: int) -> int:
        """Appends ``p[at:at + length]``."""
        self.need(length)
        move(self.p, self.used, p, at, length)
        self.used += length
        return 0

    def put_byte(self, value: int) -> int:
        self.need(1)
        self.p[self.used] = value
        self.used += 1
        return 0

    def put_unsigned(self, value: int, width: int) -> int:
        """Appends a decimal number, blanks in front up to ``width``."""
        self.need(32 + width)
        count = 1
        rest = value
        while rest >= 10:
            rest //= 10
            count += 1
        while width > count:
            self.p[self.used] = 32
            self.used += 1
            width -= 1
        at = self.used + count
        self.used = at
        while count > 0:
            at -= 1
            self.p[at] = 48 + value % 10
            value //= 10
            count -= 1
        return 0

    def put_signed(self, value: int) -> int:
        if value < 0:
            self.put_byte(45)
            return self.put_unsigned(-value, 0)
        return self.put_unsigned(value, 0)

    def put_padded(self, value: int, width: int) -> int:
        """Appends a decimal number, zeros in front up to ``width``."""
        self.need(32)
        at = self.used + width
        self.used = at
        while width > 0:
            at -= 1
            self.p[at] = 48 + value % 10
            value //= 10
            width -= 1
        return 0

    def put_hex(self, value: int, width: int) -> int:
        """Appends a number in capital hexadecimal, zeros in front up to ``width``."""
        self.need(32)
        count = 1
        rest = value >> 4
        while rest > 0:
            rest >>= 4
            count += 1
        if count < width:
            count = width
        at = self.used + count
        self.used = at
        while count > 0:
            at -= 1
            digit = value & 15
            self.p[at] = digit + 48 if digit < 10 else digit + 55
            value >>= 4
            count -= 1
        return 0

    def put_lsn(self, lsn: int, width: int) -> int:
        """Appends ``X/X``; the second number at least ``width`` digits wide."""
        self.put_hex(lsn >> 32, 1)
        self.put_byte(47)
        return self.put_hex(lsn & 0xFFFFFFFF, width)


class Describer:
    """Names and descriptions of the records of one major version.

    ``describe`` writes what pg_waldump prints between the operation's name and the block
    references.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.calls: list[Callable[[View], str]] = []
        self.second = -1
        self.second_data = self.zone_data = b""
        pool = Pool()
        code = array("i")
        start = array("i", [-1] * (len(MODULES) * 16))
        for (rmgr_id, op_code), op in operations(version).items():
            start[rmgr_id * 16 + (op_code >> 4)] = len(code)
            code.extend((op.layout.size, 0, 0, 0, 0, 0))
            if isinstance(op.text, str):
                for instruction in compile_template(op.text, op.layout, pool):
                    code.extend(instruction)
            else:
                code.extend((CALL, 0, len(self.calls), 0, 0, 0))
                code.extend((0,) * WIDTH)
                self.calls.append(op.text)
        self.code = code
        self.start = start
        self.pool = bytes(pool.data) + b" "
        self.attach(self.pool)

    def describe_bytes(self, data: Bytes) -> bytes:
        """Returns the description of the raw record ``data``.

        Raises:
            RecordError: the record contradicts itself, or its body is too short.
        """
        reader = RecordReader(self.version)
        if reader.read_bytes(data) != 0:
            raise RecordError(reader.message())
        out = Text(256)
        if cython.compiled:
            self.describe(reader, cython.address(data[0]), 0, out)
        else:
            self.describe(reader, data, 0, out)
        return out.value()

    def attach(self, view: bytes) -> None:
        if cython.compiled:
            self.literals = cython.address(view[0])
        else:
            self.literals = view

    def describe(self, reader: RecordReader, p: Bytes, at: int, out: Text) -> int:
        """Appends the description of the record at ``p[at]`` that ``reader`` has taken apart.

        Raises:
            RecordError: the body is shorter than the operation says; nothing was appended for a
                body shorter than its fixed part.
        """
        rmgr = reader.rmgr
        if rmgr >= 22:
            out.put_bytes(b"rmid: ")
            return out.put_unsigned(rmgr, 0)
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
        pc += 6
        while self.code[pc] != 0:
            what = self.code[pc]
            place = main + self.code[pc + 1]
            a = self.code[pc + 2]
            b = self.code[pc + 3]
            if what == 1:  # LITERAL
                out.put(self.literals, a, b)
            elif what == 2:  # UNSIGNED of a bytes
                out.put_unsigned(self.number(p, place, a), 0)
            elif what == 3:  # SIGNED of a bytes
                out.put_signed(self.integer(p, place, a))
            elif what == 4:  # HEX2
                out.put_hex(u8(p, place), 2)
            elif what == 5:  # LSN
                out.put_lsn(u64(p, place), 1)
            elif what == 6:  # FULLXID
                out.put_unsigned(u32(p, place + 4), 0)
                out.put_byte(58)
                out.put_unsigned(u32(p, place), 0)
            elif what == 7:  # LOCATOR
                out.put_unsigned(u32(p, place), 0)
                out.put_byte(47)
                out.put_unsigned(u32(p, place + 4), 0)
                out.put_byte(47)
                out.put_unsigned(u32(p, place + 8), 0)
            elif what == 8:  # TID
                out.put_unsigned(u16(p, place) << 16 | u16(p, place + 2), 0)
                out.put_byte(47)
                out.put_unsigned(u16(p, place + 4), 0)
            elif what == 9:  # TIME
                self.put_time(self.integer(p, place, 8), out)
            elif what == 10:  # CHOICE by the bits a, then two literals
                if u8(p, place) & a:
                    out.put(self.literals, self.code[pc + 8], self.code[pc + 9])
                else:
                    out.put(self.literals, self.code[pc + 14], self.code[pc + 15])
                pc += 12
            elif what == 11:  # BITS: a names follow; b: joined by commas
                self.put_bits(u8(p, place), pc + 6, a, b, out)
                pc += 6 * a
            elif what == 12:  # ARRAY of items of a bytes, counted at b
                count = self.number(p, main + b, self.code[pc + 4])
                if count * a > end - place:
                    raise RecordError(f"record body too short: {count} items of {a} bytes")
                self.put_array(p, place, a, count, out)
            elif what == 13:  # TEXT up to a NUL or the end
                count = 0
                while place + count < end and u8(p, place + count) != 0:
                    count += 1
                out.put(p, place, count)
            elif what == 14:  # DOUBLE
                self.put_double(p, place, out)
            elif what == 15:  # NEEDS_DATA of block 0 for the rest
                if not self.has_data(reader):
                    return 0
            elif what == 16:  # CALL of a Python function
                self.call(reader, p, at, a, out)
            elif what == 17:  # NAME of a value below a, or the last of the literals
                count = u32(p, place)
                if count >= cython.cast(cython.uint, a):
                    count = a
                b = pc + 6 + 6 * count
                out.put(self.literals, self.code[b + 2], self.code[b + 3])
                pc += 6 * (a + 1)
            pc += 6
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
                out.put(self.literals, self.code[pc + 6 * i + 2], self.code[pc + 6 * i + 3])
                if not commas:
                    out.put_byte(32)
        return 0

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
