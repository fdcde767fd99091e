"""A directory of segments on its way into use: what is in it, whether it fits, where to go on.

Scans the files, refuses another cluster's, keeps history files, sets dead branches aside, proves
the newest segment and opens it. Synchronous; what becomes of the WAL is the writer's business.
"""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from walstream.errors import FileDamaged, StoreError, WalDivergedError, WalError, WrongCluster
from walstream.segments.choice import timelines_of
from walstream.segments.compression import Compression
from walstream.segments.files import read_error, read_head, read_prefix, regular_files
from walstream.segments.header import read_long_header
from walstream.segments.names import (
    AHEAD,
    PARTIAL,
    UNFINISHED,
    history_file_name,
    parse_history_name,
    parse_segment_name,
    segment_file_name,
    segment_names,
)
from walstream.store.file_layer import FileLayer, storage_error, write_durably
from walstream.store.removed import read_removed, unexplained
from walstream.store.start_plan import (
    StartPlan,
    WalEntry,
    check_reached,
    choose_start,
    not_there_yet,
    parse_entry,
)
from walstream.store.tail import StoredSegment, read_tail, segments_before
from walstream.store.verified_end import VerifiedEnd, verify_end
from walstream.store.verifier import Expected, VerifyLevel, make_verifier
from walstream.store.wal_files import WalFiles
from walstream.wal.layout import SizeOfXLogLongPHD
from walstream.wal.timeline import (
    StartPoint,
    StoredWal,
    TimelineHistory,
    Upstream,
    parse_history,
)

DEAD_DIRECTORY = "dead"


class Survey(NamedTuple):
    """What a directory and a server have in common.

    ``verified`` is that of the newest segment, ``best`` the unfinished file that is gone on with.
    ``end_lsn`` is the end of what is held and good.
    """

    upstream: Upstream
    plan: StartPlan
    verified: VerifiedEnd | None
    best: WalEntry | None
    end_lsn: int


