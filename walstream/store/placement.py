"""Files that are put in a directory whole or not at all, while others may do the same at once.

Each writer has a temporary file of its own, made exclusively and locked while it is written; one
that nobody holds was left by a process that died and is removed by the next that comes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from walstream.store.file_layer import FileLayer, file_mode_below, storage_error, write_fully

TEMPORARY = ".walstream.tmp"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def replace_whole(target: Path, pieces: Iterator[bytes], files: FileLayer | None = None) -> None:
    """Writes ``target`` durably, in place of what may be there.

    Raises:
        StorageError: a system call failed; ``target`` is as it was.
    """
    layer = files or FileLayer()
    with _temporary(target, pieces, layer) as temporary:
        layer.rename(temporary, target)
        layer.fsync_directory(target.parent)


def place_new(target: Path, pieces: Iterator[bytes], files: FileLayer | None = None) -> bool:
    """Writes ``target`` durably; returns False, and changes nothing, where that name is taken.

    Raises:
        StorageError: a system call failed; nothing has that name because of us.
    """
    layer = files or FileLayer()
    with _temporary(target, pieces, layer) as temporary:
        try:
            layer.link_new(temporary, target)
        except FileExistsError:
            return False
        layer.fsync_directory(target.parent)
    return True


def make_durable(path: Path, files: FileLayer | None = None) -> None:
    """Makes a file that is there durable, with its name: its writer may have died before.

    Raises:
        StorageError: a system call failed.
    """
    layer = files or FileLayer()
    try:
        fd = layer.open(path, os.O_RDONLY)
        try:
            layer.fsync(fd)
        finally:
            layer.close(fd)
        layer.fsync_directory(path.parent)
    except OSError as exc:
        raise storage_error("fsync", path, exc) from exc


@contextlib.contextmanager
def _temporary(target: Path, pieces: Iterator[bytes], layer: FileLayer) -> Iterator[Path]:
    """A durable file with the bytes of ``pieces`` beside ``target``; removed at the end."""
    try:
        _remove_stale(target)
        fd, temporary = _create(target, layer)
        try:
            at = 0
            for piece in pieces:
                write_fully(layer, fd, piece, at, temporary)
                at += len(piece)
            layer.fsync(fd)
            yield temporary
        finally:
            # Removed while it is still locked: nobody else takes it for a stale one.
            with contextlib.suppress(OSError):
                layer.unlink(temporary)
            layer.close(fd)
    except OSError as exc:
        raise storage_error("write", target, exc) from exc


def _create(target: Path, layer: FileLayer) -> tuple[int, Path]:
    while True:
        temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}{TEMPORARY}")
        fd = layer.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode_below(target.parent)
        )
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as exc:
                # Without locks (some network file systems) nothing is ever taken for stale.
                if exc.errno not in _NO_LOCKS:
                    raise
            if os.fstat(fd).st_nlink:
                return fd, temporary
        except BaseException:
            layer.close(fd)
            raise
        # Between open and lock another process took it for a stale one.
        layer.close(fd)


def _remove_stale(target: Path) -> None:
    """Removes temporary files of ``target`` that no living process holds."""
    for name in os.listdir(target.parent):  # noqa: PTH208 (names only)
        if not (name.startswith(f".{target.name}.") and name.endswith(TEMPORARY)):
            continue
        path = target.parent / name
        # What cannot be removed is in nobody's way: names are never used twice.
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)
