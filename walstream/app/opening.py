"""A moment opened: its data directory mounted, and a PostgreSQL on it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import trio

from walstream.app.open import StoreReader, open_reader
from walstream.datadir.past import Past
from walstream.datadir.plan import MomentPlan, Target, plan_moment
from walstream.datadir.relations import RelationTable
from walstream.errors import LsnNotAvailable
from walstream.index.moment import Moment, MomentText, parse_moment
from walstream.mount.branch import (
    DIRECTORY,
    Branch,
    check_name,
    load_branch,
    make_branch,
    point_links,
)
from walstream.mount.filesystem import MomentFilesystem
from walstream.mount.lower import Lower, Places
from walstream.mount.mounted import check_fuse, mounted
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.server.postmaster import running_server, stop
from walstream.server.programs import (
    ServerUser,
    find_programs,
    reachable_by_all,
    reachable_programs,
    server_user,
    temporary_place,
)
from walstream.state.cluster import StateSource, cluster_state
from walstream.state.control import DbState, Parameters
from walstream.store.file_layer import DirectoryLock
from walstream.wal.model import format_lsn

# Only whoever reaches the socket, which lies in a directory of the caller's alone.
SOCKET_ONLY = "local all all trust\n"
WITH_PORT = (
    SOCKET_ONLY
    + "host all all 127.0.0.1/32 scram-sha-256\n"
    + "host all all ::1/128 scram-sha-256\n"
)


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a moment is opened.

    ``name``: a branch that stays; None: what is written goes away at the end. ``port``: also
    listen there on the loopback addresses, where roles must give their passwords. ``settings``: of
    the server, after ours. ``expires``, ``protected``: of the branch.
    """

    writable: bool = False
    name: str | None = None
    port: int | None = None
    bindir: Path | None = None
    settings: tuple[tuple[str, str], ...] = ()
    expires: datetime | None = None
    protected: bool = False
    sandbox: bool = True


@dataclass(frozen=True, slots=True)
class Opening:
    """A moment that is open. ``programs``: PostgreSQL's, of its version."""

    branch: Branch
    moment: Moment | None
    mount_point: Path
    conninfo: str
    programs: Path
    process: trio.Process
    lower: Lower

    @property
    def data_directory(self) -> Path:
        return self.mount_point / Places.DATA


@dataclass(frozen=True, slots=True)
class _Place:
    """A private directory beside the store: mount point, socket, access rules."""

    path: Path
    user: ServerUser | None

    @property
    def mount_point(self) -> Path:
        return self.path / "mnt"

    @property
    def owner(self) -> tuple[int, int] | None:
        return None if self.user is None else (self.user.uid, self.user.gid)


def _make_place(store: Path) -> _Place:
    user = server_user(store.stat().st_uid)
    path = Path(tempfile.mkdtemp(prefix="walstream-", dir=temporary_place(user)))
    place = _Place(path, user)
    for directory in (place.mount_point, path / "socket"):
        directory.mkdir(mode=0o700)
        if place.owner is not None:
            os.chown(directory, *place.owner)
    if user is not None:
        path.chmod(0o711)
    return place


@asynccontextmanager
async def _place_beside(store: Path) -> AsyncIterator[_Place]:
    place = await trio.to_thread.run_sync(_make_place, store)
    try:
        yield place
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, place.path, ignore_errors=True))


@asynccontextmanager
async def open_moment(
    store: Path, asked: MomentText, options: OpenOptions
) -> AsyncIterator[Opening]:
    """Opens a moment of a store: a server that takes connections on the cluster as of then.

    Read-only it is a standby that has nothing to follow; writable, or with a name, a branch: a
    cluster of its own, on a timeline of its own, that takes writes. Base, WAL and index are only
    read; what the server writes lies in the branch.

    Raises:
        LsnNotAvailable, SegmentMissing: the moment cannot be had.
        LocalServerError: PostgreSQL's programs are not there, or the server does not start.
        MountError: nothing can be mounted.
        StoreError: no store, no base backup; or there is a branch of that name.
        WalError, StorageError: see ``open_past``.

    Cancellation: the server is shut down at once; a branch with a name stays as after a crash.
    """
    check_fuse()
    if options.name is not None:
        check_name(options.name)
    async with open_reader(store, options.sandbox) as reader, _place_beside(store) as place:
        past = Past(reader.pages, reader.backups)
        moment = await past.moment(asked)
        source = past.source(moment.lsn)
        standby = not options.writable and options.name is None
        target = Target(place.mount_point / Places.DATA, {})
        plan = await trio.to_thread.run_sync(
            plan_moment,
            source,
            moment.lsn,
            target,
            DbState.SHUTDOWNED if standby else DbState.IN_PRODUCTION,
        )
        superuser = await _superuser(reader, moment.lsn, plan)
        path = place.path / "branch" if options.name is None else store / DIRECTORY / options.name
        branch = await trio.to_thread.run_sync(
            partial(
                make_branch,
                path,
                source,
                plan,
                superuser,
                owner=place.owner,
                wal_beside=options.name is None or _reachable(store, place),
                extra=("standby.signal",) if standby else (),
                expires=options.expires,
                protected=options.protected,
                durable=options.name is not None,
            )
        )
        async with _opened(
            reader, source, plan.state.directories, branch, place, options, plan.state.parameters,
            moment, standby=standby,
        ) as opening:  # fmt: skip
            yield opening


