"""WAL that gc took away on purpose between moments that stay: ``wal/removed.toml``.

Where something older than the window is kept, a base backup and the WAL to its end, the WAL from
there to the window is gone, and nobody is to take that for damage: a receiver does not fetch it
again, no moment is promised there. What lies below everything that is kept is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from walstream.errors import ConfigError, LsnNotAvailable, StoreError
from walstream.segments.files import read_error
from walstream.store.file_layer import FileLayer, write_durably
from walstream.wal.model import format_lsn, parse_lsn
from walstream.wal.timeline import WalHole

if TYPE_CHECKING:
    from walstream.store.base_backup import BaseBackup  # what only receives starts without it

REMOVED = "removed.toml"


class RemovedWal(NamedTuple):
    """WAL ``[begin, end)`` that is not there any more."""

    begin: int
    end: int


def read_removed(wal_path: Path) -> tuple[RemovedWal, ...]:
    """Returns what was taken away of a directory of WAL, ascending.

    Raises:
        StoreError: the list is malformed.
        StorageError: it cannot be read.
    """
    path = wal_path / REMOVED
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise read_error("read", path, exc) from exc
    from walstream.toml import parse_toml

    try:
        ranges = [
            RemovedWal(parse_lsn(begin), parse_lsn(end))
            for begin, end in parse_toml(text, path)["removed"]
        ]
    except (ConfigError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(f"{path}: missing or malformed {exc}", str(path)) from exc
    return joined(ranges)


def write_removed(
    files: FileLayer, wal_path: Path, ranges: Sequence[RemovedWal], mode: int
) -> None:
    """Replaces the list, durably.

    Raises:
        StorageError: a system call failed; the list is as it was.
    """
    lines = "".join(
        f'    ["{format_lsn(each.begin)}", "{format_lsn(each.end)}"],\n' for each in ranges
    )
    text = (
        "# WAL that walstream gc took away, [begin, end) of each stretch; written by it.\n"
        f"removed = [\n{lines}]\n"
    )
    write_durably(files, wal_path / REMOVED, text.encode(), mode)


def joined(ranges: Iterable[RemovedWal]) -> tuple[RemovedWal, ...]:
    """Returns the same WAL as few ranges, ascending; empty ones are left out."""
    found: list[RemovedWal] = []
    for begin, end in sorted(ranges):
        if begin >= end:
            continue
        if found and begin <= found[-1].end:
            found[-1] = RemovedWal(found[-1].begin, max(found[-1].end, end))
        else:
            found.append(RemovedWal(begin, end))
    return tuple(found)


def without(ranges: Iterable[RemovedWal], away: Iterable[RemovedWal]) -> tuple[RemovedWal, ...]:
    """Returns ``ranges`` less all that is in ``away``."""
    rest = list(joined(ranges))
    for begin, end in joined(away):
        pieces = []
        for each in rest:
            pieces.append(RemovedWal(each.begin, min(each.end, begin)))
            pieces.append(RemovedWal(max(each.begin, end), each.end))
        rest = list(joined(pieces))
    return tuple(rest)


def unexplained(holes: Iterable[WalHole], removed: Sequence[RemovedWal]) -> list[WalHole]:
    """Returns what of the holes gc did not make."""
    return [
        WalHole(hole.timeline, begin, end)
        for hole in holes
        for begin, end in without([RemovedWal(hole.begin, hole.end)], removed)
    ]


class Moments(NamedTuple):
    """Moments that can be had: LSNs ``[from_lsn, to_lsn]``; ``to_lsn`` None: as far as WAL goes.

    ``base_lsn``: the lowest start of the base backups that they are made from.
    """

    from_lsn: int
    to_lsn: int | None
    base_lsn: int

    def __str__(self) -> str:
        begin = format_lsn(self.from_lsn)
        if self.to_lsn is None:
            return f"from {begin} on"
        return begin if self.to_lsn == self.from_lsn else f"{begin} to {format_lsn(self.to_lsn)}"

    def has(self, lsn: int) -> bool:
        """Returns whether an LSN is one of them."""
        return self.from_lsn <= lsn and (self.to_lsn is None or lsn <= self.to_lsn)


def answerable(backups: Iterable[BaseBackup], removed: Sequence[RemovedWal]) -> tuple[Moments, ...]:
    """Returns the moments that can be had, ascending, as far as gc decides.

    From each base backup on, up to the first WAL that was taken away behind where it begins.
    """
    found: list[Moments] = []
    for backup in sorted(backups, key=lambda each: (each.stop_lsn, each.start_lsn)):
        ends = [each.begin for each in removed if each.end > backup.first_needed_lsn]
        end = min(ends, default=None)
        if end is not None and end < backup.stop_lsn:
            continue
        if found and found[-1].to_lsn == end:  # the one before goes as far
            lowest = min(found[-1].base_lsn, backup.start_lsn)
            found[-1] = found[-1]._replace(base_lsn=lowest)
        else:
            found.append(Moments(backup.stop_lsn, end, backup.start_lsn))
    return tuple(found)


def check_answerable(moments: Sequence[Moments], lsn: int) -> None:
    """Checks that gc left what a moment is made from.

    Raises:
        LsnNotAvailable: it did not; what can be had is said.
    """
    if not any(each.has(lsn) for each in moments):
        known = ", ".join(map(str, moments)) or "none"
        raise LsnNotAvailable(
            f"{format_lsn(lsn)} cannot be had, walstream gc removed what it is made from: the "
            f"moments that can be had are {known}"
        )
