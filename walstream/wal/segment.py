"""Segment numbers, file names and offsets (XLogFileName and friends of xlog_internal.h).

Segment sizes are powers of two from 1 MB to 1 GB. All arithmetic is on plain integers: segment
numbers need 64 bits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MIN_SEGMENT_SIZE = 1 << 20
MAX_SEGMENT_SIZE = 1 << 30
DEFAULT_SEGMENT_SIZE = 16 << 20

_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


class SegmentName(NamedTuple):
    """What a segment file name says: timeline and segment number."""

    timeline: int
    segment_number: int


def is_valid_segment_size(size: int) -> bool:
    """Returns whether ``size`` is a power of two in [1 MB, 1 GB] (IsValidWalSegSize)."""
    return MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE and size & (size - 1) == 0


def segment_number(lsn: int, segment_size: int) -> int:
    """Returns the segment that holds the byte at ``lsn`` (XLByteToSeg)."""
    return lsn // segment_size


def segment_file_name(timeline: int, number: int, segment_size: int) -> str:
    """Returns the file name ``TTTTTTTTXXXXXXXXYYYYYYYY`` of a segment (XLogFileName)."""
    per_id = (1 << 32) // segment_size
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def parse_segment_file_name(name: str, segment_size: int) -> SegmentName | None:
    """Returns what a plain segment file name says, or None where it is not one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    per_id = (1 << 32) // segment_size
    low = int(match[3], 16)
    if low >= per_id:
        return None
    return SegmentName(int(match[1], 16), int(match[2], 16) * per_id + low)


def history_file_name(timeline: int) -> str:
    """Returns ``TTTTTTTT.history`` (TLHistoryFileName)."""
    return f"{timeline:08X}.history"


def parse_history_file_name(name: str) -> int | None:
    """Returns the timeline of a history file name, or None where it is not one."""
    match = _HISTORY.fullmatch(name)
    return int(match[1], 16) if match else None
