"""A base backup made from pages: as a server's of that moment, and no server is touched.

Files that no record touched are those of the base before it, by reference where the file system
can; of the others only the blocks that were changed are rebuilt. The source is compared with its
manifest as it is read, the new manifest is made of what was written.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.datadir.base_file import BaseFile
from walstream.datadir.materialize import Progress
from walstream.datadir.other_files import (
    database_directory,
    standing_directories,
    state_files,
    two_phase_name,
)
from walstream.datadir.plan import SegmentFile, check_statuses, check_wal, segment_files
from walstream.datadir.relations import RelationTable
from walstream.datadir.restart import (
    Restart,
    backup_label,
    control_file,
    find_restart,
    wal_ranges,
)
from walstream.datadir.work import JOURNAL, WorkDirectory, read_identity
from walstream.errors import StoreError
from walstream.pages.service import PageService
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.state.cluster import StateSource
from walstream.store.backup_files import reported
from walstream.store.base_backup import BaseBackup
from walstream.store.file_layer import FileLayer, storage_error, write_durably
from walstream.store.manifest import (
    ALGORITHMS,
    MANIFEST,
    ManifestEntry,
    ManifestFile,
    encode_manifest,
)
from walstream.tasks.rate_limit import RateLimit
from walstream.tasks.supervise import leaves
from walstream.wal.model import BufferTag, format_lsn, parse_lsn
from walstream.wal.timeline import TimelinePart

SUFFIX = ".advance.tmp"
_UNFINISHED = re.compile(r"[0-9A-F]{16}" + re.escape(SUFFIX))
ALGORITHM = "CRC32C"
PAGES_AT_ONCE = 128
# Of a data directory, what is made here; all else of a backup is copied as it is.
_MADE = re.compile(
    r"(?:base|global|pg_tblspc|pg_wal|pg_commit_ts|pg_dynshmem|pg_logical|pg_multixact|pg_notify"
    r"|pg_replslot|pg_serial|pg_snapshots|pg_stat|pg_stat_tmp|pg_subtrans|pg_twophase|pg_xact)/.*"
    r"|PG_VERSION|backup_label(?:\.old)?|tablespace_map(?:\.old)?|backup_manifest"
    r"|recovery\.signal|standby\.signal|postmaster\.(?:pid|opts)|current_logfiles",
    re.DOTALL,
)


class Unfinished(NamedTuple):
    """An advance that was interrupted: its directory, and to where it was to go."""

    path: Path
    lsn: int
    identity: dict[str, str]


def find_unfinished(base_path: Path) -> list[Unfinished]:
    """Returns the interrupted advances below ``base/`` that can be gone on with; removes others.

    Only for who holds the lock of ``base/``.

    Raises:
        StorageError: they cannot be read or removed.
    """
    found = []
    with reported(base_path):
        paths = sorted(path for path in base_path.iterdir() if _UNFINISHED.fullmatch(path.name))
    for path in paths:
        lsn = int(path.name[:16], 16)
        journal = path / JOURNAL
        identity = None
        with reported(journal), suppress(FileNotFoundError):
            identity = read_identity(journal.read_text(errors="surrogateescape").split("\n")[0])
        if identity is not None or (path / MANIFEST).exists():
            found.append(Unfinished(path, lsn, identity or {}))
        else:
            remove_advance(path)
    return found


def remove_advance(path: Path) -> None:
    """Removes an interrupted advance.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        shutil.rmtree(path)
    except OSError as exc:
        raise storage_error("remove", path, exc) from exc


@dataclass(frozen=True, slots=True)
class AdvancePlan:
    """What a base at a moment will be. ``result`` is it; ``ranges`` the WAL that it needs."""

    source: StateSource
    restart: Restart
    result: BaseBackup
    ranges: list[TimelinePart]
    files: list[SegmentFile]

    @property
    def identity(self) -> dict[str, str]:
        return {
            "version": "1",
            "base": self.source.backup.path.name,
            "lsn": format_lsn(self.result.start_lsn),
            "wal_from": format_lsn(self.result.first_needed_lsn),
        }


