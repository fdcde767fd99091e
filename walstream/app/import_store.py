"""The import of backups and archives of other tools into a store; synchronous.

The order is what a kill at any moment may leave: WAL comes segment by segment under its name, a
base backup gets its name when it is whole and its end is known, the index is made last. The same
command goes on with what is there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from walstream.app.reindex import reindex
from walstream.errors import ConfigError, StoreError, WalError, WrongCluster
from walstream.importing.archive import ArchivedFile, find_archived, find_live
from walstream.importing.base_files import (
    Listing,
    list_directory,
    take_directory,
    take_tars,
    unpack_wal,
)
from walstream.importing.base_target import BaseFacts, BaseTarget
from walstream.importing.bases import FoundBase, find_bases
from walstream.importing.label import no_end
from walstream.importing.report import BaseReport, ImportReport
from walstream.importing.wal import WalPlan, base_problems, find_stop, plan_wal, take_wal
from walstream.index.page_index import PageIndex
from walstream.segments.files import is_tar
from walstream.store.base_backup import list_base_backups
from walstream.store.base_directory import lock_bases
from walstream.store.file_layer import storage_error
from walstream.store.leases import Lease
from walstream.store.store import IDENTITY_FILE, Store, StoreIdentity
from walstream.verify.ledger import Ledger
from walstream.verify.report import Problem
from walstream.wal.model import format_lsn

WORK = "import.tmp"


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """What an import is told.

    Attributes:
        store: its directory; made where it is not there.
        bases: paths of base backups (``importing/bases.py``).
        wal: directories of archived WAL, or tar archives of it.
        timeline: the timeline to follow, None for the newest that there is.
        threads: so many files at a time.
        links: WAL that nobody writes to any more gets a second name instead of a copy.
        link_bases: files of base backups too.
        dry_run: nothing is written.
        index: the index is made at the end.
    """

    store: Path
    bases: Sequence[Path] = ()
    wal: Sequence[Path] = ()
    timeline: int | None = None
    threads: int = 1
    links: bool = True
    link_bases: bool = False
    dry_run: bool = False
    index: bool = True


# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


class _Import:
    """One import: what was found, and what is being made of it."""

    def __init__(self, config: ImportConfig, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.bases = [base for path in config.bases for base in find_bases(path)]
        self.bases.sort(key=lambda base: base.start_lsn)
        exists = Store.exists(config.store)
        stored = Store.open(config.store, lock=False).identity if exists else None
        self.identity = self._identity(stored)
        # A Barman server's directory has both.
        self.archives = [*config.wal, *(p for p in config.bases if (p / "wals").is_dir())]

    def _identity(self, stored: StoreIdentity | None) -> StoreIdentity:
        """Returns the cluster of it all.

        Raises:
            ConfigError: nothing says which it is.
            WrongCluster, StoreError: two say different ones.
        """
        config = self.config
        identity = stored
        if identity is None:
            if not self.bases:
                raise ConfigError(
                    f"{config.store} is no store yet: give a base backup with --base, whose "
                    "control file says which cluster it is of"
                )
            identity = self.bases[-1].identity
        owner = config.store if stored is not None else self.bases[-1].path
        for base in self.bases:
            theirs = base.identity
            if theirs.system_id != identity.system_id:
                raise WrongCluster(
                    f"{base.path} is of the cluster with system identifier {theirs.system_id}, "
                    f"{owner} of {identity.system_id}"
                )
            for name in ("version", "segment_size"):
                if getattr(theirs, name) != getattr(identity, name):
                    raise StoreError(
                        f"{base.path}: {name.replace('_', ' ')}: expected "
                        f"{getattr(identity, name)}, as {owner} has, got {getattr(theirs, name)}"
                    )
        return identity

    def files(self, work: Path) -> tuple[list[ArchivedFile], set[str]]:
        """Returns all WAL files there are, archives first; what is in tars is unpacked."""
        size, system_id = self.identity.segment_size, self.identity.system_id
        files: list[ArchivedFile] = []
        listed: set[str] = set()
        for path in self.archives:
            if not path.exists():
                raise ConfigError(f"{path} is not there")
            if path.is_file():
                if not is_tar(path.name):
                    raise ConfigError(f"{path} is neither a directory nor a tar archive of WAL")
                files += find_live(self._unpacked(path, work), size)
                continue
            if (path / IDENTITY_FILE).is_file():
                path /= "wal"
            if (path / "PG_VERSION").is_file() and (path / "pg_wal").is_dir():
                path /= "pg_wal"
            if path.name == "pg_wal" or (path / "archive_status").is_dir():
                files += find_live(path, size)
                continue
            found = find_archived(path, system_id, size, linkable=True)
            files += found.files
            listed |= found.listed
        for base in self.bases:
            if base.wal_directory is not None:
                files += find_live(base.wal_directory, size)
            if base.tars is not None and base.tars.wal is not None:
                files += find_live(self._unpacked(base.tars.wal, work), size)
        for directory in sorted(work.glob("base-*")):
            files += find_live(directory, size)
        return files, listed

    def _unpacked(self, tar: Path, work: Path) -> Path:
        place = Path(tempfile.mkdtemp(prefix="wal-", dir=work))
        self.progress(f"unpacking {tar.name}", 0, 0)
        unpack_wal(tar, place)
        return place

    def plan(self, store: Path | None, work: Path) -> WalPlan:
        files, listed = self.files(work)
        wal = None if store is None else store / "wal"
        return plan_wal(wal, files, listed, self.identity.segment_size, self.config.timeline)

    def report(self) -> ImportReport:
        identity, config = self.identity, self.config
        return ImportReport(
            config.store,
            config.dry_run,
            identity.system_id,
            identity.version,
            identity.segment_size,
        )


def import_store(config: ImportConfig, progress: Progress = lambda *_: None) -> ImportReport:
    """Takes base backups and WAL into a store; returns what was taken and what is missing. Blocks.

    Raises:
        ConfigError: a path is not what it should be, or nothing says which cluster it is of.
        WrongCluster: a backup or segment is of another cluster.
        BackupDamaged: a file of a backup is not what its manifest says.
        StoreError: the store is in use, or a backup cannot be used.
        StorageError: something cannot be read or written; the same call goes on when it can.
        WalError: a history file is malformed.
    """
    run = _Import(config, progress)
    if config.dry_run:
        with tempfile.TemporaryDirectory(prefix="walstream-import-") as work:
            return _would_take(run, Path(work))
    report = run.report()
    with _opened(config.store, run.identity) as store:
        lock = lock_bases(store.base_path)
        try:
            with _work(store.path) as work:
                _take(run, store, work, report)
        finally:
            lock.release()
        backups = list_base_backups(store.base_path)
    if config.index and backups:
        _index(run, report)
    return report


def _would_take(run: _Import, work: Path) -> ImportReport:
    report = run.report()
    exists = Store.exists(run.config.store)
    plan = run.plan(run.config.store if exists else None, work)
    size = plan.source.segment_size
    for base in run.bases:
        there = exists and (run.config.store / "base" / f"{base.start_lsn:016X}").is_dir()
        listing = _listing(base)
        stop = base.stop_lsn if base.stop_lsn is not None else find_stop(base, plan)
        report.bases.append(_base_report(base, listing, stop, there=there))
    report.wanted = len(plan.wanted) + len(plan.others) + len(plan.small)
    report.timeline = plan.source.timeline
    report.left_out, report.not_there = plan.left_out, plan.not_there
    if plan.path:
        report.start_lsn, report.end_lsn = plan.path[0] * size, (plan.path[-1] + 1) * size
    first = min((base.start_lsn for base in run.bases), default=None)
    for begin, end in plan.holes(first):
        message = f"missing: WAL {format_lsn(begin)} to {format_lsn(end)}"
        report.holes.append(Problem("missing", begin, message, begin, end))
    return report


def _listing(base: FoundBase) -> Listing | None:
    return None if base.directory is None else list_directory(base)


def _base_report(
    base: FoundBase, listing: Listing | None, stop_lsn: int | None, *, there: bool
) -> BaseReport:
    if listing is not None:
        size, files = listing.size, len(listing.files)
    else:
        assert base.tars is not None
        tars = [base.tars.base, *base.tars.tablespaces.values()]
        size, files = sum(path.stat().st_size for path in tars), 0
    return BaseReport(
        base.path,
        base.start_lsn,
        stop_lsn,
        base.timeline,
        size,
        files,
        base.manifest is not None,
        base.stopped,
        there,
    )


@contextmanager
def _opened(path: Path, identity: StoreIdentity) -> Iterator[Store]:
    store = Store.open(path) if Store.exists(path) else Store.create(path, identity)
    # No base backup needs yet what is put there first: gc is to wait for it.
    with store, Lease(store.path):
        yield store


@contextmanager
def _work(store: Path) -> Iterator[Path]:
    """A directory below the store for what is unpacked on the way; of an earlier run nothing."""
    work = store / WORK
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
    except OSError as exc:
        raise storage_error("create", work, exc) from exc
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take(run: _Import, store: Store, work: Path, report: ImportReport) -> None:
    config = run.config
    targets: list[tuple[FoundBase, BaseTarget, BaseReport]] = []
    for number, base in enumerate(run.bases):
        listing = _listing(base)
        done = 0
        described = _base_report(base, listing, base.stop_lsn, there=False)

        def advance(size: int, described: BaseReport = described) -> None:
            nonlocal done
            done += size
            run.progress(f"base backup {described.path.name}", done, described.bytes)

        target = BaseTarget(
            store.base_path,
            BaseFacts(
                base.start_lsn,
                base.checkpoint_lsn,
                base.timeline,
                base.identity.version,
                base.identity.system_id,
                base.tablespaces,
            ),
            base.manifest,
            file_mode=store.file_mode,
            whole_pages=base.stopped and base.manifest is None and base.control.checksums,
            links=config.link_bases,
            progress=advance,
        )
        if target.is_there:
            target.path.rmdir()
            report.bases.append(described._replace(there=True))
            continue
        if listing is not None:
            take_directory(base, listing, target, config.threads)
        else:
            place = work / f"base-{number}"
            place.mkdir()
            take_tars(base, target, place, config.threads)
        targets.append((base, target, described))
    plan = run.plan(store.path, work)
    with Ledger(store.path) as ledger:
        _take_wal(run, store, plan, ledger, report)
        ledger.save()
    for base, target, described in targets:
        stop = base.stop_lsn if base.stop_lsn is not None else find_stop(base, plan)
        if stop is None:
            raise no_end(str(base.path), base.start_lsn)
        target.finish(stop)
        report.bases.append(described._replace(stop_lsn=stop))
    report.bases.sort(key=lambda base: base.start_lsn)
    for backup in list_base_backups(store.base_path):
        span = (backup.first_needed_lsn, backup.stop_lsn)
        report.holes += base_problems(span, plan, report.end_lsn)


def _take_wal(
    run: _Import, store: Store, plan: WalPlan, ledger: Ledger, report: ImportReport
) -> None:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        run.progress("WAL segments", done, len(plan.path))

    taken = take_wal(
        plan,
        store.wal_path,
        run.identity.system_id,
        threads=run.config.threads,
        links=run.config.links,
        ledger=ledger,
        progress=advance,
    )
    report.wanted = len(plan.wanted) + len(plan.others) + len(plan.small)
    report.taken, report.there, report.bytes = taken.taken, taken.there, taken.bytes
    report.timeline = plan.source.timeline
    report.start_lsn, report.end_lsn = taken.report.start_lsn, taken.report.end_lsn
    report.holes = [hole for hole in taken.report.problems if hole.kind != "truncated"]
    report.refused = taken.refused
    report.left_out, report.not_there = plan.left_out, plan.not_there


def _index(run: _Import, report: ImportReport) -> None:
    def advance(done: int, total: int) -> None:
        run.progress("indexing", done, total)

    path = run.config.store
    try:
        report.indexed_lsn = reindex(path, advance)
    except WalError as exc:
        # WAL that no base backup leads to: what is missing is among the holes.
        report.not_indexed = str(exc)
    else:
        with closing(PageIndex(Store.open(path, lock=False).index_path, read_only=True)) as index:
            report.index_start_lsn = int(index.meta("start_lsn") or 0)
