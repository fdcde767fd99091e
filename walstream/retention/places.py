"""The moments that others name to be kept: holds, and branches of a store.

Whoever keeps something that is rebuilt from a store later says so here: one ``Place``. It is read
within the gate that gc closes, so what makes a place takes a lease first, and gives it up when the
place can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from walstream.errors import ConfigError, StoreError
from walstream.retention.contents import Place
from walstream.segments.files import read_error
from walstream.store.holds import list_holds
from walstream.toml import parse_toml
from walstream.wal.model import parse_lsn

BRANCHES = "branches"
BRANCH = "branch.toml"


def named_places(store: Path, now: datetime) -> list[Place]:
    """Returns the moments that holds and branches keep; ``now`` (aware) is by what holds expire.

    Raises:
        StoreError: a hold or branch is malformed.
        StorageError: one cannot be read.
    """
    holds = [
        Place(f"hold {hold.name}", hold.from_lsn, hold.to_lsn, hold.reason)
        for hold in list_holds(store)
        if not hold.expired(now)
    ]
    return [*holds, *_branches(store / BRANCHES)]


def _branches(directory: Path) -> Iterator[Place]:
    """Yields the moment that each branch began at; it needs no later one of the store.

    A branch counts until it is removed. One that is being made (``.tmp``) has a lease.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix != ".tmp")
    except FileNotFoundError:
        return
    except OSError as exc:
        raise read_error("read", directory, exc) from exc
    for path in paths:
        if not path.is_dir():
            continue
        description = path / BRANCH
        try:
            lsn = parse_lsn(parse_toml(description.read_text(encoding="utf-8"), description)["lsn"])
        except FileNotFoundError as exc:
            if not path.is_dir():
                continue  # removed meanwhile
            raise StoreError(
                f"{path}: a branch without {BRANCH} cannot be understood, nothing is removed while "
                "it is there: remove it",
                str(path),
            ) from exc
        except (ConfigError, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise StoreError(
                f"{description}: missing or malformed {exc}", str(description)
            ) from exc
        except OSError as exc:
            raise read_error("read", description, exc) from exc
        yield Place(f"branch {path.name}", lsn, lsn)