def plan_advance(source: StateSource, at_lsn: int, base_path: Path) -> AdvancePlan:
    """Returns what the base at the newest moment up to ``at_lsn`` will be. Blocks.

    Raises:
        LsnNotAvailable, SegmentMissing: there is no such moment.
        WalError, StorageError, StoreError: the backup, index or WAL cannot be read.
    """
    check_wal(source, at_lsn)
    restart = find_restart(source, at_lsn)
    state, point = restart.state, restart.checkpoint
    check_statuses(state)
    lsn = state.lsn
    ranges = wal_ranges(source.archive.history, point.redo, lsn)
    result = BaseBackup(
        base_path / f"{lsn:016X}",
        start_lsn=lsn,
        stop_lsn=lsn,
        checkpoint_lsn=restart.checkpoint_lsn,
        timeline=point.timeline,
        tablespaces={oid: path for oid, path in state.tablespaces.items() if path},
        wal_from=point.redo,
        stop_timeline=ranges[-1].timeline,
    )
    table = RelationTable(source.index, source.backup.start_lsn, lsn)
    files = list(segment_files(table.forks(state.directories), source.version))
    return AdvancePlan(source, restart, result, ranges, files)


async def advance(
    pages: PageService,
    plan: AdvancePlan,
    *,
    jobs: int = 2,
    limit: RateLimit | None = None,
    file_mode: int = 0o600,
    progress: Progress | None = None,
    planned: Callable[[Progress], None] | None = None,
) -> BaseBackup:
    """Makes the base backup that was planned, and returns it.

    Only for who holds the lock of ``base/``.

    Args:
        pages: rebuilds pages of the same store.
        plan: see ``plan_advance``.
        jobs: so many files at a time.
        limit: of the bytes that are read and written.
        file_mode: of its files.
        progress: is kept up to date.
        planned: called once it is known how much there is to do.

    Raises:
        PageError, RedoError, WalError: a page cannot be rebuilt.
        BackupDamaged: the base before it is damaged.
        StoreError: something is in the way.
        StorageError: a file cannot be read or written.

    Cancellation: what was made stays, for the next run to go on with.
    """
    progress = progress or Progress()
    target = plan.result.path
    work = await trio.to_thread.run_sync(
        lambda: WorkDirectory(
            target,
            plan.identity,
            {},
            path=target.with_name(target.name + SUFFIX),
            file_mode=file_mode,
        )
    )
    maker = _Maker(pages, plan, work, limit or RateLimit(None), progress)
    await trio.to_thread.run_sync(maker.begin)
    if planned is not None:
        planned(progress)
    await maker.relation_files(jobs)
    await trio.to_thread.run_sync(maker.finish)
    return plan.result


