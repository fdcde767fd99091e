"""Branches of a store that are made and compared without a server on them."""

from __future__ import annotations

from pathlib import Path

import trio

from walstream.app.open import open_reader
from walstream.app.opening import OpenOptions, make_opening, moment_files
from walstream.datadir.past import Past
from walstream.index.moment import MomentText
from walstream.mount.branch import Branch, branch_path, load_branch
from walstream.mount.compare import Difference, differences
from walstream.mount.place import Place, user_for
from walstream.state.cluster import cluster_state


async def create_branch(store: Path, asked: MomentText, options: OpenOptions) -> Branch:
    """Makes a branch without opening it.

    Raises:
        WalstreamError: see ``open_moment``.

    Cancellation: what was made is removed with the next branch of that name.
    """
    assert options.name is not None
    path = branch_path(store, options.name)
    async with open_reader(store, options.sandbox) as reader:
        past = Past(reader.pages, reader.backups)
        moment = await past.moment(asked)
        place = Place(path, await trio.to_thread.run_sync(user_for, store))
        branch, _ = await make_opening(reader, past, moment, place, path, options)
        return branch


async def compare_branch(store: Path, name: str, *, sandbox: bool = True) -> list[Difference]:
    """Returns the relation files of a branch that differ from those of its moment.

    Raises:
        StoreError: there is none.
        WalstreamError: see ``differences``.

    Cancellation: nothing is left behind.
    """
    branch = await trio.to_thread.run_sync(load_branch, branch_path(store, name))
    async with open_reader(store, sandbox) as reader:
        source = Past(reader.pages, reader.backups).source(branch.lsn)
        state = await trio.to_thread.run_sync(cluster_state, source, branch.lsn)
        lower = await trio.to_thread.run_sync(moment_files, reader, source, state, branch)
        return await differences(branch, lower)
