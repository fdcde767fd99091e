"""What lies in an opening's directory from the beginning: all that is no relation file."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from walstream.datadir.other_files import write_other_files
from walstream.datadir.plan import MomentPlan
from walstream.errors import StoreError
from walstream.mount.branch import DESCRIPTION, Branch
from walstream.mount.lower import Places
from walstream.segments.files import read_error
from walstream.state.cluster import StateSource
from walstream.store.file_layer import (
    FileLayer,
    storage_error,
    write_durably,
)


class UpperFiles:
    """Writes what is no relation file; a ``DirectoryFiles`` of ``datadir/other_files.py``.

    Args:
        path: the directory of the opening.
        linked: oids of the tablespaces that are links.
        wal_link: pg_wal goes beside ``upper/``, and a link to this place into it; None: within.
        owner: user and group of everything.
    """

    def __init__(
        self,
        path: Path,
        linked: Iterable[int],
        wal_link: Path | None,
        owner: tuple[int, int] | None,
    ) -> None:
        self._upper = path / "upper"
        self._wal = path / "pg_wal"
        self._wal_link = wal_link
        self._owner = owner
        self._places = Places(linked)
        self._made: set[Path] = set()
        self.files: list[Path] = []

    def _place(self, name: str) -> Path:
        if self._wal_link is not None and name.startswith("pg_wal/"):
            return self._wal / name.removeprefix("pg_wal/")
        return self._upper / self._places.of(name)

    def directory(self, name: str) -> None:
        if name == "pg_wal" and self._wal_link is not None:
            self._make(self._wal)
            self.symlink(name, self._wal_link)
            return
        self._make(self._place(name))

    def _make(self, path: Path) -> None:
        if path in self._made:
            return
        try:
            missing = []
            at = path
            while not at.exists():
                missing.append(at)
                at = at.parent
            for one in reversed(missing):
                one.mkdir(mode=0o700)
                self._give(one)
        except OSError as error:
            raise storage_error("create", path, error) from error
        self._made.add(path)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)

    def write(self, name: str, data: bytes, size: int | None = None) -> None:
        path = self._place(name)
        self._make(path.parent)
        try:
            path.touch(mode=0o600, exist_ok=False)
            with path.open("r+b") as file:
                file.write(data)
                if size is not None:
                    file.truncate(size)
            self._give(path)
        except OSError as error:
            raise storage_error("write", path, error) from error
        self.files.append(path)

    def copy(self, source: Path, name: str) -> int:
        try:
            data = source.read_bytes()
        except OSError as error:
            raise read_error("read", source, error) from error
        self.write(name, data)
        return len(data)

    def link(self, name: str, to: Path) -> None:
        oid = name.rpartition("/")[2]
        self._make(self._upper / Places.TABLESPACES / oid)
        self.symlink(name, to)

    def symlink(self, name: str, to: Path) -> None:
        """Makes a symbolic link."""
        path = self._upper / self._places.of(name)
        self._make(path.parent)
        try:
            path.symlink_to(to)
            self._give(path)
        except OSError as error:
            raise storage_error("link", path, error) from error

    def sync(self) -> None:
        """Waits until all of it is on disk."""
        layer = FileLayer()
        try:
            for path in self.files:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            for directory in self._made:
                layer.fsync_directory(directory)
        except OSError as error:
            raise storage_error("sync", self._upper, error) from error


def make_branch(
    path: Path,
    source: StateSource,
    plan: MomentPlan,
    superuser: str,
    *,
    owner: tuple[int, int] | None = None,
    wal_beside: bool = True,
    extra: tuple[str, ...] = (),
    expires: datetime | None = None,
    protected: bool = False,
    durable: bool = True,
) -> Branch:
    """Makes the directory of an opening. Blocks.

    Args:
        path: where; nothing may be there.
        source, plan: of the moment.
        superuser: the name of the bootstrap superuser then.
        owner: user and group of the files.
        wal_beside: pg_wal lies beside the mount, where a server writes it without us.
        extra: names of empty files of the data directory, such as standby.signal.
        expires, protected: see ``Branch``.
        durable: it is on disk when this returns; without, for what goes away at the end.

    Raises:
        StoreError: something is there.
        StorageError: a file cannot be read or written.
    """
    if path.exists():
        raise StoreError(f"there is a branch {path.name} already")
    temporary = path.with_name(path.name + ".tmp")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True, mode=0o700)
        (temporary / "maps").mkdir(mode=0o700)
        if owner is not None and wal_beside:
            # The server, as another user, must get through to its pg_wal.
            for directory in (temporary, path.parent):
                directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o011)
    except OSError as error:
        raise storage_error("create", temporary, error) from error
    files = UpperFiles(temporary, plan.tablespaces, path / "pg_wal" if wal_beside else None, owner)
    write_other_files(source, plan, files)
    for name in extra:
        files.write(name, b"")
    branch = Branch(
        path,
        plan.state.lsn,
        plan.identity.timeline,
        plan.identity.system_id,
        superuser,
        tuple(sorted(plan.tablespaces)),
        datetime.now(UTC).replace(microsecond=0),
        expires,
        protected,
    )
    layer = FileLayer()
    try:
        if durable:
            files.sync()
            write_durably(layer, temporary / DESCRIPTION, branch.to_toml().encode(), 0o600)
        else:
            (temporary / DESCRIPTION).write_text(branch.to_toml())
        temporary.rename(path)
        if durable:
            layer.fsync_directory(path.parent)
    except OSError as error:
        raise storage_error("create", path, error) from error
    return branch


def point_links(branch: Branch, mount_point: Path, owner: tuple[int, int] | None) -> None:
    """Lets the links of tablespaces and of pg_wal lead to where things lie now.

    Raises:
        StorageError: a link cannot be made.
    """
    upper = branch.path / "upper" / Places.DATA
    wanted = {
        upper / "pg_tblspc" / str(oid): mount_point / Places.TABLESPACES / str(oid)
        for oid in branch.tablespaces
    }
    if (upper / "pg_wal").is_symlink():
        wanted[upper / "pg_wal"] = branch.path / "pg_wal"
    try:
        for link, target in wanted.items():
            if link.is_symlink() and link.readlink() != target:
                link.unlink()
                link.symlink_to(target)
                if owner is not None:
                    os.chown(link, *owner, follow_symlinks=False)
    except OSError as error:
        raise storage_error("link", upper, error) from error
