"""Progress of replication origins: the file pg_logical/replorigin_checkpoint (origin.c). Pure.

u32 magic; entries of 16 bytes (u16 origin, 6 padding, u64 remote LSN); CRC-32C of all before.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from walstream.errors import StoreError
from walstream.wal.crc import crc32c

MAGIC = 0x1257DADE

_WORD = Struct("<I")
_ENTRY = Struct("<H6xQ")


def parse_origins(data: bytes, where: str) -> dict[int, int]:
    """Returns origin -> remote LSN; ``where`` is the file that is told of.

    Raises:
        StoreError: it is not such a file.
    """
    if len(data) < 8 or (len(data) - 8) % _ENTRY.size or _WORD.unpack_from(data)[0] != MAGIC:
        raise StoreError(f"{where}: malformed file of {len(data)} bytes", where)
    if _WORD.unpack_from(data, len(data) - 4)[0] != crc32c(data[:-4]):
        raise StoreError(f"{where}: CRC does not match", where)
    return dict(_ENTRY.iter_unpack(data[4:-4]))


def encode_origins(origins: Mapping[int, int]) -> bytes:
    """Returns the content of the file."""
    data = _WORD.pack(MAGIC) + b"".join(_ENTRY.pack(*item) for item in origins.items())
    return data + _WORD.pack(crc32c(data))
