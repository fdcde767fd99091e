"""Bytes of a file into another by the kernel: by reference where the file system can (reflink)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from walstream.store.file_layer import storage_error

_CHUNK = 1 << 20
# The kernel or file system cannot copy between these two files by itself.
NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_range(source: Path, fd: int, length: int | None) -> int:
    """Copies the first ``length`` bytes of a file (None: all) to the start of ``fd``.

    Returns how many there were. The kernel copies, by reference on file systems that can.

    Raises:
        StorageError: a system call failed.
    """
    try:
        with source.open("rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            left = left if length is None else min(left, length)
            done = 0
            while done < left:
                try:
                    copied = os.copy_file_range(file.fileno(), fd, left - done, done, done)
                except OSError as exc:
                    if exc.errno not in NO_COPY_RANGE:
                        raise
                    copied = _copy_piece(file.fileno(), fd, done, left - done)
                if copied == 0:
                    break
                done += copied
            return done
    except OSError as exc:
        raise storage_error("copy", source, exc) from exc


def _copy_piece(source: int, target: int, at: int, length: int) -> int:
    data = os.pread(source, min(length, _CHUNK), at)
    done = 0
    while done < len(data):
        done += os.pwrite(target, memoryview(data)[done:], at + done)
    return done
