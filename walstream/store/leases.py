"""Leases: what readers of a store need of it just now, so that gc does not take it away.

A lease is a file in ``STORE/leases/`` that says WAL ``[from, to]``, who needs it and since when.
While its holder lives it holds a lock (flock) on the file, which ends with the process however
that ends: a file without one is stale. gc keeps the WAL of a lease, and every base backup whose
own need of WAL begins within it.

A reader takes its lease and looks for what it needs afterwards. gc holds the gate (``gc.lock``)
exclusively from reading the leases until what it takes away is out of sight; a reader passes
through it (shared) while it takes its lease. So either gc sees the lease, or the reader sees what
gc has left.

A ``restore_command`` ends with each segment, the recovery that calls it does not. It leaves a note
instead (``RESTORING``): a lease without a lock, which holds for ``RESTORE_S`` after it was written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from walstream.errors import StorageError, StoreError
from walstream.segments.files import read_error
from walstream.store.file_layer import NO_SPACE, storage_error
from walstream.store.store import IDENTITY_FILE
from walstream.wal.model import format_lsn, parse_lsn
from walstream.wal.timeline import INFINITY

LEASES = "leases"
GATE = "gc.lock"
ENDING = ".lease"
RESTORING = ".restoring"
# How long a recovery may take over one segment, its pauses included.
RESTORE_S = 3600.0
# How long a gc waits for readers that take leases, and for another gc.
GATE_PATIENCE_S = 10.0

# What says that a store is only read here: no permission, or a file system of that kind.
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# A full disk keeps nobody from reading. A lease that says nothing needs everything.
_NOT_TO_BE_HAD = (*_READ_ONLY, *NO_SPACE)


class LeaseRange(NamedTuple):
    """A lease as gc sees it: ``who`` needs WAL ``[from_lsn, to_lsn]``, since when in words."""

    who: str
    from_lsn: int
    to_lsn: int
    since: str


def this_command() -> str:
    """Returns what to call this process: the command of ``walstream``, or the program."""
    program = os.path.basename(sys.argv[0]) or "python"  # noqa: PTH119 (often called)
    if program in ("walstream", "__main__.py") and len(sys.argv) > 1:
        return f"walstream {sys.argv[1]}"
    return program


class Lease:
    """What this process needs of a store, until ``release``. Any thread, one at a time.

    Without the permission to write to the store, or without space for a file in it, there is none,
    and ``held`` is false.
    """

    def __init__(self, store: Path, from_lsn: int = 0, to_lsn: int = INFINITY) -> None:
        """Takes the lease; waits for a gc that is moving files out of sight.

        Raises:
            StorageError: it cannot be taken, though the store can be written to.
        """
        self._store = store
        self._fd = -1
        self._path: Path | None = None
        self._take(from_lsn, to_lsn)

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    def narrow(self, from_lsn: int, to_lsn: int) -> None:
        """Says that from now on only WAL ``[from_lsn, to_lsn]`` is needed.

        Raises:
            StorageError: as the constructor; what was held still is.
        """
        if not self.held:
            return
        fd, path = self._fd, self._path
        self._take(from_lsn, to_lsn)
        if self._fd != fd:
            _give_up(fd, path)

    def release(self) -> None:
        """Gives the lease up."""
        fd, self._fd = self._fd, -1
        _give_up(fd, self._path)

    def _take(self, from_lsn: int, to_lsn: int) -> None:
        directory = leases_directory(self._store)
        if directory is None:
            return
        path = directory / f"{os.getpid()}-{time.time_ns():x}{ENDING}"
        content = _encode(this_command(), from_lsn, to_lsn)
        try:
            with _gate(self._store, fcntl.LOCK_SH):
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                try:
                    # Whoever runs gc must be able to ask for the lock, whatever our umask was.
                    os.fchmod(fd, 0o644)
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _write(fd, content)
                except BaseException:
                    _give_up(fd, path)
                    raise
        except OSError as exc:
            if exc.errno in _NOT_TO_BE_HAD:
                return
            raise storage_error("take the lease", path, exc) from exc
        self._fd, self._path = fd, path


@contextmanager
def lease_on(path: Path) -> Iterator[None]:
    """Keeps gc from all of a store within the context; whatever else ``path`` is has no gc.

    Raises:
        StorageError: the lease cannot be taken, though the store can be written to.
    """
    if not (path / IDENTITY_FILE).is_file():
        yield
        return
    with Lease(path.absolute()):
        yield


def _write(fd: int, content: bytes) -> None:
    try:
        whole = os.write(fd, content) == len(content)
    except OSError as exc:
        if exc.errno not in NO_SPACE:
            raise
        whole = False
    if not whole:
        os.ftruncate(fd, 0)


def _give_up(fd: int, path: Path | None) -> None:
    if fd < 0:
        return
    if path is not None:
        with suppress(OSError):
            path.unlink()
    os.close(fd)


def leases_directory(store: Path) -> Path | None:
    """Returns the directory of leases, made where it is not there; None: only read here."""
    directory = store / LEASES
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            # Who reads as root leaves a directory that the store's owner can use.
            found = store.stat()
            if os.geteuid() == 0 and found.st_uid:
                os.chown(directory, found.st_uid, found.st_gid)
        return directory if os.access(directory, os.W_OK | os.X_OK) else None
    except OSError as exc:
        if exc.errno in _NOT_TO_BE_HAD:
            return None
        raise storage_error("make", directory, exc) from exc


@contextmanager
def _gate(store: Path, kind: int) -> Iterator[None]:
    """Holds the gate; raises OSError where that cannot be."""
    fd = os.open(store / GATE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


@contextmanager
def closed_gate(store: Path) -> Iterator[None]:
    """Keeps readers from taking leases, and any other gc away, within the context.

    Raises:
        StoreError: another gc is at work.
        StorageError: the lock cannot be taken.
    """
    path = store / GATE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise storage_error("open", path, exc) from exc
    try:
        _lock_out(fd, store)
        yield
    finally:
        os.close(fd)


def _lock_out(fd: int, store: Path) -> None:
    # Readers hold it for an instant each; another gc longer.
    deadline = time.monotonic() + GATE_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise storage_error("lock", store / GATE, exc) from exc
        else:
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"another gc is at work on store {store}: try again when it is done", str(store)
            )
        time.sleep(0.02)


def note_restore(store: Path, from_lsn: int) -> None:
    """Notes that a recovery, which has come to ``from_lsn``, takes segments from the store.

    One note a data directory that is recovered (the server runs the command there). It only adds
    to what gc keeps: that it cannot be written is no reason not to hand out WAL.
    """
    try:
        directory = store / LEASES
        if not directory.is_dir() and leases_directory(store) is None:
            return
        path = directory / f"{_place_number():016x}{RESTORING}"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(_encode("walstream restore-wal", from_lsn, INFINITY))
        temporary.replace(path)
    except (OSError, StorageError):
        return


def _place_number() -> int:
    """Returns a number for the directory that we were started in."""
    found = Path().stat()
    return (found.st_dev << 40 ^ found.st_ino) & 0xFFFFFFFFFFFFFFFF


def _encode(who: str, from_lsn: int, to_lsn: int) -> bytes:
    now = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime())
    to = "end" if to_lsn >= INFINITY else format_lsn(to_lsn)
    return f"{format_lsn(from_lsn)} {to} {os.getpid()} {now} {who}\n".encode(
        "utf-8", "backslashreplace"
    )


def _decode(content: bytes, path: Path) -> LeaseRange:
    """Returns what a lease says.

    Raises:
        StoreError: it cannot be understood.
    """
    if not content:
        return LeaseRange("a reader that could not write what it needs", 0, INFINITY, "")
    try:
        start, end, pid, day, clock, who = content.decode().split(" ", 5)
        to_lsn = INFINITY if end == "end" else parse_lsn(end)
        who = _whole_line(who)
        return LeaseRange(f"{who} (process {int(pid)})", parse_lsn(start), to_lsn, f"{day} {clock}")
    except ValueError as exc:
        raise StoreError(
            f"the lease {path} cannot be understood ({exc}): nothing is removed while it is there",
            str(path),
        ) from exc


def _whole_line(text: str) -> str:
    if not text.endswith("\n"):
        raise ValueError("it was cut")
    return text[:-1]


def read_leases(store: Path, now: float | None = None) -> list[LeaseRange]:
    """Returns the leases of a store that hold, and takes stale ones away.

    Call it within ``closed_gate``, where what is decided by it must stay true. ``now`` is in
    seconds since 1970.

    Raises:
        StoreError: one cannot be understood.
        StorageError: one cannot be read.
    """
    directory = store / LEASES
    found = []
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise read_error("read", directory, exc) from exc
    for name in names:
        path = directory / name
        try:
            if name.endswith(ENDING):
                lease = _read_locked(path)
            elif name.endswith(RESTORING):
                lease = _read_note(path, time.time() if now is None else now)
            else:
                continue
        except FileNotFoundError:
            continue  # given up meanwhile
        except OSError as exc:
            raise read_error("read the lease", path, exc) from exc
        if lease is not None:
            found.append(lease)
    return found


def _read_locked(path: Path) -> LeaseRange | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise
            return _decode(os.pread(fd, 4096, 0), path)
        with suppress(OSError):
            path.unlink()
        return None
    finally:
        os.close(fd)


def _read_note(path: Path, now: float) -> LeaseRange | None:
    # A clock that jumped back makes a note hold for longer, never for shorter.
    if now - path.stat().st_mtime > RESTORE_S:
        with suppress(OSError):
            path.unlink()
        return None
    return _decode(path.read_bytes(), path)
