"""Reads and writes little integers in raw bytes; the uncompiled form of ``buffer.pxd``.

Every kernel reads WAL and pages through these names. Compiled kernels take the inline functions
of ``buffer.pxd``, where ``p`` is a C pointer; uncompiled ones take the functions here, where ``p``
is ``bytes``, ``bytearray`` or a ``memoryview``. Both mean the same. ``at`` is an offset in bytes.
Nothing here checks bounds: a kernel checks every length and offset that comes from the bytes
before it reads. Writers take values already masked to their width.
"""

from __future__ import annotations

from array import array
from mmap import mmap
from struct import Struct

Bytes = bytes | bytearray | memoryview | mmap
Writable = bytearray | memoryview

_U16 = Struct("<H")
_U32 = Struct("<I")
_U64 = Struct("<Q")
_BE32 = Struct(">I")
_BE64 = Struct(">Q")
_F64 = Struct("<d")


def _checked(data: Bytes | array[int], item: str) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    if view.ndim != 1 or view.format != item:
        raise ValueError(
            f"buffer: expected one dimension of format {item!r}, got {view.ndim} of {view.format!r}"
        )
    return view


def bytes_of(data: Bytes) -> Bytes:
    """Returns ``p`` for the bytes of ``data``: itself, and compiled a pointer into it.

    The pointer is good as long as the caller holds ``data`` and nobody resizes it.

    Raises:
        TypeError, BufferError, ValueError: not a contiguous buffer of unsigned bytes.
    """
    _checked(data, "B")
    return data


def writable_of(data: Writable) -> Writable:
    """Returns ``p`` for bytes to be changed; see ``bytes_of``.

    Raises:
        TypeError, BufferError, ValueError: not a contiguous writable buffer of unsigned bytes.
    """
    if _checked(data, "B").readonly:
        raise BufferError("Object is not writable.")
    return data


def ints_of(data: array[int]) -> array[int]:
    """Returns ``p`` for the items of an ``array("i")``; see ``bytes_of``."""
    _checked(data, "i")
    return data


def u8(p: Bytes, at: int) -> int:
    return p[at]


def u16(p: Bytes, at: int) -> int:
    return p[at] | p[at + 1] << 8


def u32(p: Bytes, at: int) -> int:
    value: int = _U32.unpack_from(p, at)[0]
    return value


def u64(p: Bytes, at: int) -> int:
    value: int = _U64.unpack_from(p, at)[0]
    return value


def be32(p: Bytes, at: int) -> int:
    value: int = _BE32.unpack_from(p, at)[0]
    return value


def be64(p: Bytes, at: int) -> int:
    value: int = _BE64.unpack_from(p, at)[0]
    return value


def f64(p: Bytes, at: int) -> float:
    value: float = _F64.unpack_from(p, at)[0]
    return value


def put_f64(p: Writable, at: int, value: float) -> None:
    _F64.pack_into(p, at, value)


def put8(p: Writable, at: int, value: int) -> None:
    p[at] = value


def put16(p: Writable, at: int, value: int) -> None:
    _U16.pack_into(p, at, value)


def put32(p: Writable, at: int, value: int) -> None:
    _U32.pack_into(p, at, value)


def put64(p: Writable, at: int, value: int) -> None:
    _U64.pack_into(p, at, value)


def put_be32(p: Writable, at: int, value: int) -> None:
    _BE32.pack_into(p, at, value)


def put_be64(p: Writable, at: int, value: int) -> None:
    _BE64.pack_into(p, at, value)


def cut(p: Bytes, at: int, length: int) -> bytes:
    """Returns a copy of ``length`` bytes."""
    return bytes(p[at : at + length])


def unset(size: int) -> bytearray:
    """Returns a bytearray whose bytes mean nothing: they are to be written."""
    return bytearray(size)


def move(target: Writable, target_at: int, source: Bytes, source_at: int, length: int) -> None:
    """Copies ``length`` bytes; the ranges may overlap (memmove)."""
    target[target_at : target_at + length] = bytes(source[source_at : source_at + length])


def fill(p: Writable, at: int, length: int, value: int) -> None:
    """Sets ``length`` bytes to ``value`` (memset)."""
    p[at : at + length] = bytes((value,)) * length


def equal(a: Bytes, a_at: int, b: Bytes, b_at: int, length: int) -> bool:
    """Returns whether two ranges hold the same bytes (memcmp)."""
    return a[a_at : a_at + length] == b[b_at : b_at + length]


def resize(p: bytearray, size: int) -> bytearray | None:
    """Makes ``p`` at least ``size`` bytes long and returns it; compiled, None for no memory."""
    if size > len(p):
        p.extend(bytes(size - len(p)))
    return p


def release(p: bytearray) -> None:
    """Frees memory that ``resize`` gave (realloc and free; uncompiled nothing to do)."""
