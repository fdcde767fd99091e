"""The WAL of an import: which files belong to the path, taken by threads, joined, and its holes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from walstream.importing.archive import ArchivedFile, segment_lsn
from walstream.importing.bases import FoundBase
from walstream.importing.collection import Collection
from walstream.importing.label import backup_history_name, stop_of_history
from walstream.importing.segments import Outcome, SegmentTaker, Taken, plain_pieces
from walstream.scanning.runs import Run, RunEnd, RunScan
from walstream.scanning.threads import in_order
from walstream.segments.files import DirectoryFiles
from walstream.segments.names import segment_file_name
from walstream.segments.source import SegmentSource
from walstream.verify.ledger import Ledger
from walstream.verify.report import Problem, Report
from walstream.verify.segments import check_run, join
from walstream.wal.layout import RM_XLOG_ID
from walstream.wal.model import format_lsn

_BACKUP_END = 0x50


class Item(NamedTuple):
    """A segment that is to be taken. ``limit_lsn``: see ``SegmentTaker.take``."""

    stem: str
    number: int
    limit_lsn: int | None


@dataclass(slots=True)
class WalPlan:
    """What of the WAL is wanted: by names alone.

    Attributes:
        path: segments on the path to the newest timeline, of the store and of the archives.
        others: the ends of timelines that the path left; not needed for it, but kept.
        left_out: segments of branches that the path does not run through.
        small: history files of timelines and backups.
        stored: how many segments of the path only the store has.
        not_there: segments that a list of the archive names, and that are not there.
    """

    source: SegmentSource
    collection: Collection
    path: list[int] = field(default_factory=list)
    wanted: dict[int, Item] = field(default_factory=dict)
    others: list[Item] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    small: list[ArchivedFile] = field(default_factory=list)
    stored: int = 0
    not_there: list[str] = field(default_factory=list)

    def holes(self, first_lsn: int | None) -> list[tuple[int, int]]:
        """Returns what of WAL is missing by the names of segments: ``[begin, end)`` of each hole.

        ``first_lsn`` is where the oldest base begins: from there on WAL is needed.
        """
        size = self.source.segment_size
        numbers = self.path
        before = numbers[0] - 1 if numbers else 0
        if first_lsn is not None and numbers:
            before = min(before, first_lsn // size - 1)
        found = []
        for number in numbers:
            if number > before + 1:
                found.append(((before + 1) * size, number * size))
            before = number
        return found


def plan_wal(
    store: Path | None,
    files: Sequence[ArchivedFile],
    listed: Iterable[str],
    segment_size: int,
    timeline: int | None,
) -> WalPlan:
    """Returns what is to be taken of some files; nothing but history files is read.

    Raises:
        WalError: a history file is malformed.
        ReadError: it cannot be read.
    """
    collection = Collection(store, files)
    source = SegmentSource(collection, timeline, segment_size)
    plan = WalPlan(source, collection, small=[file for file in files if not file.name.is_segment])
    plan.path = source.numbers()
    stems = {file.name.stem for file in files if file.name.is_segment}
    for stem in sorted(stems):
        part = source.history.part_of(int(stem[:8], 16))
        begin = segment_lsn(stem, segment_size)
        number = begin // segment_size
        if part is None or begin >= part.end or begin + segment_size <= part.begin:
            plan.left_out.append(stem)
            continue
        chosen = source.find(number)
        if chosen is not None and chosen.timeline == part.timeline:
            plan.wanted[number] = Item(stem, number, None)
        else:
            limit = part.end if part.end < begin + segment_size else None
            plan.others.append(Item(stem, number, limit))
    plan.stored = sum(number not in plan.wanted for number in plan.path)
    held = {name[:24] for name in collection.names()}
    plan.not_there = sorted(set(listed) - held)
    return plan


@dataclass(slots=True)
class WalTaken:
    """What became of the WAL: counts, what was refused and why, and the check of all of it."""

    report: Report
    taken: int = 0
    there: int = 0
    bytes: int = 0
    refused: list[str] = field(default_factory=list)

    def add(self, done: Taken) -> None:
        """Counts one file."""
        if done.outcome is Outcome.REFUSED:
            self.refused.append(done.reason)
        elif done.outcome is Outcome.TAKEN:
            self.taken += 1
            self.bytes += done.size
        else:
            self.there += 1


def take_wal(
    plan: WalPlan,
    directory: Path,
    system_id: int,
    *,
    threads: int,
    links: bool,
    ledger: Ledger,
    progress: Callable[[int], None] = lambda _: None,
) -> WalTaken:
    """Takes all that is wanted into ``wal/``, and checks the whole path while it is read.

    Args:
        plan: see ``plan_wal``.
        directory: the store's ``wal/``.
        system_id: of the cluster.
        threads: so many segments at a time.
        links: hard links may be made.
        ledger: of the store.
        progress: called with the number of segments that are done.

    Raises:
        WrongCluster: a segment is another cluster's.
        StorageError: a file cannot be read or written.
    """
    source = plan.source
    size = source.segment_size
    result = WalTaken(Report(str(directory), segment_size=size, segments=len(plan.path)))
    stored = SegmentSource(DirectoryFiles(directory), source.timeline, size)
    known = {number: ledger.recall(stored, Run(number, number)) for number in plan.path}
    taker = SegmentTaker(
        plan.collection, directory, system_id, links=links, known=lambda run: known.get(run.first)
    )
    for file in plan.small:
        result.add(taker.take_small(file))
    stored.refresh()

    def take(number: int) -> Taken:
        item = plan.wanted.get(number)
        if item is not None:
            done = taker.take(source, item.stem, item.limit_lsn)
            # An older timeline may have the segment as well.
            if done.outcome is not Outcome.REFUSED or source.find(number) is None:
                return done
            return done._replace(end=check_run(source, Run(number, number), system_id))
        end = known[number] or check_run(source, Run(number, number), system_id)
        return Taken(segment_file_name(source.timeline, number, size), Outcome.THERE, end)

    ends: list[RunEnd] = []
    for number, done in zip(plan.path, in_order(threads, lambda: take, plan.path), strict=True):
        if number in plan.wanted:
            result.add(done)
        if done.end is not None:
            # Its last record may reach into this segment, which is in the store now.
            if ends:
                ledger.note(stored, ends[-1])
            ends.append(done.end)
        progress(1)
    if ends:
        ledger.note(stored, ends[-1])
    for item in plan.others:
        own = SegmentSource(plan.collection, int(item.stem[:8], 16), size)
        result.add(taker.take(own, item.stem, item.limit_lsn))
    join(source, ends, result.report)
    return result


def base_problems(base: tuple[int, int], plan: WalPlan, end_lsn: int) -> list[Problem]:
    """Returns what WAL a base backup ``[start, stop)`` lacks before or behind all there is."""
    start, stop = base
    size = plan.source.segment_size
    found = []
    first = plan.path[0] * size if plan.path else None
    if first is None or start < first - first % size:
        until = stop if first is None else first
        found.append(_lacking(start, until, "before the first segment"))
    if first is not None and end_lsn < stop:
        found.append(_lacking(max(start, end_lsn), stop, "behind the end of WAL"))
    return found


def _lacking(begin: int, end: int, where: str) -> Problem:
    message = (
        f"missing: WAL {format_lsn(begin)} to {format_lsn(end)}, {where}: the base backup needs it"
    )
    return Problem("missing", begin, message, begin, end)


def find_stop(base: FoundBase, plan: WalPlan) -> int | None:
    """Returns where a backup ended, by its history file in the archive or by WAL; None: not there.

    Raises:
        StorageError: a file cannot be read.
    """
    source = plan.source
    size = source.segment_size
    name = backup_history_name(base.timeline, base.start_lsn, size)
    for file in plan.collection.candidates(name, partial=False):
        stop = stop_of_history(b"".join(plain_pieces(file)), base.start_lsn)
        if stop is not None:
            return stop
    number = base.start_lsn // size
    while source.find(number) is not None:
        scan = RunScan(source, Run(number, number), start_lsn=base.start_lsn, resync=True)
        for batch in scan.batches():
            columns = batch.columns
            for row in range(batch.rows):
                if columns.rmgr[row] != RM_XLOG_ID or columns.info[row] & 0xF0 != _BACKUP_END:
                    continue
                at = columns.main_at[row]
                data, at = (batch.piece, at) if at >= 0 else (columns.side, ~at)
                if int.from_bytes(data[at : at + 8], "little") == base.start_lsn:
                    return columns.end_lsn[row]
        number += 1
    return None
