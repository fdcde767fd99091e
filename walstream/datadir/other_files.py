"""What of a data directory is no relation file: directories, state, configuration, the start."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from walstream.datadir.configuration import AUTO_CONF, HBA, auto_conf, neutral_file
from walstream.datadir.plan import MomentPlan
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.segments.names import history_file_name
from walstream.state.cluster import MAP_FILE, SHARED, ClusterState, StateSource
from walstream.state.origins import encode_origins
from walstream.store.backup_files import BackupFiles
from walstream.store.manifest import MANIFEST
from walstream.text import decode, encode
from walstream.wal.crc import crc32c
from walstream.wal.relpath import DEFAULT_TABLESPACE, GLOBAL_TABLESPACE

# Always there, empty where nothing of the moment belongs into them.
DIRECTORIES = (
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_xact",
)
# Of the backup's root: what describes the backup, a running server, or a recovery.
NEVER_COPIED = {
    AUTO_CONF,
    "PG_VERSION",
    "backup_label",
    "tablespace_map",
    MANIFEST,
    "backup_label.old",
    "tablespace_map.old",
    "recovery.signal",
    "standby.signal",
    "recovery.conf",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
}


class DirectoryFiles(Protocol):
    """Where they are written; names are those below the data directory."""

    def directory(self, name: str) -> None:
        """Makes a directory, with those above it."""

    def write(self, name: str, data: bytes, size: int | None = None) -> None:
        """Writes a whole small file; zeros follow up to ``size`` where that is given."""

    def copy(self, source: Path, name: str) -> int:
        """Copies a file as it is; returns its size."""

    def link(self, name: str, to: Path) -> None:
        """Makes a symbolic link to a directory, and that."""


def write_other_files(source: StateSource, plan: MomentPlan, work: DirectoryFiles) -> int:
    """Writes everything that is no relation file; returns how many files. Blocks.

    Raises:
        StorageError: a file cannot be read or written.
        StoreError: a file of the base backup is not what was backed up.
    """
    state, version = plan.state, source.version
    for name in standing_directories(version):
        work.directory(name)
    for oid in state.tablespaces:
        if oid in plan.tablespaces:
            work.link(f"pg_tblspc/{oid}", plan.tablespaces[oid])
        else:
            work.directory(f"pg_tblspc/{oid}")
        work.directory(f"pg_tblspc/{oid}/{VERSION_DIRECTORIES[version]}")
    for key in state.directories:
        work.directory(database_directory(key, version))
    files = state_files(state, version)
    files.update(_configuration(version, state))
    timeline = plan.identity.timeline
    files[f"pg_wal/{history_file_name(timeline)}"] = plan.history
    for name, data in files.items():
        work.write(name, data)
    head = plan.start.segment_head
    work.write(f"pg_wal/{plan.start.segment_name}", head, source.archive.segment_size)
    count = len(files) + 2 + _root_files(state.files, work)
    # Last: without it nothing starts.
    work.write("global/pg_control", plan.start.control)
    return count


def standing_directories(version: int) -> tuple[str, ...]:
    """Returns the directories that every data directory of a version has, of those that we make."""
    return (*DIRECTORIES, "pg_wal/summaries") if version >= 17 else DIRECTORIES


def state_files(state: ClusterState, version: int) -> dict[str, bytes]:
    """Returns name and content of the files beside relations that records change.

    Not the control file, which depends on what the directory is for.
    """
    files: dict[str, bytes] = {"PG_VERSION": f"{version}\n".encode()}
    for key, has_version in state.directories.items():
        if has_version:
            files[f"{database_directory(key, version)}/PG_VERSION"] = files["PG_VERSION"]
    for key, data in state.relation_maps.items():
        directory = "global" if key == SHARED else database_directory(key, version)
        files[f"{directory}/{MAP_FILE}"] = data
    files.update(state.transactions.files())
    for xid, data in state.two_phase.items():
        name = two_phase_name(xid, state.next_xid, version)
        files[f"pg_twophase/{name}"] = data + crc32c(data).to_bytes(4, "little")
    files["pg_logical/replorigin_checkpoint"] = encode_origins(state.origins)
    return files


def _configuration(version: int, state: ClusterState) -> dict[str, bytes]:
    found = {"postgresql.conf": b"", "pg_hba.conf": HBA.encode(), "pg_ident.conf": b""}
    for name, _ in state.files.sizes():
        directory, _, last = name.rpartition("/")
        if not last.endswith(".conf") or name in NEVER_COPIED or "/" in directory:
            continue
        if directory in (*DIRECTORIES, "pg_log", "log"):
            continue
        text = _text(state.files, name)
        if name not in ("pg_hba.conf", "pg_ident.conf"):
            text = neutral_file(text, version, state.parameters)
        found[name] = encode(text)
    text = _text(state.files, AUTO_CONF) if state.files.has(AUTO_CONF) else ""
    text = auto_conf(text, version, state.parameters)
    found[AUTO_CONF] = encode(text)
    return found


def _text(files: BackupFiles, name: str) -> str:
    return decode(files.read(name))


def _root_files(files: BackupFiles, work: DirectoryFiles) -> int:
    """Copies what else lies in the backup's root, but for its configuration; returns how many."""
    count = 0
    for name, _ in files.sizes():
        if "/" not in name and name not in NEVER_COPIED and not name.endswith(".conf"):
            files.prove(name)
            work.copy(files.path / name, name)
            count += 1
    return count


def database_directory(key: tuple[int, int], version: int) -> str:
    """Returns the path of a database's directory in a tablespace."""
    spc_oid, db_oid = key
    assert spc_oid != GLOBAL_TABLESPACE
    if spc_oid == DEFAULT_TABLESPACE:
        return f"base/{db_oid}"
    return f"pg_tblspc/{spc_oid}/{VERSION_DIRECTORIES[version]}/{db_oid}"


def two_phase_name(xid: int, next_xid: int, version: int) -> str:
    """Returns the name of a two-phase state file: from 17 on with the epoch (TwoPhaseFilePath)."""
    if version < 17:
        return f"{xid:08X}"
    full = next_xid - ((next_xid - xid) & 0xFFFFFFFF)
    return f"{full:016X}"
