"""Names of WAL files in the archives of other tools: what each says. Pure.

::

    SEGMENT                              archive_command = cp; Barman, compressed files too
    SEGMENT.gz .lz4 .zst .bz2 .xz        pg_receivewal, scripts, pgmoneta, barman-cloud
    SEGMENT.lz4 .zst .br .lzma .gz       wal-g, in wal_005/
    SEGMENT-SHA1[.gz .lz4 .zst .bz2]     pgBackRest, in TIMELINE and the upper half of the number
    SEGMENT.partial[...]                 the end of a timeline that was left, a receiver's open file

The same for history files and the history files of backups.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# What files are packed with, by suffix. Those of a store are ``segments.compression.SUFFIXES``.
PACKINGS = (".gz", ".lz4", ".zst", ".bz2", ".xz", ".lzma", ".br")

_PACKING = "|".join(re.escape(suffix) for suffix in PACKINGS)
_NAME = re.compile(
    rf"(?P<stem>[0-9A-F]{{24}}|[0-9A-F]{{8}}\.history|[0-9A-F]{{24}}\.[0-9A-F]{{8}}\.backup)"
    rf"(?P<partial>\.partial)?(?:-(?P<sha1>[0-9a-f]{{40}}))?(?P<packing>{_PACKING})?"
    rf"(?P<open>\.partial)?"
)


class ArchivedName(NamedTuple):
    """What the name of a file in an archive says.

    ``stem`` is what PostgreSQL called it, without ``.partial``. ``packing`` is the suffix of its
    compression, "" where the name has none. ``sha1`` is that of its plain content.
    """

    stem: str
    partial: bool
    packing: str
    sha1: str | None

    @property
    def is_segment(self) -> bool:
        return len(self.stem) == 24

    @property
    def is_history(self) -> bool:
        return self.stem.endswith(".history")


def parse_archived_name(name: str) -> ArchivedName | None:
    """Returns what the name of a file says, None where no archive calls WAL so."""
    match = _NAME.fullmatch(name)
    if match is None or (match["partial"] and match["open"]):
        return None
    partial = bool(match["partial"] or match["open"])
    if partial and len(match["stem"]) != 24:
        return None
    return ArchivedName(match["stem"], partial, match["packing"] or "", match["sha1"])