class SegmentDirectory:
    """The segments below ``path``; arguments are those of ``Writer``.

    Args:
        layer: the system calls.
        zero_fill: see ``SegmentFile``.
        completer: see ``WalFiles``.
    """

    def __init__(
        self,
        path: Path,
        layer: FileLayer,
        *,
        start: StartPoint | None,
        system_id: int | None,
        verify: VerifyLevel,
        compression: Compression,
        sync: bool,
        zero_fill: bool,
        file_mode: int,
        completer: Executor | None = None,
    ) -> None:
        self.path = path
        self._layer = layer
        self._start = start
        self._system_id = system_id
        self._verify: VerifyLevel = verify
        self._compression = compression
        self._sync = sync
        self._zero_fill = zero_fill
        self._file_mode = file_mode
        self._completer = completer

    def survey(self, upstream: Upstream) -> Survey:
        """Returns where the directory and a server would go on; changes nothing.

        Raises:
            WrongCluster, StoreError: the files are of another cluster, version or segment size.
            ConnectionLost, ServerRefused: the directory is ahead of the server.
            WalError: the newest complete segment is damaged.
            StorageError: a file cannot be read.
        """
        entries = scan_directory(self.path, upstream.segment_size)
        kept = self._kept_histories()
        followed = max(kept, default=0)
        if followed > upstream.timeline:
            raise not_there_yet(
                upstream,
                f"the directory has followed timeline {followed}, the server is behind on "
                f"{upstream.timeline}",
            )
        self._check_cluster(entries, upstream)
        removed = read_removed(self.path)
        void: tuple[WalEntry, ...] = ()
        while True:
            plan = choose_start(entries, upstream, empty_start=self._start, void=void, kept=kept)
            # What gc took away is not to be sent again.
            plan = plan._replace(holes=tuple(unexplained(plan.holes, removed)))
            verified, best = self._verify_newest(entries, plan, upstream)
            part = upstream.history.part_of(plan.timeline)
            if best is None or verified is None or part is None or verified.end_lsn <= part.end:
                break
            # Records past the switch point: the server's timeline left ours before them.
            void += plan.partials
        end_lsn = plan.start_lsn
        if best is not None and verified is not None:
            if end_lsn < verified.end_lsn < end_lsn + upstream.segment_size:
                end_lsn = verified.end_lsn
            check_reached(upstream, plan.timeline, end_lsn)
        return Survey(upstream, plan, verified, best, end_lsn)

    def take_up(self, survey: Survey) -> WalFiles:
        """Does what was planned: keeps the history, sets dead branches aside, opens the segment."""
        upstream, plan = survey.upstream, survey.plan
        self._remove_leftovers()
        if upstream.history_text is not None:
            self.keep_history(upstream.timeline, upstream.history_text)
        if plan.anew:
            # The new segment's file first: whatever happens in between, the next start finds
            # either it or the dead files, and goes on from there.
            files = self.open(upstream, plan.timeline, plan.start_lsn, None)
            if plan.dead:
                files.create()
            self._set_aside(plan.dead)
            return files
        self._set_aside(plan.dead)
        files = self.open(upstream, plan.timeline, plan.start_lsn, survey.verified, survey.best)
        if survey.best is not None:
            number = survey.best.segment_number
            used = segment_file_name(plan.timeline, number, upstream.segment_size)
            used += self._compression.suffix + PARTIAL
            for entry in plan.partials:
                if entry.name != used:
                    self._layer.unlink(self.path / entry.name)
        return files

    def _remove_leftovers(self) -> None:
        """Removes what a crash left of segments that were begun ahead: nobody was told of it."""
        for name, _ in list(regular_files(self.path)):
            if name.endswith(PARTIAL + AHEAD) and parse_segment_name(name.removesuffix(AHEAD)):
                self._layer.unlink(self.path / name)

    def tail(self, upstream: Upstream, timeline: int, end_lsn: int) -> list[StoredWal]:
        """Returns the end of what is stored before ``end_lsn``, to compare with the server.

        Raises:
            StorageError: a file cannot be read.
        """
        size = upstream.segment_size
        begin = end_lsn - end_lsn % size
        segments: list[StoredSegment] = []
        if end_lsn > begin:
            names = segment_names(timeline, begin // size, size, UNFINISHED)
            held = (self.path / each.name for each in names)
            segments += [StoredSegment(p, timeline, begin, end_lsn) for p in held if p.is_file()]
        before = segments_before(self.path, upstream.history, begin, size)
        return read_tail(chain(segments[:1], before), size)

    def missing_histories(self, upstream: Upstream) -> list[int]:
        """Returns the timelines on the server's path whose history files are not here."""
        return [
            part.timeline
            for part in upstream.history.parts
            if part.timeline > 1 and not (self.path / history_file_name(part.timeline)).exists()
        ]

    def _kept_histories(self) -> dict[int, TimelineHistory]:
        kept = {}
        try:
            for name, _ in regular_files(self.path):
                found = parse_history_name(name)
                if found and not found.compression:
                    content = (self.path / name).read_bytes()
                    kept[found.timeline] = parse_history(found.timeline, content)
        except OSError as exc:
            raise read_error("read", self.path, exc) from exc
        return kept

    def _verify_newest(
        self, entries: list[WalEntry], plan: StartPlan, upstream: Upstream
    ) -> tuple[VerifiedEnd | None, WalEntry | None]:
        """Proves the newest segment; of several unfinished ones the one that holds most."""
        held = {
            (entry.timeline, entry.segment_number): entry.name
            for entry in entries
            if entry.complete and entry not in plan.dead
        }
        before = self._segment_before(held, upstream, plan.start_lsn)
        first = plan.start_lsn - len(before) * upstream.segment_size
        if plan.partials:
            return max(
                (
                    (self._verify_end([*before, self.path / entry.name], upstream, first), entry)
                    for entry in plan.partials
                ),
                key=lambda pair: pair[0].end_lsn,
            )
        if not before or self._verify != "records":
            return None, None
        verified = self._verify_end(before, upstream, first)
        if verified.error is not None:
            raise WalError(
                f"{before[0]} is damaged, move it away to have it sent again: {verified.error}",
                verified.error.lsn,
            )
        return verified, None

    def _segment_before(
        self, held: dict[tuple[int, int], str], upstream: Upstream, start_lsn: int
    ) -> list[Path]:
        """Returns the file of the segment before ``start_lsn``, if it is held, as a list."""
        number = start_lsn // upstream.segment_size - 1
        for timeline in timelines_of(upstream.history, number, upstream.segment_size):
            name = held.get((timeline, number))
            if name is not None:
                return [self.path / name]
        return []

    def _verify_end(self, paths: list[Path], upstream: Upstream, first_lsn: int) -> VerifiedEnd:
        return verify_end(
            paths,
            first_lsn,
            version=upstream.version,
            segment_size=upstream.segment_size,
            system_id=upstream.system_id,
        )

    def open(
        self,
        upstream: Upstream,
        timeline: int,
        segment_lsn: int,
        verified: VerifiedEnd | None,
        partial: WalEntry | None = None,
    ) -> WalFiles:
        """Opens the segment that begins at ``segment_lsn``, with what is proven of ``partial``."""
        start_lsn = segment_lsn
        prefix = decoder = None
        prev_lsn = 0
        if partial is None:
            decoder = verified.decoder if verified is not None else None
        elif (
            verified is not None
            and segment_lsn < verified.end_lsn < segment_lsn + upstream.segment_size
        ):
            start_lsn, prev_lsn = verified.end_lsn, verified.prev_lsn
            if self._compression.suffix or partial.compression:
                prefix = read_prefix(self.path / partial.name, start_lsn - segment_lsn)
        timelines = tuple(p.timeline for p in upstream.history.parts if p.timeline <= timeline)
        expected = Expected(upstream.system_id, upstream.version, upstream.segment_size, timelines)
        return WalFiles(
            self._layer,
            self.path,
            upstream.segment_size,
            timeline,
            start_lsn,
            make_verifier(self._verify, expected, start_lsn, prev_lsn, decoder),
            completer=self._completer,
            prefix=prefix,
            compression=self._compression,
            sync=self._sync,
            zero_fill=self._zero_fill,
            mode=self._file_mode,
        )

    def _check_cluster(self, entries: list[WalEntry], upstream: Upstream) -> None:
        if self._system_id not in (None, upstream.system_id):
            raise WrongCluster(
                f"{self.path} belongs to the cluster with system identifier "
                f"{self._system_id}, the server's is {upstream.system_id}",
                str(self.path),
            )
        newest = sorted(entries, key=lambda e: (e.timeline, e.segment_number), reverse=True)
        for entry in newest:
            header = read_long_header(_start_of(self.path, entry))
            if header is None:
                continue
            if header.system_id != upstream.system_id:
                raise WrongCluster(
                    f"{self.path / entry.name} is of the cluster with system identifier "
                    f"{header.system_id}, the server's is {upstream.system_id}",
                    str(self.path / entry.name),
                )
            if header.version != upstream.version:
                raise StoreError(
                    f"{self.path / entry.name} is of PostgreSQL {header.version}, "
                    f"the server is {upstream.version}",
                    str(self.path / entry.name),
                )
            return

    def keep_history(self, timeline: int, content: bytes) -> None:
        """Keeps a history file byte for byte; one that is there must tell of the same switches."""
        path = self.path / history_file_name(timeline)
        try:
            stored = path.read_bytes() if path.exists() else None
        except OSError as exc:
            raise read_error("read", path, exc) from exc
        if stored is None:
            write_durably(self._layer, path, content, self._file_mode)
        elif parse_history(timeline, stored) != parse_history(timeline, content):
            raise WalDivergedError(
                f"{path} tells of another timeline {timeline} than the server's: "
                "two servers were promoted to the same timeline"
            )

    def _set_aside(self, dead: tuple[WalEntry, ...]) -> None:
        if not dead:
            return
        place = self.path / DEAD_DIRECTORY
        try:
            place.mkdir(exist_ok=True, mode=0o750 if self._file_mode & 0o040 else 0o700)
            for entry in dead:
                if not self._layer.exists(self.path / entry.name):
                    continue  # set aside before, when there was no space for what follows
                target = place / entry.name
                number = 0
                while target.exists():
                    number += 1
                    target = place / f"{entry.name}.{number}"
                self._layer.rename(self.path / entry.name, target)
            self._layer.fsync_directory(place)
            self._layer.fsync_directory(self.path)
        except OSError as exc:
            raise storage_error("set aside into", place, exc) from exc


def scan_directory(directory: Path, segment_size: int) -> list[WalEntry]:
    """Returns the segment files of a directory.

    Raises:
        StorageError: it cannot be read.
    """
    entries = (parse_entry(name, size, segment_size) for name, size in regular_files(directory))
    return sorted(entry for entry in entries if entry is not None)


def _start_of(directory: Path, entry: WalEntry) -> bytes:
    try:
        return read_head(directory / entry.name, SizeOfXLogLongPHD)
    except FileDamaged:
        if entry.complete:
            raise
        return b""
