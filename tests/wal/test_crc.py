"""CRC-32C: hardware lanes, tables and the package agree at every length."""

from __future__ import annotations

import crc32c as package
import pytest

from tests.support.pure import pure
from walstream.wal import crc

# Around where the three lanes begin and end.
LENGTHS = [*range(80), 191, 192, 193, 383, 384, 385, 1535, 1536, 1537, 1728, 3072, 8192, 30001]


@pytest.mark.parametrize("module", [crc, pure("walstream.wal.crc")], ids=("installed", "pure"))
def test_agrees_with_the_package(module: object) -> None:
    for length in LENGTHS:
        data = bytes(at * 7 + (at >> 8) * 13 & 0xFF for at in range(length))
        for value in (0, 0x1234, 0xFFFFFFFF):
            expected = package.crc32c(data, value)
            assert module.crc32c(data, value) == expected  # type: ignore[attr-defined]
            assert module.crc32c_tables(data, value) == expected  # type: ignore[attr-defined]


def test_known_answer() -> None:
    assert crc.crc32c(b"123456789") == 0xE3069283
    assert crc.crc32c(b"") == 0
