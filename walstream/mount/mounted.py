"""A file system mounted while a context lasts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyfuse3
import trio

from walstream.errors import MountError
from walstream.mount.filesystem import MomentFilesystem
from walstream.tasks.supervise import open_bare_nursery

FUSE_DEVICE = Path("/dev/fuse")
# Of the file system, as findmnt shows it.
FSNAME = "walstream"


def check_fuse() -> None:
    """Checks that this system has FUSE.

    Raises:
        MountError: it has none.
    """
    if not FUSE_DEVICE.exists():
        raise MountError(
            f"there is no {FUSE_DEVICE}: this system has no FUSE, or does not give it to this "
            "container; walstream materialize makes a directory without it"
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise MountError(
            f"we may not use {FUSE_DEVICE}: chmod 666 is its usual mode; walstream materialize "
            "makes a directory without it"
        )


@asynccontextmanager
async def mounted(
    filesystem: MomentFilesystem, directory: Path, *, others: bool = False, keep: bool = True
) -> AsyncIterator[None]:
    """Mounts a file system; at the end it is unmounted, and what it wrote is on disk.

    One at a time in a process: that is how pyfuse3 is.

    Args:
        filesystem: is closed at the end.
        directory: an empty one.
        others: users other than ours may look into it, as far as the modes of files let them.
        keep: what was written outlives the context.

    Raises:
        MountError: it cannot be mounted.

    Cancellation: it is unmounted; who still uses it gets errors.
    """
    options = set(pyfuse3.default_options) | {f"fsname={FSNAME}"}
    if others:
        options.add("allow_other")
    try:
        try:
            pyfuse3.init(filesystem, str(directory), options)
        except RuntimeError as error:
            why = "; user_allow_other must be in /etc/fuse.conf" if others and os.geteuid() else ""
            raise MountError(f"cannot mount {directory}: {error}{why}") from error
        try:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(pyfuse3.main)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=True)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, filesystem, keep)


def unmount_dead(directory: Path) -> None:
    """Unmounts what a process left mounted that is no more; who still uses it gets errors."""
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is not None and str(directory) in Path("/proc/mounts").read_text():
        subprocess.run(
            [program, "-u", "-z", "-q", str(directory)], capture_output=True, check=False
        )


def _close(filesystem: MomentFilesystem, keep: bool) -> None:
    filesystem.close(keep=keep)