class _Maker:
    """Makes the files of one plan; methods that are not async block."""

    def __init__(
        self,
        pages: PageService,
        plan: AdvancePlan,
        work: WorkDirectory,
        limit: RateLimit,
        progress: Progress,
    ) -> None:
        self._pages = pages
        self._plan = plan
        self._work = work
        self._limit = limit
        self._progress = progress
        self._base = plan.restart.state.files
        self._made: dict[str, ManifestFile] = {}
        self._todo: list[BaseFile] = []

    def begin(self) -> None:
        """Finds what an earlier run left to do."""
        listed = self._base.listed
        if listed is None:
            raise StoreError(f"{self._base.path} has no manifest: a base is made from one that has")
        for file in self._plan.files:
            if not self._has(file.name):
                one = BaseFile(self._base, self._work, file, listed.get(file.source))
                self._todo.append(one)
                self._progress.pages += len(file.changed)
                self._progress.bytes += one.base_bytes

    def _has(self, name: str) -> bool:
        """Whether an earlier run completed a file; takes over what it noted."""
        if not self._work.has(name):
            return False
        size, note = self._work.complete[name]
        algorithm, _, checksum = note.partition(":")
        self._made[name] = ManifestFile(size, algorithm or None, checksum)
        return True

    async def relation_files(self, jobs: int) -> None:
        waiting = iter(self._todo)

        async def make_files() -> None:
            for file in waiting:
                await self._relation_file(file)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(jobs):
                    nursery.start_soon(make_files)
        except ExceptionGroup as group:
            raise leaves(group)[0] from group

    async def _relation_file(self, file: BaseFile) -> None:
        progress = self._progress
        try:
            await trio.to_thread.run_sync(file.begin)
            for part in file.parts():
                await self._limit.take(part.io_bytes)
                found = await self._rebuilt(file.file, part.changed)
                await trio.to_thread.run_sync(file.write, part, found)
                progress.bytes_done += part.base_bytes
                progress.pages_done += len(part.changed)
            made = await trio.to_thread.run_sync(file.finish)
        finally:
            file.close()
        progress.bytes_done += file.cloned_bytes
        self._made[file.file.name] = made

    async def _rebuilt(self, file: SegmentFile, blocks: Sequence[int]) -> list[bytes]:
        """Returns the pages of these blocks as of the plan's moment."""
        found = [b""] * len(blocks)
        lsn = self._plan.result.start_lsn

        async def fetch(i: int) -> None:
            tag = BufferTag(*file.fork.locator, file.fork.fork, blocks[i])
            found[i] = await self._pages.get_page(tag, lsn)

        for begin in range(0, len(blocks), PAGES_AT_ONCE):
            async with trio.open_nursery() as nursery:
                for i in range(begin, min(begin + PAGES_AT_ONCE, len(blocks))):
                    nursery.start_soon(fetch, i)
        return found

    def finish(self) -> None:
        """Makes everything that is no relation file, and gives the whole its name."""
        plan, work = self._plan, self._work
        self._directories()
        for name, data in self._state_files().items():
            self._write(name, data)
        self._copy_others()
        self._write("backup_label", backup_label(plan.restart, plan.source.archive.segment_size))
        # Last: without it nothing starts.
        stop_timeline = plan.ranges[-1].timeline
        self._write("global/pg_control", control_file(plan.restart, stop_timeline))
        work.write(MANIFEST, self._manifest())
        mode = work.file_mode
        text = plan.result.to_toml().encode()
        write_durably(FileLayer(), plan.result.path.with_suffix(".toml"), text, mode)
        work.finish()

    def _directories(self) -> None:
        state, version = self._plan.restart.state, self._plan.source.version
        for name in standing_directories(version):
            self._work.directory(name)
        for oid in state.tablespaces:
            self._work.directory(f"pg_tblspc/{oid}/{VERSION_DIRECTORIES[version]}")
        for key in state.directories:
            self._work.directory(database_directory(key, version))

    def _state_files(self) -> dict[str, bytes]:
        """Returns the files beside relations, those of prepared transactions as of the redo point.

        What was prepared since is in WAL: a server that finds its file too may keep neither.
        """
        plan = self._plan
        state, version = plan.restart.state, plan.source.version
        files = state_files(state, version)
        for xid in plan.restart.prepared:
            name = f"pg_twophase/{two_phase_name(xid, state.next_xid, version)}"
            files.pop(name, None)
        return files

    def _copy_others(self) -> None:
        """Copies what WAL does not know: configuration, and what people put there."""
        listed = self._base.listed
        assert listed is not None
        for name, entry in listed.items():
            if not _MADE.fullmatch(name) and not self._has(name):
                self._base.prove(name)
                self._work.copy(self._base.path / name, name)
                self._made[name] = entry

    def _write(self, name: str, data: bytes) -> None:
        total = ALGORITHMS[ALGORITHM]()
        total.update(data)
        made = ManifestFile(len(data), ALGORITHM, total.hexdigest())
        self._work.write(name, data, note=f"{ALGORITHM}:{made.checksum}")
        self._made[name] = made

    def _manifest(self) -> bytes:
        entries = []
        for name, made in sorted(self._made.items()):
            place = self._work.place(name)
            with reported(place):
                entries.append(ManifestEntry(name, made, int(place.stat().st_mtime)))
        system_id = self._plan.restart.state.control.system_id
        return encode_manifest(self._plan.source.version, system_id, entries, self._plan.ranges)


def finish_named(unfinished: Unfinished) -> bool:
    """Gives its name to an advance that was whole already; False where it is not. Blocks.

    Raises:
        StorageError: it cannot be renamed.
    """
    if unfinished.identity:
        return False
    target = unfinished.path.with_name(unfinished.path.name.removesuffix(SUFFIX))
    if not target.with_suffix(".toml").exists() or target.exists():
        return False
    try:
        unfinished.path.rename(target)
        FileLayer().fsync_directory(target.parent)
    except OSError as exc:
        raise storage_error("rename", unfinished.path, exc) from exc
    return True


def source_of(unfinished: Unfinished, backups: Sequence[BaseBackup]) -> BaseBackup | None:
    """Returns the backup that an interrupted advance began with, None where it is gone."""
    name = unfinished.identity.get("base")
    lsn = unfinished.identity.get("lsn", "")
    if not lsn or parse_lsn(lsn) != unfinished.lsn:
        return None
    return next((backup for backup in backups if backup.path.name == name), None)
