"""A lease for commands that read the WAL of whatever PATH is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lease_for(path: Path | None) -> Iterator[None]:
    """Keeps gc from all of a store within the context; whatever else ``path`` is has no gc.

    Raises:
        StorageError: the lease cannot be taken, though the store can be written to.
    """
    # Most directories of WAL are no store: those are read without its modules.
    if path is None or not os.path.isfile(path / "walstream.toml"):  # noqa: PTH113 (a DSN too)
        yield
        return
    from walstream.store.leases import lease_on

    with lease_on(path):
        yield
