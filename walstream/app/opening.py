"""A moment opened: its data directory mounted, and a PostgreSQL on it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from walstream.app.open import StoreReader, open_reader
from walstream.datadir.past import Past
from walstream.datadir.plan import MomentPlan, Target, plan_moment
from walstream.datadir.relations import RelationTable
from walstream.errors import LsnNotAvailable
from walstream.index.moment import Moment, MomentText, parse_moment
from walstream.mount.branch import (
    Branch,
    branch_path,
    describe_branch,
    load_branch,
)
from walstream.mount.filesystem import MomentFilesystem
from walstream.mount.hydrate import Hydrated, hydrate
from walstream.mount.lower import Lower, Places
from walstream.mount.mounted import check_fuse, mounted
from walstream.mount.place import BRANCH, Place, place_beside
from walstream.mount.upper import make_branch, point_links
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.segments.files import read_error
from walstream.server.postmaster import running_server, stop
from walstream.server.programs import (
    find_programs,
    reachable_by_all,
    reachable_programs,
)
from walstream.state.cluster import ClusterState, StateSource, cluster_state
from walstream.state.control import ControlFile, DbState, Parameters
from walstream.store.file_layer import DirectoryLock
from walstream.tasks.rate_limit import RateLimit
from walstream.tasks.supervise import open_bare_nursery
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
    the server, after ours. ``expires``, ``protected``: of the branch. ``hydrate``: what is lazy is
    made in the background, ``rate_limit`` bytes a second at most.
    """

    writable: bool = False
    name: str | None = None
    port: int | None = None
    bindir: Path | None = None
    settings: tuple[tuple[str, str], ...] = ()
    expires: datetime | None = None
    protected: bool = False
    hydrate: bool = False
    rate_limit: int | None = None
    sandbox: bool = True

    @property
    def branches(self) -> bool:
        """Whether it is a cluster of its own that takes writes."""
        return self.writable or self.name is not None


class Connection(NamedTuple):
    """How to connect to an opening, as its superuser."""

    socket_directory: Path
    port: int
    user: str

    @property
    def conninfo(self) -> str:
        """The connection string."""
        user = self.user.replace("\\", "\\\\").replace("'", "\\'")
        user = user if user.isalnum() else f"'{user}'"
        return f"host={self.socket_directory} port={self.port} user={user} dbname=postgres"

    @property
    def environment(self) -> dict[str, str]:
        """libpq's environment variables: what a program is told itself counts before them."""
        return {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": "postgres",
        }


@dataclass(frozen=True, slots=True)
class Opening:
    """A moment that is open.

    ``programs``: where PostgreSQL's of its version are; ``lower``: what its pages are made by, None
    where nothing is lazy.
    """

    branch: Branch
    moment: Moment | None
    mount_point: Path
    connection: Connection
    programs: Path
    process: trio.Process
    lower: Lower | None
    hydrated: Hydrated

    @property
    def data_directory(self) -> Path:
        return self.mount_point / Places.DATA


