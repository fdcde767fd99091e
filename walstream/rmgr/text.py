"""A line buffer that grows, with the ways that pg_waldump prints numbers. A kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import move, writable_of


class Text:
    """A line buffer that grows: ``store[:used]`` is what was written since ``clear``."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.used = 0
        self.room = size
        self.store = bytearray(size)
        self.p = writable_of(self.store)

    def clear(self) -> None:
        self.used = 0

    def cut(self, used: int) -> None:
        """Forgets what was written behind the first ``used`` bytes."""
        if 0 <= used <= self.used:
            self.used = used

    def is_plain(self, at: int) -> bool:
        """Returns whether what was written from ``at`` on is ASCII that JSON takes as it is."""
        for i in range(at, self.used):
            value = self.p[i]
            if value < 32 or value >= 127 or value == 34 or value == 92:
                return False
        return True

    def value(self) -> bytes:
        """Returns a copy of what was written."""
        return bytes(self.store[: self.used])

    def put_bytes(self, data: bytes) -> None:
        """Appends bytes of Python."""
        raw = data
        self.put(raw, 0, len(data))

    def need(self, count: int) -> int:
        """Makes room for ``count`` more bytes."""
        if self.room - self.used < count:
            grown = bytearray(2 * self.room + count)
            grown[: self.used] = self.store[: self.used]
            self.store = grown
            self.room = len(grown)
            self.p = writable_of(grown)
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
