"""A second name for a file that never replaces what has that name already."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from walstream.errors import WriteError

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def link_without_replacing(old: Path, new: Path) -> None:
    """Gives a file the name ``new`` as well, or moves it there where links are not to be had.

    Raises:
        FileExistsError: the name is taken; nothing was changed.
        StorageError: the file system knows neither hard links nor RENAME_NOREPLACE.
        OSError: another failure.
    """
    try:
        os.link(old, new)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
    else:
        return
    import ctypes  # slow to import, and hardly ever needed

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if renameat2 is not None:
        if not renameat2(
            _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE
        ):
            return
        number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise WriteError(
            f"write {new}: the file system has neither hard links nor RENAME_NOREPLACE, so "
            "a file could be replaced by another; keep the archive on one that has",
            str(new),
        )
    raise OSError(number, os.strerror(number), str(new))
