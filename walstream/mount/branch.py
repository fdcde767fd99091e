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
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from walstream.errors import ConfigError, StoreError, WriteError
from walstream.segments.files import read_error
from walstream.store.file_layer import (
    DirectoryLock,
    FileLayer,
    storage_error,
    write_durably,
)
from walstream.toml import parse_toml
from walstream.wal.model import format_lsn, parse_lsn

DESCRIPTION = "branch.toml"
DIRECTORY = "branches"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Branch(NamedTuple):
    """What an opening is of.

    ``tablespaces``: oids of those that are links; ``superuser``: whom it is opened as;
    ``hydrated``: all of it is in ``upper/``, a data directory that needs no mount.
    """

    path: Path
    lsn: int
    timeline: int
    system_id: int
    superuser: str
    tablespaces: tuple[int, ...]
    created: datetime
    expires: datetime | None = None
    protected: bool = False
    hydrated: bool = False

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
            f"hydrated = {str(self.hydrated).lower()}",
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


def expiry(ttl_s: float | None) -> datetime | None:
    """Returns when a branch that is made now expires; None: never."""
    if ttl_s is None:
        return None
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ttl_s)


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
            bool(table.get("hydrated", False)),
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


def describe_branch(branch: Branch) -> None:
    """Writes the description of a branch anew, durably.

    Raises:
        StorageError: it cannot be written.
    """
    write_durably(FileLayer(), branch.path / DESCRIPTION, branch.to_toml().encode(), 0o600)


def copy_branch(branch: Branch, name: str) -> Branch:
    """Makes a branch that is the copy of another, as that is now; it must not be open. Blocks.

    Both have the same system identifier and timeline. By reference where the file system can.

    Raises:
        ConfigError: it is no name.
        StoreError: there is one of that name, or the other is open.
        StorageError: it cannot be copied.
    """
    path = branch.path.with_name(check_name(name))
    if path.exists():
        raise StoreError(f"there is a branch {name} already", str(path))
    lock = DirectoryLock(branch.path / "lock", f"branch {branch.name}")
    temporary = path.with_name(name + ".tmp")
    copied = branch._replace(path=path, created=datetime.now(UTC).replace(microsecond=0))
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        # cp knows sparse files and reflinks; --archive keeps the owner.
        command = ["cp", "--archive", "--reflink=auto", "--sparse=always"]
        subprocess.run(
            [*command, str(branch.path), str(temporary)], check=True, capture_output=True, text=True
        )
        os.sync()
        describe_branch(copied._replace(path=temporary))
        temporary.rename(path)
        FileLayer().fsync_directory(path.parent)
    except OSError as error:
        raise storage_error("copy", path, error) from error
    except subprocess.CalledProcessError as error:
        raise WriteError(f"cannot copy {branch.path}: {error.stderr.strip()}", str(path)) from error
    finally:
        lock.release()
    return copied


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
