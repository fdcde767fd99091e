"""Directories of generated WAL for tests that read many segments."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from walstream.segments.names import segment_file_name
from walstream.wal.model import BufferTag, PageImage


def write_segments(directory: Path, data: bytes, first: int = 1, timeline: int = 1) -> None:
    """Writes WAL that starts at segment ``first`` as 1 MB files."""
    for at in range(0, len(data), SEGMENT):
        name = segment_file_name(timeline, first + at // SEGMENT, SEGMENT)
        (directory / name).write_bytes(data[at : at + SEGMENT])


def mixed_wal(segments: int = 4, version: int = 18) -> WalWriter:
    """WAL of inserts on three relations, images, commits; records cross every segment."""
    wal = WalWriter(version)
    number = 0
    while wal.lsn < (segments + 0.5) * SEGMENT:
        number += 1
        tag = BufferTag(1663, 5, 16384 + number % 3, 0, number % 50)
        image = None
        if number % 20 == 0:
            image = PageImage(bytes(8192 - 4000), 200, 4000, 0, True)
        body = record_body(version, [Block(0, tag, bytes(40), image)], bytes(3))
        wal.add(10, 0, 700 + number // 10, body)
        if number % 10 == 9:
            time_us = number * 50_000
            wal.add(1, 0, 700 + number // 10, record_body(version, (), struct.pack("<q", time_us)))
    return wal
