"""Where an opening lives while it is open: short paths, which the server's user can reach."""

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

from walstream.server.programs import ServerUser, server_user, temporary_place


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
        return self.mounted_at or self.path / "mnt"

    @property
    def owner(self) -> tuple[int, int] | None:
        return None if self.user is None else (self.user.uid, self.user.gid)


def user_for(store: Path) -> ServerUser | None:
    """Returns whom a server on a store runs as: the store's owner, if we are root.

    Raises:
        LocalServerError: there is nobody to become.
    """
    return server_user(store.stat().st_uid)


def _make_place(store: Path) -> Place:
    user = user_for(store)
    path = Path(tempfile.mkdtemp(prefix="walstream-", dir=temporary_place(user)))
    place = Place(path, user)
    for directory in (place.mount_point, path / "socket"):
        directory.mkdir(mode=0o700)
        if place.owner is not None:
            os.chown(directory, *place.owner)
    if user is not None:
        path.chmod(0o711)
    return place


@asynccontextmanager
async def place_beside(store: Path) -> AsyncIterator[Place]:
    """Makes a place for an opening of a store; at the end it is removed.

    Raises:
        LocalServerError: see ``user_for``, ``temporary_place``.

    Cancellation: it is removed.
    """
    place = await trio.to_thread.run_sync(_make_place, store)
    try:
        yield place
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, place.path, ignore_errors=True))
