"""What a cluster of the tests is made of: initdb and its templates, directories, ports.

initdb takes seconds, so the cluster that it makes from given options is kept and copied.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.binaries import (
    Binaries,
    cache_directory,
    exclusive,
    identity_arguments,
    server_user,
)

SUPERUSER = "postgres"
# Below the kernel's ephemeral ports, so that no outgoing connection ever takes one of them.
_PORTS = range(17_000, 32_000)


class ServerFailed(RuntimeError):
    """The server did not start or stop; the message carries the end of its log."""


def initdb_options(
    version: int, segment_size: int, checksums: bool | None, further: Sequence[str]
) -> tuple[str, ...]:
    options = ["-U", SUPERUSER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    if segment_size != 16 << 20:
        options.append(f"--wal-segsize={segment_size >> 20}")
    if checksums is None:
        checksums = version >= 18
    if checksums:
        options.append("--data-checksums")
    elif version >= 18:
        options.append("--no-data-checksums")
    return (*options, *further)


def run_initdb(binaries: Binaries, options: Sequence[str], target: Path) -> None:
    done = subprocess.run(
        [str(binaries.server / "initdb"), *options, "-D", str(target)],
        cwd=target.parent,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        capture_output=True,
        text=True,
        **identity_arguments(),
    )
    if done.returncode != 0:
        raise ServerFailed(f"initdb of {binaries.label} failed: {done.stdout}{done.stderr}")


def template(binaries: Binaries, options: Sequence[str]) -> Path:
    """A cluster that initdb made with these options and that never ran; made once, kept."""
    digest = hashlib.sha256("\0".join(options).encode()).hexdigest()[:12]
    target = cache_directory() / f"template-{binaries.label}-{digest}"
    if not target.is_dir():
        with exclusive(target):
            if not target.is_dir():
                with directory_for_server(cache_directory()) as scratch:
                    run_initdb(binaries, options, scratch / "data")
                    (scratch / "data").rename(target)
    return target


def copy_tree(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def give_to_server(path: Path) -> None:
    user = server_user()
    if user is not None:
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(path)], check=True)


def roomy_directory() -> Path:
    """Memory where there is plenty of it (copying a template there takes a tenth), else a disk."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30:
        return memory
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def directory_for_server(parent: Path) -> Iterator[Path]:
    """A temporary directory that the servers' user owns; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="ws-", dir=parent))
    try:
        path.chmod(0o755)
        give_to_server(path)
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A TCP port that no other server of these tests uses, in this process or in another."""
    directory = cache_directory() / "ports"
    directory.mkdir(exist_ok=True)
    for step in range(len(_PORTS)):
        port = _PORTS[(os.getpid() * 7 + step) % len(_PORTS)]
        with (directory / str(port)).open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield port
            return
    raise RuntimeError("no free port")
