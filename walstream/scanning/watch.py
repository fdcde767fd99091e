"""Waits for a directory to change: inotify where the kernel has it, else a short sleep."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from pathlib import Path

_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE = 0x2, 0x8, 0x80, 0x100
_NONBLOCK = 0o4000
_CLOEXEC = 0o2000000


class DirectoryWatch:
    """Tells when something in a directory was written, made or renamed."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
            mask = _MODIFY | _CLOSE_WRITE | _MOVED_TO | _CREATE
            if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), mask) < 0:
                os.close(fd)
                fd = -1
            self._fd = fd

    def wait(self, timeout_s: float) -> bool:
        """Returns when something changed or the time is over; whether something changed."""
        if self._fd < 0:
            time.sleep(min(timeout_s, 0.5))
            return True
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, 1 << 16):
                pass
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
