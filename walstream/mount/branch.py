"""An opening on disk: what it is of, and everything that it has written itself.

```
NAME/
  branch.toml    the moment, the identity, since and until when
  upper/         data/ and data.tablespaces/OID/: what is no relation file, and what was written
  maps/          which pages of a relation file were written (own_pages.py)
  gone           names of files of the moment that were removed
  pg_wal/        the opening's own WAL
  server.log
```

It is made as ``NAME.tmp``. Nothing of the store is ever written.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from walstream.datadir.other_files import write_other_files
from walstream.datadir.plan import MomentPlan
from walstream.errors import ConfigError, StoreError
from walstream.mount.gone import Gone
from walstream.mount.lower import Places
from walstream.mount.own_pages import count_own_pages
from walstream.segments.files import read_error
from walstream.state.cluster import StateSource
from walstream.store.file_layer import (
    DirectoryLock,
    FileLayer,
    storage_error,
    write_durably,
)
from walstream.toml import parse_toml
from walstream.wal.model import BLCKSZ, format_lsn, parse_lsn
from walstream.wal.relpath import parse_relation_file

DESCRIPTION = "branch.toml"
DIRECTORY = "branches"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Branch(NamedTuple):
    """What an opening is of. ``tablespaces``: their oids; ``superuser``: whom it is opened as."""

    path: Path
    lsn: int
    timeline: int
    system_id: int
    superuser: str
    tablespaces: tuple[int, ...]
    created: datetime
    expires: datetime | None = None
    protected: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    def expired(self, now: datetime) -> bool:
        """Returns whether its time is over."""
        return self.expires is not None and self.expires <= now and not self.protected

    def to_toml(self) -> str:
        """Returns the text of its description."""
        lines = [
            "# A branch of a walstream store. Written once; do not edit.",
            f'lsn = "{format_lsn(self.lsn)}"',
            f"timeline = {self.timeline}",
            f'system_id = "{self.system_id}"',
            f"superuser = {_quoted(self.superuser)}",
            f"tablespaces = [{', '.join(map(str, self.tablespaces))}]",
            f'created = "{self.created.isoformat()}"',
            f"protected = {str(self.protected).lower()}",
        ]
        if self.expires is not None:
            lines.append(f'expires = "{self.expires.isoformat()}"')
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def check_name(name: str) -> str:
    """Returns the name of a branch.

    Raises:
        ConfigError: it is none.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a branch: letters, digits, - and _ (at most 63)")
    return name


def branch_path(store: Path, name: str) -> Path:
    """Returns where the branch of that name lies in a store.

    Raises:
        ConfigError: it is no name.
    """
    return store / DIRECTORY / check_name(name)


def load_branch(path: Path) -> Branch:
    """Returns the branch in a directory.

    Raises:
        StoreError: there is none, or its description is malformed.
        ReadError: it cannot be read.
    """
    description = path / DESCRIPTION
    try:
        table = parse_toml(description.read_text(encoding="utf-8"), description)
        expires = table.get("expires")
        return Branch(
            path,
            parse_lsn(table["lsn"]),
            int(table["timeline"]),
            int(table["system_id"]),
            str(table["superuser"]),
            tuple(int(oid) for oid in table["tablespaces"]),
            datetime.fromisoformat(table["created"]),
            None if expires is None else datetime.fromisoformat(expires),
            bool(table.get("protected", False)),
        )
    except FileNotFoundError:
        raise StoreError(f"there is no branch {path.name} in {path.parent}") from None
    except (ConfigError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{description}: missing or malformed {error}") from error
    except OSError as error:
        raise read_error("read", description, error) from error


def list_branches(store: Path) -> list[Branch]:
    """Returns the branches of a store, by name.

    Raises:
        StoreError: the description of one is malformed.
        ReadError: they cannot be read.
    """
    return [load_branch(path) for path in _directories(store / DIRECTORY)]


def _directories(parent: Path) -> Iterator[Path]:
    try:
        found = sorted(path for path in parent.iterdir() if NAME.fullmatch(path.name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise read_error("read", parent, error) from error
    yield from (path for path in found if path.is_dir())


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


def drop_branch(path: Path) -> None:
    """Removes a branch with all that it has written; first its description, so that it is none.

    Raises:
        StoreError: there is none, or it is open.
        StorageError: it cannot be removed.
    """
    load_branch(path)
    lock = DirectoryLock(path / "lock", f"branch {path.name}")
    try:
        (path / DESCRIPTION).unlink()
        gone = path.with_name(path.name + ".tmp")
        if gone.exists():
            shutil.rmtree(gone)
        path.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise storage_error("remove", path, error) from error
    finally:
        lock.release()


def drop_expired(store: Path, now: datetime) -> list[str]:
    """Removes the branches whose time is over and that are not open; returns their names.

    Raises:
        StoreError, StorageError: see ``list_branches``, ``drop_branch``.
    """
    dropped = []
    for branch in list_branches(store):
        if branch.expired(now) and not is_open(branch.path):
            drop_branch(branch.path)
            dropped.append(branch.name)
    return dropped


def is_open(path: Path) -> bool:
    """Returns whether a process has the branch open.

    Raises:
        StorageError: it cannot be looked at.
    """
    try:
        DirectoryLock(path / "lock", "branch").release()
    except StoreError:
        return True
    return False


class Written(NamedTuple):
    """A file that a branch has written or removed. ``pages``: how many of the moment's it has anew.

    ``kind`` is ``changed``, ``new`` or ``gone``.
    """

    name: str
    kind: str
    pages: int


def written(branch: Branch) -> list[Written]:
    """Returns the relation files that differ from the moment's, by name below the mount. Blocks.

    A page counts as changed when it was written, whatever with.

    Raises:
        ReadError: the branch cannot be read.
    """
    maps, upper = branch.path / "maps", branch.path / "upper"
    found = []
    try:
        gone = Gone(branch.path / "gone")
        gone.close()
        found += [Written(name, "gone", 0) for name in gone]
        for path in sorted(upper.rglob("*")):
            name = str(path.relative_to(upper))
            if path.is_symlink() or not path.is_file():
                continue
            if (maps / name).exists():
                pages = count_own_pages(path, maps / name)
                if pages:
                    found.append(Written(name, "changed", pages))
            elif parse_relation_file(Places(branch.tablespaces).origin(name)) is not None:
                found.append(Written(name, "new", path.stat().st_size // BLCKSZ))
    except OSError as error:
        raise read_error("read", branch.path, error) from error
    return sorted(found)
