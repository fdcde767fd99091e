"""Reads the redo cases of ``tests/data/redo_pg15.xz`` (see the README there)."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path
from struct import Struct
from typing import NamedTuple

DATA = Path(__file__).parent.parent / "data"
_HEADER = Struct("<HIH")


class RedoCase(NamedTuple):
    """One request and the page that PostgreSQL's own redo code made of it."""

    name: str
    rmgr: int
    request: bytes
    page: bytes


@cache
def redo_cases() -> tuple[RedoCase, ...]:
    data = lzma.decompress((DATA / "redo_pg15.xz").read_bytes())
    cases = []
    at = 0
    while at < len(data):
        name_length, length, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = data[at : at + name_length].decode()
        at += name_length
        request = data[at : at + length]
        at += length
        page = data[at : at + 8192]
        at += 8192
        cases.append(RedoCase(name, int(name.split("/")[0]), request, page))
    return tuple(cases)


def without_checksum(page: bytes) -> bytes:
    return page[:8] + b"\0\0" + page[10:]
