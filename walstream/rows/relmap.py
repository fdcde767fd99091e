"""pg_filenode.map (relmapper.c): the files of the catalogs that pg_class cannot name."""

from __future__ import annotations

from struct import Struct

from walstream.errors import RowDamaged

MAGIC = 0x592717
_HEADER = Struct("<ii")


def mapped_files(data: bytes) -> dict[int, int]:
    """Returns catalog oid -> file number.

    Magic i32, count i32, then pairs of oid u32 and file number u32; the rest is of no interest.

    Raises:
        RowDamaged: the bytes are no relation map.
    """
    if len(data) < _HEADER.size:
        raise RowDamaged(f"relation map of {len(data)} bytes")
    magic, count = _HEADER.unpack_from(data)
    if magic != MAGIC or not 0 <= 8 * count <= len(data) - _HEADER.size:
        raise RowDamaged(f"relation map: magic 0x{magic & 0xFFFFFFFF:X}, {count} entries")
    numbers = Struct(f"<{2 * count}I").unpack_from(data, _HEADER.size)
    return dict(zip(numbers[::2], numbers[1::2], strict=True))
