"""Moments: how people name a point of the past, and which LSN of the index it is.

One parser for every ``--at``. What is understood:

==========================  =======================================================================
``0/16B3748``               all records that end at or before this LSN
``latest``                  all records that the index knows
``2026-11-25 10:00+01``     the last commit at or before that time (with a zone, or ``Z``)
``5 minutes ago``           the same, counted back from now (seconds to weeks)
``xid:731``                 the commit or abort of that transaction, included
``before xid:731``          the same, not included
``name:before the import``  a restore point (``pg_create_restore_point``), the newest of that name
==========================  =======================================================================

Times go by WAL's own order, as ``recovery_target_time`` does: the moment lies before the first
commit or abort that is later than the time, however the server's clock jumped. Knows positions and
times of the index only; records are read by the caller's function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from walstream.errors import LsnNotAvailable
from walstream.index.changes import TimeKind
from walstream.index.page_index import PageIndex, TimePoint
from walstream.rmgr.clock import POSTGRES_EPOCH
from walstream.text import decode
from walstream.wal.model import format_lsn, parse_lsn

_AGO = re.compile(r"(\d{1,9})\s*(second|minute|hour|day|week)s?\s+ago", re.IGNORECASE)
_XID = re.compile(r"(before\s+)?xid:\s*(\d{1,10})", re.IGNORECASE)
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_UTC = re.compile(r"\s*(UTC|GMT)$", re.IGNORECASE)
_SPACE_BEFORE_ZONE = re.compile(r"\s+(?=[+-]|Z$)")
# xl_restore_point, the end of its record: time i64, name char[64].
_RESTORE_POINT_BODY = 72


class MomentKind:
    """The ways to name a moment."""

    LSN = "lsn"
    LATEST = "latest"
    TIME = "time"
    XID = "xid"
    NAME = "name"


class MomentText(NamedTuple):
    """A moment as it was asked for, not yet looked up.

    ``kind`` is one of ``MomentKind``; ``value`` the LSN, the time (microseconds since 2000-01-01)
    or the xid; ``included`` is false for ``before``; ``name`` is a restore point's.
    """

    text: str
    kind: str
    value: int = 0
    included: bool = True
    name: str = ""


class Moment(NamedTuple):
    """A moment of the index: the state after all records that end at or before ``lsn``.

    ``last_commit`` is the newest commit of that state where the index was asked for it (None:
    there is none after the base backup); ``asked`` the words that it was asked with.
    """

    lsn: int
    asked: str
    last_commit: TimePoint | None

    def __str__(self) -> str:
        text = format_lsn(self.lsn)
        if self.last_commit is None:
            return f"{text} (no commit after the base backup)"
        time = format_moment_time(self.last_commit.time_us)
        return f"{text} (last commit {time}, xid {self.last_commit.xid})"


def format_moment_time(time_us: int) -> str:
    """Returns a time of WAL (microseconds since 2000-01-01) as ISO 8601 in UTC."""
    return (POSTGRES_EPOCH + timedelta(microseconds=time_us)).isoformat(" ")


def time_to_us(time: datetime) -> int:
    """Returns an aware time as microseconds since 2000-01-01 UTC."""
    return (time - POSTGRES_EPOCH) // timedelta(microseconds=1)


def parse_moment(text: str, now: datetime | None = None) -> MomentText:
    """Returns what the words say; ``now`` (aware) is where ``ago`` counts from.

    Raises:
        ValueError: none of the forms, or a time without a zone.
    """
    words = text.strip()
    now = datetime.now(UTC) if now is None else now
    if words.lower() == "latest":
        return MomentText(words, MomentKind.LATEST)
    if _LSN.fullmatch(words):
        return MomentText(words, MomentKind.LSN, parse_lsn(words))
    found = _XID.fullmatch(words)
    if found is not None:
        return MomentText(words, MomentKind.XID, int(found[2]), found[1] is None)
    if words.lower().startswith("name:"):
        return MomentText(words, MomentKind.NAME, name=words[5:])
    found = _AGO.fullmatch(words)
    if found is not None:
        try:
            time = now - timedelta(**{found[2].lower() + "s": int(found[1])})
        except OverflowError:
            raise ValueError(f"invalid moment {words!r}: before all time") from None
        return MomentText(words, MomentKind.TIME, time_to_us(time))
    try:
        time = datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", _UTC.sub("Z", words)))
    except ValueError:
        raise ValueError(
            f"invalid moment {words!r}: expected an LSN (0/16B3748), a time with its zone "
            "(2026-11-25 10:00+01), '5 minutes ago', latest, xid:N, 'before xid:N' or name:NAME"
        ) from None
    if time.tzinfo is None:
        raise ValueError(f"invalid moment {words!r}: a time needs a zone, for example {words}+00")
    return MomentText(words, MomentKind.TIME, time_to_us(time))


def find_moment(
    index: PageIndex,
    asked: MomentText,
    first_lsn: int,
    last_lsn: int,
    read_record: Callable[[int], bytes],
    now: datetime | None = None,
    first_time_us: int | None = None,
) -> Moment:
    """Returns the moment that the words name. Reads the index: call it in a thread.

    A time costs one pass over the commits after it, ``latest``, a transaction or a name one over
    all: a million a second.

    Args:
        index: of the store.
        asked: see ``parse_moment``.
        first_lsn: the earliest LSN that can be had: the end of the base backup.
        last_lsn: up to where every record is known.
        read_record: returns the record that starts at an LSN.
        now: (aware) beyond it no time is accepted.
        first_time_us: a time at which ``first_lsn`` had been reached for certain (microseconds
            since 2000-01-01): a time after it needs no commit before it.

    Raises:
        LsnNotAvailable: nothing of that name, or before ``first_lsn`` or after ``last_lsn``.
        WalError: the record of a restore point cannot be read.
    """
    if asked.kind == MomentKind.TIME:
        lsn = _lsn_of_time(
            index, asked, first_lsn, last_lsn, now or datetime.now(UTC), first_time_us
        )
    elif asked.kind == MomentKind.XID:
        lsn = _lsn_of_xid(index, asked)
    elif asked.kind == MomentKind.NAME:
        lsn = _lsn_of_name(index, asked.name, read_record)
    else:
        lsn = last_lsn if asked.kind == MomentKind.LATEST else asked.value
    if lsn < first_lsn:
        raise LsnNotAvailable(
            f"{asked.text}: {format_lsn(lsn)} is before the store begins: "
            f"the earliest moment is {format_lsn(first_lsn)}"
        )
    if lsn > last_lsn:
        raise LsnNotAvailable(
            f"{asked.text}: {format_lsn(lsn)} has not been reached: "
            f"the newest moment is {format_lsn(last_lsn)}"
        )
    return Moment(lsn, asked.text, last_commit_at(index, lsn))


def last_commit_at(index: PageIndex, lsn: int) -> TimePoint | None:
    """Returns the newest commit, in WAL's order, that ends at or before ``lsn``."""
    commits = (
        point for point in index.times() if point.end_lsn <= lsn and point.kind == TimeKind.COMMIT
    )
    return max(commits, key=lambda point: point.end_lsn, default=None)


