"""Base backups of other tools: which kind a path is, and what it says of itself before it is read.

A directory with ``backup_label`` (pg_basebackup, a plain copy between the two backup functions, a
pgBackRest or wal-g restore that was not started), a data directory whose server was shut down, tar
archives as ``pg_basebackup -Ft`` writes them, one backup of Barman (``base/ID``), or a Barman
server's directory with all of its backups.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from walstream.errors import ConfigError, StoreError
from walstream.importing.barman import DONE, INFO_FILE, BarmanBackup, parse_backup_info
from walstream.importing.label import (
    LABEL_FILE,
    TABLESPACE_MAP,
    BackupLabel,
    parse_label,
    parse_tablespace_map,
)
from walstream.importing.tars import TarParts, find_tars, read_members
from walstream.segments.files import read_error
from walstream.state.control import ControlFile, DbState
from walstream.store.manifest import MANIFEST, parse_manifest, parse_wal_ranges
from walstream.store.store import StoreIdentity
from walstream.wal.layout import XLOG_BLCKSZ, SizeOfXLogLongPHD, SizeOfXLogShortPHD
from walstream.wal.model import BLCKSZ, format_lsn

CONTROL_FILE = "global/pg_control"
# Header, one short data header, the body of a checkpoint (xlog.c).
_CHECKPOINT_RECORD = 24 + 2 + 88


class FoundBase(NamedTuple):
    """A base backup that was found. Either ``directory`` or ``tars`` has its files.

    Attributes:
        path: what the user called it.
        start_lsn: its redo point.
        checkpoint_lsn: of the checkpoint that it starts from.
        timeline: on which it began.
        stop_lsn: where it ends, None where only WAL can tell.
        from_standby: see ``BackupLabel``.
        control: its control file.
        label: the content of ``backup_label`` where that is no file of it, else None.
        manifest: its manifest, None where it has none.
        tablespaces: oid -> path on the server.
        tablespace_files: oid -> directory that has a tablespace's files, where that is known.
        stopped: the server was shut down; all pages are whole.
    """

    path: Path
    directory: Path | None
    tars: TarParts | None
    start_lsn: int
    checkpoint_lsn: int
    timeline: int
    stop_lsn: int | None
    from_standby: bool
    control: ControlFile
    label: bytes | None
    manifest: bytes | None
    tablespaces: dict[int, str]
    tablespace_files: dict[int, Path]
    stopped: bool

    @property
    def identity(self) -> StoreIdentity:
        """The cluster that it is of."""
        control = self.control
        return StoreIdentity(
            control.system_id,
            control.version,
            control.segment_size,
            BLCKSZ,
            control.checksums,
            control.parameters.wal_log_hints,
        )

    @property
    def wal_directory(self) -> Path | None:
        """Where WAL lies that came with it."""
        if self.directory is not None and (self.directory / "pg_wal").is_dir():
            return self.directory / "pg_wal"
        return None

    def __str__(self) -> str:
        return f"{self.path} (start {format_lsn(self.start_lsn)})"


def find_bases(path: Path) -> list[FoundBase]:
    """Returns the base backups that a path has, oldest first; one, but for a Barman server.

    Raises:
        ConfigError: it is none of those that are known.
        StoreError: it cannot be used; says why.
        ReadError: it cannot be read.
    """
    if not path.exists():
        raise ConfigError(f"{path} is not there")
    if (path / "base").is_dir() and (path / "wals").is_dir():
        found = [_barman(each.parent) for each in sorted((path / "base").glob(f"*/{INFO_FILE}"))]
        done = [base for base in found if base is not None]
        if not done:
            raise ConfigError(f"{path} has no backup of Barman that is complete")
        return sorted(done, key=lambda base: base.start_lsn)
    if (path / INFO_FILE).is_file():
        base = _barman(path)
        if base is None:
            raise StoreError(f"{path / INFO_FILE}: the backup is not complete")
        return [base]
    if path.is_dir() and (path / "PG_VERSION").is_file():
        return [_directory(path, path, None)]
    tars = find_tars(path)
    if tars is None:
        raise ConfigError(
            f"{path} is no base backup: expected a data directory (PG_VERSION), base.tar, or a "
            "backup of Barman (backup.info)"
        )
    return [_tar(path, tars, None)]


def _barman(path: Path) -> FoundBase | None:
    """Returns a backup of Barman, None where it is not complete."""
    info_path = path / INFO_FILE
    info = parse_backup_info(_read(info_path).decode(errors="replace"), str(info_path))
    if info.status not in DONE:
        return None
    data = path / "data"
    tars = find_tars(data)
    if tars is not None:
        return _tar(path, tars, info)
    return _directory(path, data, info)


def _directory(path: Path, data: Path, info: BarmanBackup | None) -> FoundBase:
    control = ControlFile.parse(_read(data / CONTROL_FILE))
    manifest = _optional(data / MANIFEST)
    content = _optional(data / LABEL_FILE)
    beside = None
    if content is None and info is not None and info.label is not None:
        content = beside = info.label
    tablespaces, places = _tablespaces(path, data, info)
    if content is not None:
        label = parse_label(content, str(data / LABEL_FILE))
        stop = _stop(manifest, info, label)
    else:
        label, stop = _stopped(path, data, control)
    if manifest is not None:
        _check_manifest(data / MANIFEST, manifest)
    return FoundBase(
        path,
        data,
        None,
        label.start_lsn,
        label.checkpoint_lsn,
        label.timeline,
        stop if stop is not None else _standby_stop(label, control),
        label.from_standby,
        control,
        beside,
        manifest,
        tablespaces,
        places,
        content is None,
    )


def _tar(path: Path, tars: TarParts, info: BarmanBackup | None) -> FoundBase:
    # The control file is the last thing that the server sends.
    found = read_members(tars.base, {LABEL_FILE, TABLESPACE_MAP, CONTROL_FILE})
    if LABEL_FILE not in found or CONTROL_FILE not in found:
        missing = LABEL_FILE if LABEL_FILE not in found else CONTROL_FILE
        raise StoreError(f"{tars.base}: there is no {missing} in it")
    label = parse_label(found[LABEL_FILE], f"{tars.base}: {LABEL_FILE}")
    control = ControlFile.parse(found[CONTROL_FILE])
    manifest = None if tars.manifest is None else _read(tars.manifest)
    if manifest is not None:
        assert tars.manifest is not None
        _check_manifest(tars.manifest, manifest)
    tablespaces = parse_tablespace_map(
        found.get(TABLESPACE_MAP, b""), f"{tars.base}: {TABLESPACE_MAP}"
    )
    if info is not None:
        tablespaces = {**info.tablespaces, **tablespaces}
    stop = _stop(manifest, info, label)
    return FoundBase(
        path,
        None,
        tars,
        label.start_lsn,
        label.checkpoint_lsn,
        label.timeline,
        stop if stop is not None else _standby_stop(label, control),
        label.from_standby,
        control,
        None,
        manifest,
        tablespaces,
        {},
        False,
    )


def _check_manifest(path: Path, manifest: bytes) -> None:
    try:
        parse_manifest(manifest)
    except StoreError as exc:
        raise StoreError(f"{path}: {exc}") from exc


def _stop(manifest: bytes | None, info: BarmanBackup | None, label: BackupLabel) -> int | None:
    """Returns where a backup ended, as the manifest or Barman says."""
    if manifest is not None:
        ends = [part.end for part in parse_wal_ranges(manifest)]
        if ends and max(ends) >= label.start_lsn:
            return max(ends)
    return None if info is None else info.stop_lsn


def _standby_stop(label: BackupLabel, control: ControlFile) -> int | None:
    """Returns where the backup of a standby ended: its files reach no further."""
    return control.min_recovery_lsn or None if label.from_standby else None


def _stopped(path: Path, data: Path, control: ControlFile) -> tuple[BackupLabel, int]:
    """Returns what a data directory of a server that was shut down starts and ends at.

    Raises:
        StoreError: the server runs, or was not shut down.
    """
    if (data / "postmaster.pid").exists():
        raise StoreError(
            f"{path}: a server runs there, or was killed (postmaster.pid): stop it, or take a "
            "base backup with pg_basebackup"
        )
    point = control.checkpoint
    if control.state is DbState.SHUTDOWNED:
        stop = record_end(control.checkpoint_lsn, _CHECKPOINT_RECORD, control.segment_size)
    elif control.state is DbState.SHUTDOWNED_IN_RECOVERY and control.min_recovery_lsn:
        stop = control.min_recovery_lsn
    else:
        state = control.state.name.lower().replace("_", " ")
        raise StoreError(
            f"{path}: no backup_label in it, and its server was not shut down (its control file "
            f"says: {state}): start and stop it, or take a base backup with pg_basebackup"
        )
    return BackupLabel(point.redo, control.checkpoint_lsn, point.timeline, False), stop


def record_end(start_lsn: int, length: int, segment_size: int) -> int:
    """Returns where a record shorter than a page ends that begins at ``start_lsn``, aligned."""
    left = XLOG_BLCKSZ - start_lsn % XLOG_BLCKSZ
    end = start_lsn + length
    if length > left:
        first = (start_lsn + left) % segment_size == 0
        end += SizeOfXLogLongPHD if first else SizeOfXLogShortPHD
    return end + -end % 8


def _tablespaces(
    path: Path, data: Path, info: BarmanBackup | None
) -> tuple[dict[int, str], dict[int, Path]]:
    """Returns the tablespaces of a directory: their paths on the server, and where they are here.

    Raises:
        StoreError: the files of one are not there.
    """
    names: dict[int, str] = dict(info.tablespaces) if info is not None else {}
    places: dict[int, Path] = {}
    content = _optional(data / TABLESPACE_MAP)
    if content is not None:
        names |= parse_tablespace_map(content, str(data / TABLESPACE_MAP))
    spaces = data / "pg_tblspc"
    entries = sorted(spaces.iterdir()) if spaces.is_dir() else []
    for entry in entries:
        if entry.name.isdecimal() and entry.is_symlink():
            names.setdefault(int(entry.name), str(entry.readlink()))
    for oid, place in names.items():
        # Barman keeps them beside the data directory.
        beside = path / str(oid)
        places[oid] = beside if path != data and beside.is_dir() else spaces / str(oid)
        if not places[oid].is_dir():
            raise StoreError(
                f"{path}: the files of tablespace {oid}, on the server in {place}, are not there"
            )
    return names, places


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise read_error("read", path, exc) from exc


def _optional(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise read_error("read", path, exc) from exc
