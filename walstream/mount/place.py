"""Where an opening lives while it is open: short paths, which the server's user can reach.

A place is locked while its process lives. One that was killed leaves a server without its files, a
mount that answers nobody, and what was written: the next opening takes all of it away.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from walstream.errors import WalstreamError
from walstream.mount.lower import Places
from walstream.mount.mounted import unmount_dead
from walstream.server.postmaster import end_orphans
from walstream.server.programs import ServerUser, server_user, temporary_place
from walstream.store.file_layer import DirectoryLock

PREFIX = "walstream-open-"
MOUNT_POINT = "mnt"
# Of the branch that goes away at the end, below a place.
BRANCH = "branch"


@dataclass(frozen=True, slots=True)
class Place:
    """A private directory beside the store: mount point, socket, access rules.

    ``user`` is whom the server runs as, None for ourselves; ``mounted_at`` a mount point elsewhere.
    """

    path: Path
    user: ServerUser | None
    mounted_at: Path | None = None

    @property
    def mount_point(self) -> Path:
        return self.mounted_at or self.path / MOUNT_POINT

    @property
    def owner(self) -> tuple[int, int] | None:
        return None if self.user is None else (self.user.uid, self.user.gid)


def user_for(store: Path) -> ServerUser | None:
    """Returns whom a server on a store runs as: the store's owner, if we are root.

    Raises:
        LocalServerError: there is nobody to become.
    """
    return server_user(store.stat().st_uid)


def _make_place(store: Path) -> tuple[Place, DirectoryLock]:
    user = user_for(store)
    parent = Path(temporary_place(user))
    _take_away_left_over(parent)
    # It has its name when it is locked: until then nobody takes it for left over.
    made = Path(tempfile.mkdtemp(prefix="walstream-new-", dir=parent))
    lock = DirectoryLock(made, str(made))
    path = made.rename(made.with_name(made.name.replace("walstream-new-", PREFIX)))
    place = Place(path, user)
    for directory in (place.mount_point, path / "socket"):
        directory.mkdir(mode=0o700)
        if place.owner is not None:
            os.chown(directory, *place.owner)
    if user is not None:
        path.chmod(0o711)
    return place, lock


def _take_away_left_over(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        try:
            lock = DirectoryLock(path, str(path))
        except WalstreamError:
            continue  # open, or another user's
        end_orphans(path / MOUNT_POINT / Places.DATA)
        unmount_dead(path / MOUNT_POINT)
        shutil.rmtree(path, ignore_errors=True)
        lock.release()


@asynccontextmanager
async def place_beside(store: Path) -> AsyncIterator[Place]:
    """Makes a place for an opening of a store; at the end it is removed.

    Raises:
        LocalServerError: see ``user_for``, ``temporary_place``.

    Cancellation: it is removed.
    """
    place, lock = await trio.to_thread.run_sync(_make_place, store)
    try:
        yield place
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, place.path, ignore_errors=True))
        lock.release()