def _lsn_of_time(
    index: PageIndex,
    asked: MomentText,
    first_lsn: int,
    last_lsn: int,
    now: datetime,
    first_time_us: int | None,
) -> int:
    if asked.value > time_to_us(now):
        raise LsnNotAvailable(
            f"{asked.text}: {format_moment_time(asked.value)} lies in the future: "
            f"the newest moment is {format_lsn(last_lsn)}"
        )
    ends = (TimeKind.COMMIT, TimeKind.ABORT)
    later = min(
        (point for point in index.times(max(asked.value + 1, 0)) if point.kind in ends),
        key=lambda point: point.end_lsn,
        default=None,
    )
    before = last_lsn if later is None else later.start_lsn
    commit = last_commit_at(index, before)
    known = commit is not None or (first_time_us is not None and asked.value >= first_time_us)
    if before < first_lsn or not known:
        raise LsnNotAvailable(
            f"{asked.text}: {format_moment_time(asked.value)} is before the store begins: the "
            f"earliest moment is {format_lsn(first_lsn)}"
            + (
                f", the first commit after that time {format_moment_time(later.time_us)}"
                if later is not None
                else ""
            )
        )
    # Nothing was committed between the end of the backup and that time: the backup's end it is.
    return first_lsn if commit is None else max(commit.end_lsn, first_lsn)


def _lsn_of_xid(index: PageIndex, asked: MomentText) -> int:
    # An xid comes again after 4 billion transactions: the newest counts.
    ends = (TimeKind.COMMIT, TimeKind.ABORT)
    found = max(
        (p for p in index.times() if p.xid == asked.value and p.kind in ends),
        key=lambda point: point.end_lsn,
        default=None,
    )
    if found is None:
        raise LsnNotAvailable(
            f"{asked.text}: no commit or abort of transaction {asked.value} is in the index "
            "(one that only ended as part of another is found by that one)"
        )
    return found.end_lsn if asked.included else found.start_lsn


def _lsn_of_name(index: PageIndex, name: str, read_record: Callable[[int], bytes]) -> int:
    found = 0
    names = []
    for point in index.times():
        if point.kind == TimeKind.RESTORE_POINT:
            body = read_record(point.start_lsn)[-_RESTORE_POINT_BODY:]
            known = decode(body[8:].split(b"\0")[0])
            names.append(known)
            if known == name:
                found = max(found, point.end_lsn)
    if not found:
        known_names = ", ".join(names[-5:]) or "none"
        raise LsnNotAvailable(f"no restore point is called {name!r}: there are {known_names}")
    return found
