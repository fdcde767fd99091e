"""Sizes of WAL segments (xlog_internal.h): powers of two from 1 MB to 1 GB."""

from __future__ import annotations

MIN_SEGMENT_SIZE = 1 << 20
MAX_SEGMENT_SIZE = 1 << 30
DEFAULT_SEGMENT_SIZE = 16 << 20


def is_valid_segment_size(size: int) -> bool:
    """Returns whether ``size`` is a power of two in [1 MB, 1 GB] (IsValidWalSegSize)."""
    return MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE and size & (size - 1) == 0