@asynccontextmanager
async def open_moment(
    store: Path, asked: MomentText, options: OpenOptions, place: Place | None = None
) -> AsyncIterator[Opening]:
    """Opens a moment of a store: a server that takes connections on the cluster as of then.

    ``place``: where the one before was open; its socket is at the same place then.

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
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(open_reader(store, options.sandbox))
        if place is None:
            place = await stack.enter_async_context(place_beside(store))
        past = Past(reader.pages, reader.backups)
        moment = await past.moment(asked)
        path = place.path / BRANCH
        await trio.to_thread.run_sync(partial(shutil.rmtree, path, ignore_errors=True))
        if options.name is not None:
            path = branch_path(store, options.name)
        branch, plan = await make_opening(reader, past, moment, place, path, options)
        source = past.source(moment.lsn)
        lower = await trio.to_thread.run_sync(moment_files, reader, source, plan.state, branch)
        version, parameters = source.version, plan.state.parameters
        async with _opened(branch, version, parameters, place, options, lower, moment) as opening:
            yield opening


async def make_opening(
    reader: StoreReader,
    past: Past,
    moment: Moment,
    place: Place,
    path: Path,
    options: OpenOptions,
    *,
    mount_only: bool = False,
) -> tuple[Branch, MomentPlan]:
    """Returns a new branch directory at ``path``, and what its moment is made of.

    ``mount_only``: no server runs on it: everything is in the mount, and it was shut down.

    Raises:
        WalstreamError: see ``open_moment``.

    Cancellation: what was made is removed with the next one at that path.
    """
    source = past.source(moment.lsn)
    target = Target(place.mount_point / Places.DATA, {})
    state = DbState.IN_PRODUCTION if options.branches else DbState.SHUTDOWNED
    plan = await trio.to_thread.run_sync(plan_moment, source, moment.lsn, target, state)
    superuser = await _superuser(reader, moment.lsn, plan)
    reachable = options.name is None or place.user is None or reachable_by_all(path.parent.parent)
    branch = await trio.to_thread.run_sync(
        partial(
            make_branch,
            path,
            source,
            plan,
            superuser,
            owner=place.owner,
            wal_beside=reachable and not mount_only,
            extra=() if options.branches or mount_only else ("standby.signal",),
            expires=options.expires,
            protected=options.protected,
            durable=options.name is not None,
        )
    )
    return branch, plan


class MountedMoment(NamedTuple):
    """A moment whose data directory is mounted. ``state``: what lies beside its pages."""

    moment: Moment
    data_directory: Path
    state: ClusterState
    lower: Lower


@asynccontextmanager
async def mount_moment(
    store: Path,
    asked: MomentText,
    directory: Path | None = None,
    *,
    others: bool = False,
    sandbox: bool = True,
) -> AsyncIterator[MountedMoment]:
    """Mounts the data directory of a moment at a directory, read-only, as of a clean shutdown.

    ``directory``: an empty one; None: a private one.

    Raises:
        MountError: it cannot be mounted; see ``open_moment`` for the rest.

    Cancellation: it is unmounted.
    """
    check_fuse()
    async with open_reader(store, sandbox) as reader, place_beside(store) as beside:
        past = Past(reader.pages, reader.backups)
        moment = await past.moment(asked)
        place = Place(beside.path, None, None if directory is None else directory.absolute())
        path = beside.path / BRANCH
        branch, plan = await make_opening(
            reader, past, moment, place, path, OpenOptions(), mount_only=True
        )
        lower = await trio.to_thread.run_sync(
            moment_files, reader, past.source(moment.lsn), plan.state, branch
        )
        filesystem = MomentFilesystem(path, lower, None, writable=False)
        async with mounted(filesystem, place.mount_point, others=others, keep=False):
            data = place.mount_point / Places.DATA
            yield MountedMoment(moment, data, plan.state, lower)


@asynccontextmanager
async def open_branch(store: Path, name: str, options: OpenOptions) -> AsyncIterator[Opening]:
    """Opens a branch of a store again, as it was left.

    Raises:
        StoreError: there is none, or it is open; see ``open_moment`` for the rest.

    Cancellation: as ``open_moment``.
    """
    branch = await trio.to_thread.run_sync(load_branch, branch_path(store, name))
    if branch.hydrated:
        # It needs nothing of the store any more.
        control = await trio.to_thread.run_sync(_control, branch)
        version, parameters = control.version, control.parameters
        async with (
            place_beside(store) as place,
            _opened(branch, version, parameters, place, options, None, None) as opening,
        ):
            yield opening
        return
    check_fuse()
    async with open_reader(store, options.sandbox) as reader, place_beside(store) as place:
        past = Past(reader.pages, reader.backups)
        await past.moment(parse_moment(format_lsn(branch.lsn)))
        source = past.source(branch.lsn)
        state = await trio.to_thread.run_sync(cluster_state, source, branch.lsn)
        lower = await trio.to_thread.run_sync(moment_files, reader, source, state, branch)
        version, parameters = source.version, state.parameters
        async with _opened(branch, version, parameters, place, options, lower, None) as opening:
            yield opening


def _control(branch: Branch) -> ControlFile:
    path = branch.path / "upper" / Places.DATA / "global/pg_control"
    try:
        return ControlFile.parse(path.read_bytes())
    except OSError as error:
        raise read_error("read", path, error) from error


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


@asynccontextmanager
async def _opened(
    branch: Branch,
    version: int,
    parameters: Parameters,
    place: Place,
    options: OpenOptions,
    lower: Lower | None,
    moment: Moment | None,
) -> AsyncIterator[Opening]:
    """``lower`` is None for a branch that is hydrated."""
    bindir, lock = await trio.to_thread.run_sync(_prepare, version, branch, place, options)
    try:
        settings = _settings(place, options, parameters)
        user = None if place.user is None else place.user.name
        root, hydrated = _root(branch, place), Hydrated()
        async with AsyncExitStack() as stack:
            filesystem = None
            if lower is not None:
                keep = options.name is not None
                filesystem = MomentFilesystem(branch.path, lower, place.owner)
                mount = mounted(filesystem, root, others=user is not None, keep=keep)
                await stack.enter_async_context(mount)
            server = running_server(
                bindir / "postgres",
                root / Places.DATA,
                settings,
                branch.path / "server.log",
                user=user,
                # Never through the mount: it is this process that would have to answer.
                pid_file=branch.path / "upper" / Places.DATA / "postmaster.pid",
            )
            process = await stack.enter_async_context(server)
            background = await stack.enter_async_context(open_bare_nursery())
            if options.hydrate and filesystem is not None and lower is not None:
                background.start_soon(_hydrate, branch, filesystem, lower, place, options, hydrated)
            connection = Connection(place.path / "socket", int(settings["port"]), branch.superuser)
            yield Opening(branch, moment, root, connection, bindir, process, lower, hydrated)
            background.cancel_scope.cancel()
            await stop(process)
    finally:
        lock.release()


def _root(branch: Branch, place: Place) -> Path:
    """Returns what the data directory lies below."""
    return branch.path / "upper" if branch.hydrated else place.mount_point


async def _hydrate(
    branch: Branch,
    filesystem: MomentFilesystem,
    lower: Lower,
    place: Place,
    options: OpenOptions,
    hydrated: Hydrated,
) -> None:
    keep = options.name is not None
    rate = RateLimit(options.rate_limit)
    await hydrate(filesystem, lower, rate, hydrated, durable=keep)
    if keep and (place.user is None or reachable_by_all(branch.path)):
        await trio.to_thread.run_sync(describe_branch, branch._replace(hydrated=True))
        hydrated.plain = True
    hydrated.complete = True


def _prepare(
    version: int, branch: Branch, place: Place, options: OpenOptions
) -> tuple[Path, DirectoryLock]:
    lock = DirectoryLock(branch.path / "lock", f"branch {branch.name}")
    try:
        found = find_programs(version, options.bindir)
        bindir = reachable_programs(found, place.user, place.path / "installed")
        point_links(branch, _root(branch, place), place.owner)
        rules = place.path / "pg_hba.conf"
        rules.write_text(SOCKET_ONLY if options.port is None else WITH_PORT)
        rules.chmod(0o644)
    except BaseException:
        lock.release()
        raise
    return bindir, lock


def moment_files(
    reader: StoreReader, source: StateSource, state: ClusterState, branch: Branch
) -> Lower:
    """Returns the relation files of the moment that an opening is of. Blocks."""
    table = RelationTable(source.index, source.backup.start_lsn, branch.lsn)
    return Lower(
        table.sizes(state.directories),
        VERSION_DIRECTORIES[source.version],
        Places(branch.tablespaces),
        reader.pages,
        branch.lsn,
    )


def _settings(place: Place, options: OpenOptions, parameters: Parameters) -> dict[str, str]:
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
    if not options.branches:
        settings["hot_standby"] = "on"
    if options.name is None:
        settings["fsync"] = "off"
    return {**settings, **dict(options.settings)}
