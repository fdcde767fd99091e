"""What a store holds, and what is needed of it, as values: a plan is made from them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from walstream.store.removed import RemovedWal
from walstream.wal.timeline import INFINITY, TimelineHistory


class WalFile(NamedTuple):
    """A file with WAL ``[begin, end)``, by its name. ``path`` is relative to the store.

    ``whole``: it is a complete segment. ``counts`` is false where nobody reads WAL from it: it is
    set aside (``wal/dead/``), was cut, or has only the name of a segment before its own ending.
    """

    path: str
    timeline: int
    begin: int
    end: int
    size: int
    whole: bool = True
    counts: bool = True


class Base(NamedTuple):
    """A complete base backup; see ``store.base_backup``.

    ``stop_timeline``: None for that of ``timeline``. ``time_s`` is when the cluster was at its stop
    LSN (seconds since 1970), None for not known.
    """

    path: str
    start_lsn: int
    stop_lsn: int
    first_needed_lsn: int
    timeline: int
    size: int
    time_s: float | None = None
    stop_timeline: int | None = None


class Dump(NamedTuple):
    """A redo request that failed, kept below ``dumps/``."""

    path: str
    size: int
    time_s: float


class Pin(NamedTuple):
    """WAL ``[from_lsn, to_lsn]`` that a lease needs, with every base that needs WAL from there."""

    what: str
    from_lsn: int
    to_lsn: int


class Place(NamedTuple):
    """Moments ``[first_lsn, last_lsn]`` that stay, whatever the window is: a hold, a branch.

    The newest base from which they can be rebuilt stays with them. ``name`` says whose they are
    (``hold audit``), ``reason`` why in somebody's words, "" for none.
    """

    name: str
    first_lsn: int
    last_lsn: int
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else self.name


class Contents(NamedTuple):
    """What a store holds.

    Args:
        latest_lsn: the newest moment that can be rebuilt.
        protected_lsn: from here on nothing is touched: what was flushed last, what the slot holds,
            what is not indexed yet; INFINITY where nothing says.
        unfinished: where base backups begin that are being taken.
        removed: WAL that an earlier gc took away between what it kept.
    """

    segment_size: int
    history: TimelineHistory
    files: Sequence[WalFile]
    bases: Sequence[Base]
    dumps: Sequence[Dump] = ()
    pins: Sequence[Pin] = ()
    places: Sequence[Place] = ()
    unfinished: Sequence[int] = ()
    removed: Sequence[RemovedWal] = ()
    latest_lsn: int = 0
    protected_lsn: int = INFINITY
