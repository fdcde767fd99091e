"""A store on disk: whose cluster it is, who may write to it, where its parts are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from walstream.errors import ConfigError, ReadError, StoreError, WrongCluster
from walstream.segments.files import read_error
from walstream.store.file_layer import (
    DirectoryLock,
    FileLayer,
    file_mode_below,
    set_mode,
    storage_error,
    write_durably,
)
from walstream.toml import parse_toml

IDENTITY_FILE = "walstream.toml"
STATUS_FILE = "status.json"
FORMAT = 1
PARTS = ("wal", "base", "index", "dumps")


class StoreIdentity(NamedTuple):
    """The cluster that a store belongs to. Sizes in bytes."""

    system_id: int
    version: int
    segment_size: int
    block_size: int
    checksums: bool
    wal_log_hints: bool

    @property
    def stamp_hints(self) -> bool:
        """Whether hint bit changes are logged, so that redo stamps heap pages for them too."""
        return self.checksums or self.wal_log_hints

    def to_toml(self) -> str:
        return (
            "# The cluster that this store belongs to. Written once; do not edit.\n"
            f"format = {FORMAT}\n"
            f'system_id = "{self.system_id}"\n'
            f"version = {self.version}\n"
            f"segment_size = {self.segment_size}\n"
            f"block_size = {self.block_size}\n"
            f"checksums = {str(self.checksums).lower()}\n"
            f"wal_log_hints = {str(self.wal_log_hints).lower()}\n"
        )


def parse_identity(text: str, path: Path) -> StoreIdentity:
    """Returns the identity that the text of a ``walstream.toml`` holds; ``path`` is told of.

    Raises:
        StoreError: it is not one.
    """
    try:
        table = parse_toml(text, path)
    except ConfigError as exc:
        raise StoreError(str(exc), str(path)) from exc
    if table.get("format") != FORMAT:
        raise StoreError(
            f"{path}: format: expected {FORMAT}, got {table.get('format')!r}; "
            "it was made by another release of walstream",
            str(path),
        )
    try:
        return StoreIdentity(
            int(table["system_id"]),
            int(table["version"]),
            int(table["segment_size"]),
            int(table["block_size"]),
            bool(table["checksums"]),
            bool(table["wal_log_hints"]),
        )
    except (KeyError, ValueError, TypeError) as exc:
        raise StoreError(f"{path}: missing or malformed {exc}", str(path)) from exc


def _check_empty(path: Path) -> None:
    if (path / IDENTITY_FILE).exists():
        raise StoreError(f"{path} is a store already", str(path))
    # A crash while a store was made leaves these, empty: it is made again.
    ours = {"lock", IDENTITY_FILE + ".tmp", *PARTS}
    strange = sorted(p.name for p in path.iterdir() if p.name not in ours)
    if strange:
        raise StoreError(f"{path} is not empty: it holds {strange[0]}", str(path))


def _lock(path: Path) -> tuple[DirectoryLock, ...]:
    """Takes the locks of a store: its own, and that of ``wal/``, which may be reached directly."""
    own = DirectoryLock(path / "lock", f"store {path}")
    try:
        return own, DirectoryLock(path / "wal", f"directory {path / 'wal'}")
    except BaseException:
        own.release()
        raise


class Store:
    """An opened store. ``close`` gives up the lock; use it as ``with store:``."""

    def __init__(
        self, path: Path, identity: StoreIdentity, locks: tuple[DirectoryLock, ...]
    ) -> None:
        self.path = path
        self.identity = identity
        self._locks = locks

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks = ()

    @property
    def file_mode(self) -> int:
        """The mode of new files, by what the store's own directory allows its group.

        Raises:
            StorageError: the store cannot be looked at.
        """
        return file_mode_below(self.path)

    @property
    def wal_path(self) -> Path:
        return self.path / "wal"

    @property
    def base_path(self) -> Path:
        return self.path / "base"

    @property
    def index_path(self) -> Path:
        return self.path / "index"

    @property
    def dumps_path(self) -> Path:
        return self.path / "dumps"

    @property
    def status_path(self) -> Path:
        return self.path / STATUS_FILE

    @staticmethod
    def exists(path: Path) -> bool:
        """Returns whether a store was made at ``path``.

        Raises:
            StorageError: it cannot be known, for example for want of permission.
        """
        try:
            (path / IDENTITY_FILE).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:
            raise read_error("look at", path / IDENTITY_FILE, exc) from exc
        return True

    @classmethod
    def create(cls, path: Path, identity: StoreIdentity, *, group_access: bool = False) -> Store:
        """Makes a store in a directory that is empty or not there; returns it locked.

        ``group_access``: its group may read it, as a data directory made with ``initdb -g``.

        Raises:
            StoreError: the directory holds something, or another process works on it.
            StorageError: a system call failed.
        """
        path = path.absolute()
        try:
            mode = 0o750 if group_access else 0o700
            path.mkdir(parents=True, exist_ok=True, mode=mode)
            locks: tuple[DirectoryLock, ...] = (DirectoryLock(path / "lock", f"store {path}"),)
            try:
                _check_empty(path)
                # As initdb does: neither umask nor what the directory had before decides.
                set_mode(path, mode)
                for name in PARTS:
                    (path / name).mkdir(exist_ok=True, mode=mode)
                    set_mode(path / name, mode)
                locks += (DirectoryLock(path / "wal", f"directory {path / 'wal'}"),)
                content = identity.to_toml().encode()
                write_durably(FileLayer(), path / IDENTITY_FILE, content, mode & 0o640)
                set_mode(path / IDENTITY_FILE, mode & 0o640)
                FileLayer().fsync_directory(path.parent)
            except BaseException:
                for lock in locks:
                    lock.release()
                raise
        except OSError as exc:
            raise storage_error("create store", path, exc) from exc
        return cls(path, identity, locks)

    @classmethod
    def open(cls, path: Path, *, lock: bool = True) -> Store:
        """Opens a store; without ``lock`` only for reading.

        Raises:
            StoreError: not a store, or another process holds its lock.
            StorageError: it cannot be read.
        """
        path = path.absolute()
        try:
            text = (path / IDENTITY_FILE).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"{path} is not a walstream store: no {IDENTITY_FILE}", str(path)
            ) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ReadError(f"read {path / IDENTITY_FILE}: {exc}", str(path)) from exc
        identity = parse_identity(text, path / IDENTITY_FILE)
        return cls(path, identity, _lock(path) if lock else ())

    def check(self, identity: StoreIdentity) -> None:
        """Compares a server with the cluster that the store belongs to.

        Checksums may have been switched on or off offline; only the system identifier, the major
        version and the sizes bind.

        Raises:
            WrongCluster: another cluster.
            StoreError: the same cluster with another version or other sizes (pg_upgrade keeps none
                of them usable).
        """
        mine = self.identity
        if identity.system_id != mine.system_id:
            raise WrongCluster(
                f"{self.path} belongs to the cluster with system identifier {mine.system_id}, "
                f"the server is {identity.system_id}",
                str(self.path),
            )
        for field in ("version", "segment_size", "block_size"):
            if getattr(identity, field) != getattr(mine, field):
                raise StoreError(
                    f"{self.path}: {field}: expected {getattr(mine, field)}, "
                    f"the server has {getattr(identity, field)}",
                    str(self.path),
                )
