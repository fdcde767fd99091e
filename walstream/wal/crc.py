"""CRC-32C of ranges of bytes: hardware or tables in kernels, the ``crc32c`` package otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    import crc32c as _package

    from walstream.wal.buffer import bytes_of
    from walstream.wal.layout import SizeOfXLogRecord, xl_crc

    def prepare_crc() -> int:
        """Makes the tables of ``crc32c.h``; nothing to do uncompiled."""
        return 1

    def crc32c_of(value: int, p: Bytes, at: int, length: int) -> int:
        """Returns the CRC-32C of what came before (``value``) and ``p[at:at+length]``."""
        return int(_package.crc32c(memoryview(p)[at : at + length], value))

    def record_crc(p: Bytes, at: int, total: int) -> int:
        """Returns the CRC-32C of a record: what follows its header, then the header before it."""
        return crc32c_of(
            crc32c_of(0, p, at + SizeOfXLogRecord, total - SizeOfXLogRecord), p, at, xl_crc
        )

    crc32c_by_tables = crc32c_of

prepare_crc()


def crc32c(data: Bytes, value: int = 0) -> int:
    """Returns the CRC-32C of ``data``, continuing ``value``."""
    return crc32c_of(value, bytes_of(data), 0, len(data))


def crc32c_tables(data: Bytes, value: int = 0) -> int:
    """Returns the same from the tables, which processors without the instructions take."""
    return crc32c_by_tables(value, bytes_of(data), 0, len(data))
