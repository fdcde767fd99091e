"""Names of WAL files: how they are made, and what one says (XLogFileName and friends). Pure.

The one place that knows them. A segment is called ``TTTTTTTTXXXXXXXXYYYYYYYY`` (timeline, two
halves of its number). ``.partial`` says that it was not completed, ``.gz``, ``.lz4`` and ``.zst``
that it is compressed. ``.gz.partial`` is what a receiver calls its open file, ``.partial.gz`` what
one that was compressed by hand has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from walstream.segments.compression import SUFFIXES

PARTIAL = ".partial"
# Behind .partial: a file that is not to be taken for WAL yet. A crash may leave one.
AHEAD = ".tmp"

# What may follow the 24 digits, those that are taken first in front: a complete file before an
# unfinished one, a plain one before a compressed one. (suffix, compression, partial)
COMPLETE = tuple((suffix, suffix, False) for suffix in SUFFIXES)
UNFINISHED = (
    *((suffix + PARTIAL, suffix, True) for suffix in SUFFIXES),
    *((PARTIAL + suffix, suffix, True) for suffix in SUFFIXES if suffix),
)
KINDS = COMPLETE + UNFINISHED
_KIND_OF = {ending: (compression, partial) for ending, compression, partial in KINDS}

_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})((?:\.[a-z0-9]+)*)")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history((?:\.[a-z0-9]+)?)")
_BACKUP_HISTORY = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup")


class SegmentName(NamedTuple):
    """What the name of a segment's file says.

    ``log`` and ``seg`` are the two halves of its number, whose meaning depends on the size of
    segments. ``compression`` is the suffix of it, "" for a plain file.
    """

    name: str
    timeline: int
    log: int
    seg: int
    compression: str
    partial: bool

    def number(self, segment_size: int) -> int | None:
        """Returns the segment's number; None where there is none such of that size."""
        per_id = (1 << 32) // segment_size
        return self.log * per_id + self.seg if self.seg < per_id else None

    @property
    def stem(self) -> str:
        """The name of the same segment as a plain complete file."""
        return self.name[:24]


class HistoryName(NamedTuple):
    """What the name of a timeline history file says."""

    name: str
    timeline: int
    compression: str


def segment_file_name(timeline: int, number: int, segment_size: int) -> str:
    """Returns the file name ``TTTTTTTTXXXXXXXXYYYYYYYY`` of a segment (XLogFileName)."""
    per_id = (1 << 32) // segment_size
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def parse_segment_name(name: str) -> SegmentName | None:
    """Returns what a file name says, None where it is no segment's."""
    match = _SEGMENT.fullmatch(name)
    kind = _KIND_OF.get(match[4]) if match else None
    if match is None or kind is None:
        return None
    return SegmentName(name, int(match[1], 16), int(match[2], 16), int(match[3], 16), *kind)


def segment_number(name: str, segment_size: int) -> int | None:
    """Returns the number of the segment that a file name says, None where it says none."""
    parsed = parse_segment_name(name)
    return None if parsed is None else parsed.number(segment_size)


def segment_names(
    timeline: int,
    number: int,
    segment_size: int,
    kinds: tuple[tuple[str, str, bool], ...] = KINDS,
) -> Iterator[SegmentName]:
    """Yields the names that a segment of a timeline may have, those to be taken first in front."""
    per_id = (1 << 32) // segment_size
    log, seg = divmod(number, per_id)
    stem = f"{timeline:08X}{log:08X}{seg:08X}"
    for ending, compression, partial in kinds:
        yield SegmentName(stem + ending, timeline, log, seg, compression, partial)


def history_file_name(timeline: int) -> str:
    """Returns ``TTTTTTTT.history`` (TLHistoryFileName)."""
    return f"{timeline:08X}.history"


def parse_history_name(name: str) -> HistoryName | None:
    """Returns what a file name says, None where it is no history file's (IsTLHistoryFileName)."""
    match = _HISTORY.fullmatch(name)
    if match is None or match[2] not in SUFFIXES:
        return None
    return HistoryName(name, int(match[1], 16), match[2])


def is_archive_name(name: str) -> bool:
    """Returns whether PostgreSQL's archiver uses a name: ``%f`` of archive_command.

    That is a segment, one that ended a timeline (``.partial``), a timeline's history, a backup's
    (IsBackupHistoryFileName).
    """
    segment, history = parse_segment_name(name), parse_history_name(name)
    if segment is not None:
        return not segment.compression
    if history is not None:
        return not history.compression
    return _BACKUP_HISTORY.fullmatch(name) is not None


def compression_of(name: str) -> str:
    """Returns the suffix of the compression that the name of any file of WAL says, "" for none."""
    stem = name.removesuffix(PARTIAL)
    return next((suffix for suffix in SUFFIXES if suffix and stem.endswith(suffix)), "")
