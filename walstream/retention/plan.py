"""What of a store stays, what goes, and why. Pure: values in, a plan out.

One definition: *any moment within the window can be rebuilt*. A moment X needs a base backup that
ends at or before X, and all WAL from what that backup needs up to X. So of the bases the newest
that ends at or before the window's first moment stays, with everything after it: later bases, and
all WAL from what it needs on. Beyond the window single bases may be kept (daily, weekly, monthly),
each with the WAL to just past its end; and what holds, branches and leases say.

All is ordered by LSN on the history of timelines, never by name. Whatever cannot be understood is
an error, and nothing goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from walstream.errors import SegmentMissing, StoreError
from walstream.retention.contents import Base, Contents, Dump, Place, WalFile
from walstream.segments.choice import timelines_of
from walstream.store.removed import RemovedWal, joined, without
from walstream.wal.model import format_lsn
from walstream.wal.timeline import INFINITY, TimelineHistory


class Policy(NamedTuple):
    """What was asked to be kept. One of ``window_lsn`` and ``keep_size`` is given.

    ``window_lsn``: every moment from there on. ``keep_size``: as many moments as bases and WAL of
    so many bytes give. ``daily``, ``weekly``, ``monthly``: the newest base of each of so many days,
    weeks and months (UTC) that have one. ``dumps_before_s``: dumps older than that go.
    """

    window_lsn: int | None = None
    keep_size: int | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    dumps_before_s: float | None = None


class Item(NamedTuple):
    """A file or base backup: whether it stays, and why. ``kind``: wal, base or dump."""

    kind: str
    path: str
    begin: int
    end: int
    size: int
    stays: bool
    reason: str


class Plan(NamedTuple):
    """What stays and what goes.

    ``window_lsn`` is the first moment of the window: what was asked for, as far as it is there;
    ``short``: more was asked for.
    ``floor_lsn``: no base that stays needs WAL before it, so nothing in the index does. ``removed``
    is what ``wal/removed.toml`` must say before WAL goes.
    """

    items: tuple[Item, ...]
    window_lsn: int
    latest_lsn: int
    floor_lsn: int
    removed: tuple[RemovedWal, ...]
    short: bool = False

    @property
    def going(self) -> tuple[Item, ...]:
        """What goes."""
        return tuple(item for item in self.items if not item.stays)


class _Keep(NamedTuple):
    """WAL ``[from_lsn, to_lsn]`` that stays."""

    from_lsn: int
    to_lsn: int
    reason: str


def make_plan(contents: Contents, policy: Policy) -> Plan:
    """Returns the plan for a store.

    Raises:
        StoreError: there is no base that a window or a place could begin with.
        SegmentMissing: WAL of the window or of a place is missing.
    """
    usable = sorted(
        (base for base in contents.bases if _on_path(base, contents.history)),
        key=lambda base: (base.stop_lsn, base.start_lsn),
    )
    usable = [base for base in usable if base.stop_lsn <= contents.latest_lsn]
    if not usable:
        raise StoreError(
            "there is no base backup that WAL and index reach the end of: nothing can be removed "
            "before there is one"
        )
    first = _first_base(usable, contents, policy)
    _check_no_hole(contents, first)
    held = [(place, _base_of(place, usable, contents)) for place in contents.places]
    reasons = _reasons_of_bases(usable, first, held, contents, policy)
    keeps = [_Keep(first.first_needed_lsn, INFINITY, "window")]
    keeps += [
        _Keep(base.first_needed_lsn, base.stop_lsn, reasons[base.start_lsn])
        for base in contents.bases
        if base.start_lsn in reasons
    ]
    keeps += [_Keep(base.first_needed_lsn, place.last_lsn, str(place)) for place, base in held]
    keeps += [_Keep(pin.from_lsn, pin.to_lsn, pin.what) for pin in contents.pins]
    keeps += [_Keep(lsn, INFINITY, "a base backup is being taken") for lsn in contents.unfinished]
    if contents.protected_lsn < INFINITY:
        keeps.append(_Keep(contents.protected_lsn, INFINITY, "not yet indexed, or at the slot"))
    items = [
        Item(
            "base",
            base.path,
            base.start_lsn,
            base.stop_lsn,
            base.size,
            base.start_lsn in reasons,
            reasons.get(base.start_lsn) or _why_it_goes(base, usable, contents),
        )
        for base in contents.bases
    ]
    wal = [_wal_item(file, keeps) for file in contents.files]
    items += wal
    items += [_dump_item(dump, policy) for dump in contents.dumps]
    floor = min(base.first_needed_lsn for base in contents.bases if base.start_lsn in reasons)
    window = first.stop_lsn if policy.window_lsn is None else policy.window_lsn
    begins = max(first.stop_lsn, _contiguous_from(usable, contents.removed))
    return Plan(
        tuple(items),
        min(max(window, begins), contents.latest_lsn),
        contents.latest_lsn,
        floor,
        _removed_after(contents, wal, first.first_needed_lsn),
        short=window < begins,
    )


def _on_path(base: Base, history: TimelineHistory) -> bool:
    """Whether a base is of the path that the server took, from its first byte to its last.

    One that was taken over a switch and does not say on which timeline it ended may be either
    side's: it is not relied on.
    """
    first = history.part_of(base.timeline)
    last = history.part_of(base.timeline if base.stop_timeline is None else base.stop_timeline)
    return (
        first is not None
        and last is not None
        and first.begin <= base.first_needed_lsn < first.end
        and last.begin <= base.stop_lsn <= last.end
    )


def _first_base(usable: Sequence[Base], contents: Contents, policy: Policy) -> Base:
    """Returns the base that the window begins with; the oldest where it reaches back further."""
    if policy.keep_size is not None:
        for base in usable:
            if _size_from(base, contents) <= policy.keep_size:
                return base
        return usable[-1]
    assert policy.window_lsn is not None
    wanted = min(policy.window_lsn, contents.latest_lsn)
    before = [base for base in usable if base.stop_lsn <= wanted]
    return before[-1] if before else usable[0]


def _size_from(first: Base, contents: Contents) -> int:
    """Returns the bytes of bases and WAL of a window that begins with ``first``."""
    bases = sum(base.size for base in contents.bases if base.stop_lsn >= first.stop_lsn)
    return bases + sum(file.size for file in contents.files if file.end > first.first_needed_lsn)


def missing_wal(contents: Contents, from_lsn: int, to_lsn: int) -> tuple[RemovedWal, ...]:
    """Returns what of WAL ``[from_lsn, to_lsn)`` is in no file; of a segment all or nothing.

    A segment is there when the newest timeline has it that the path runs through there: whole, or
    as the one that is being received.
    """
    size = contents.segment_size
    held = {
        (file.timeline, file.begin)
        for file in contents.files
        if file.counts and (file.whole or file.begin <= contents.latest_lsn < file.end)
    }
    missing = [
        RemovedWal(number * size, (number + 1) * size)
        for number in range(from_lsn // size, -(-to_lsn // size))
        if (timelines_of(contents.history, number, size)[0], number * size) not in held
    ]
    return joined(missing)


def _check_no_hole(contents: Contents, first: Base) -> None:
    missing = missing_wal(contents, first.first_needed_lsn, contents.latest_lsn)
    missing = without(missing, contents.removed)
    if missing:
        begin, end = missing[0]
        after = [base for base in contents.bases if base.first_needed_lsn >= end]
        then = f", and from {format_lsn(min(b.stop_lsn for b in after))} on" if after else ""
        raise SegmentMissing(
            f"WAL from {format_lsn(begin)} to {format_lsn(end)} of the window is missing, nothing "
            f"is removed: moments before {format_lsn(begin)} can be had{then}; "
            "bring the segments back, or keep a window that begins later",
            begin,
        )


def _base_of(place: Place, usable: Sequence[Base], contents: Contents) -> Base:
    """Returns the newest base from which all moments of a place can be rebuilt."""
    first = min(place.first_lsn, contents.latest_lsn)
    last = min(place.last_lsn, contents.latest_lsn)
    fitting = [base for base in usable if base.stop_lsn <= first]
    for base in reversed(fitting):
        if not missing_wal(contents, base.first_needed_lsn, last):
            return base
    if not fitting:
        raise StoreError(
            f"{place.name}: no base backup is there that ends at or before {format_lsn(first)}, "
            "nothing is removed: bring it back, or give up what it keeps"
        )
    begin, end = missing_wal(contents, fitting[-1].first_needed_lsn, last)[0]
    raise SegmentMissing(
        f"{place.name}: WAL from {format_lsn(begin)} to {format_lsn(end)} is missing, nothing is "
        "removed: bring the segments back, or give up what it keeps",
        begin,
    )


def _reasons_of_bases(
    usable: Sequence[Base],
    first: Base,
    held: Sequence[tuple[Place, Base]],
    contents: Contents,
    policy: Policy,
) -> dict[int, str]:
    """Returns why each base stays that does, by its start LSN."""
    found = {first.start_lsn: "the window begins with it"}
    for base in contents.bases:
        if base.stop_lsn >= first.stop_lsn and base.start_lsn not in found:
            found[base.start_lsn] = "in the window"
        elif base.stop_lsn >= first.first_needed_lsn and not _on_path(base, contents.history):
            found.setdefault(base.start_lsn, "of another branch, in the window")
    for base, label in _kept_points(usable, contents, policy):
        found.setdefault(base.start_lsn, label)
    for place, base in held:
        found.setdefault(base.start_lsn, str(place))
    for pin in contents.pins:
        for base in contents.bases:
            if pin.from_lsn <= base.first_needed_lsn <= pin.to_lsn:
                found.setdefault(base.start_lsn, pin.what)
    return found


def _kept_points(
    usable: Sequence[Base], contents: Contents, policy: Policy
) -> Iterable[tuple[Base, str]]:
    """Yields the bases that are kept for a day, week or month, with what they are kept for."""
    whole = [
        (base, datetime.fromtimestamp(base.time_s, UTC))
        for base in reversed(usable)
        if base.time_s is not None
        and not missing_wal(contents, base.first_needed_lsn, base.stop_lsn)
    ]
    for count, kind, form in (
        (policy.daily, "daily", "%Y-%m-%d"),
        (policy.weekly, "weekly", "%G-W%V"),
        (policy.monthly, "monthly", "%Y-%m"),
    ):
        seen: set[str] = set()
        for base, time in whole:
            label = time.strftime(form)
            if len(seen) < count and label not in seen:
                seen.add(label)
                yield base, f"{kind} {label}"


def _why_it_goes(base: Base, usable: Sequence[Base], contents: Contents) -> str:
    if base not in usable:
        return "of a branch that the server left, before the window"
    missing = missing_wal(contents, base.first_needed_lsn, base.stop_lsn)
    if missing:
        return f"cannot be restored: WAL from {format_lsn(missing[0].begin)} is missing"
    return "before the window"


def _wal_item(file: WalFile, keeps: Sequence[_Keep]) -> Item:
    reason = next(
        (keep.reason for keep in keeps if file.begin <= keep.to_lsn and file.end > keep.from_lsn),
        None,
    )
    return Item(
        "wal",
        file.path,
        file.begin,
        file.end,
        file.size,
        reason is not None,
        reason or "before what every base that stays needs, or between those",
    )


def _dump_item(dump: Dump, policy: Policy) -> Item:
    stays = policy.dumps_before_s is None or dump.time_s >= policy.dumps_before_s
    reason = "in the window" if stays else "before the window"
    return Item("dump", dump.path, 0, 0, dump.size, stays, reason)


def _contiguous_from(usable: Sequence[Base], removed: Sequence[RemovedWal]) -> int:
    """Returns the first moment from which on nothing was taken away."""
    last = max((each.end for each in removed), default=0)
    return min(
        (base.stop_lsn for base in usable if base.first_needed_lsn >= last),
        default=usable[-1].stop_lsn,
    )


def _removed_after(
    contents: Contents, wal: Sequence[Item], window_from: int
) -> tuple[RemovedWal, ...]:
    """Returns all that is not there then: everything before the window but what stays."""
    staying = [
        RemovedWal(item.begin, item.end)
        for item, file in zip(wal, contents.files, strict=True)
        if item.stays and file.counts
    ]
    begin = window_from - window_from % contents.segment_size
    return without([RemovedWal(0, begin), *contents.removed], staying)