@asynccontextmanager
async def open_branch(store: Path, name: str, options: OpenOptions) -> AsyncIterator[Opening]:
    """Opens a branch of a store again, as it was left.

    Raises:
        StoreError: there is none, or it is open; see ``open_moment`` for the rest.

    Cancellation: as ``open_moment``.
    """
    check_fuse()
    branch = await trio.to_thread.run_sync(load_branch, store / DIRECTORY / check_name(name))
    async with open_reader(store, options.sandbox) as reader, _place_beside(store) as place:
        past = Past(reader.pages, reader.backups)
        source = past.source(branch.lsn)
        await past.moment(parse_moment(format_lsn(branch.lsn)))
        state = await trio.to_thread.run_sync(cluster_state, source, branch.lsn)
        async with _opened(
            reader, source, state.directories, branch, place, options, state.parameters, None,
            standby=False,
        ) as opening:  # fmt: skip
            yield opening


async def _superuser(reader: StoreReader, lsn: int, plan: MomentPlan) -> str:
    from walstream.rows.catalog import read_superuser
    from walstream.rows.pages import RelationPages
    from walstream.rows.visibility import Visibility
    from walstream.state.cluster import SHARED

    state = plan.state
    found = await read_superuser(
        RelationPages(reader.pages, lsn),
        Visibility(state.transactions),
        state.relation_maps[SHARED],
    )
    if found is None:
        raise LsnNotAvailable(f"there is no bootstrap superuser at {format_lsn(lsn)}")
    return found


def _reachable(store: Path, place: _Place) -> bool:
    return place.user is None or reachable_by_all(store)


@asynccontextmanager
async def _opened(
    reader: StoreReader,
    source: StateSource,
    directories: dict[tuple[int, int], bool],
    branch: Branch,
    place: _Place,
    options: OpenOptions,
    parameters: Parameters,
    moment: Moment | None,
    *,
    standby: bool,
) -> AsyncIterator[Opening]:
    keep = options.name is not None
    bindir, lower, lock = await trio.to_thread.run_sync(
        _prepare, reader, source, directories, branch, place, options
    )
    try:
        filesystem = MomentFilesystem(branch.path, lower, place.owner)
        settings = _settings(place, options, parameters, standby=standby)
        user = None if place.user is None else place.user.name
        async with (
            mounted(filesystem, place.mount_point, others=user is not None, keep=keep),
            running_server(
                bindir / "postgres",
                place.mount_point / Places.DATA,
                settings,
                branch.path / "server.log",
                user=user,
                # Never through the mount: it is this process that would have to answer.
                pid_file=branch.path / "upper" / Places.DATA / "postmaster.pid",
            ) as process,
        ):
            conninfo = (
                f"host={place.path / 'socket'} port={settings['port']} "
                f"user={_conninfo_value(branch.superuser)} dbname=postgres"
            )
            yield Opening(branch, moment, place.mount_point, conninfo, bindir, process, lower)
            await stop(process)
    finally:
        lock.release()


def _conninfo_value(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if text.isalnum() else f"'{escaped}'"


def _prepare(
    reader: StoreReader,
    source: StateSource,
    directories: dict[tuple[int, int], bool],
    branch: Branch,
    place: _Place,
    options: OpenOptions,
) -> tuple[Path, Lower, DirectoryLock]:
    lock = DirectoryLock(branch.path / "lock", f"branch {branch.name}")
    try:
        found = find_programs(source.version, options.bindir)
        bindir = reachable_programs(found, place.user, place.path / "installed")
        table = RelationTable(source.index, source.backup.start_lsn, branch.lsn)
        lower = Lower(
            table.sizes(directories),
            VERSION_DIRECTORIES[source.version],
            Places(),
            reader.pages,
            branch.lsn,
        )
        point_links(branch, place.mount_point, place.owner)
        rules = place.path / "pg_hba.conf"
        rules.write_text(SOCKET_ONLY if options.port is None else WITH_PORT)
        rules.chmod(0o644)
    except BaseException:
        lock.release()
        raise
    return bindir, lower, lock


def _settings(
    place: _Place, options: OpenOptions, parameters: Parameters, *, standby: bool
) -> dict[str, str]:
    """Returns the settings that an opening's server is started with."""
    settings = {
        "port": str(options.port or 5432),
        "unix_socket_directories": str(place.path / "socket"),
        "listen_addresses": "" if options.port is None else "localhost",
        "hba_file": str(place.path / "pg_hba.conf"),
        "external_pid_file": "",
        "huge_pages": "off",
        "shared_buffers": "128MB",
        "logging_collector": "off",
        "log_destination": "stderr",
        # A standby must have at least what the cluster had.
        "max_connections": str(parameters.max_connections),
        "max_worker_processes": str(parameters.max_worker_processes),
        "max_wal_senders": str(parameters.max_wal_senders),
        "max_prepared_transactions": str(parameters.max_prepared_transactions),
        "max_locks_per_transaction": str(parameters.max_locks_per_transaction),
    }
    if standby:
        settings |= {"hot_standby": "on", "fsync": "off"}
    elif options.name is None:
        settings["fsync"] = "off"
    return {**settings, **dict(options.settings)}
