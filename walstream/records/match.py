"""Which records are wanted, in the words that a caller uses."""

from __future__ import annotations

from collections.abc import Iterable

from walstream.rmgr.rmgrlist import parse_rmgr_name
from walstream.wal.match import RecordMatch
from walstream.wal.model import RelFileLocator, parse_lsn
from walstream.wal.relpath import parse_relation

Position = int | str
"""An LSN: a number of bytes, or text like ``0/16B3748``."""


def position(asked: Position | None) -> int | None:
    """Returns an LSN as a number.

    Raises:
        ValueError: a text that is no LSN.
    """
    return parse_lsn(asked) if isinstance(asked, str) else asked


def record_match(
    rmgr: str | Iterable[str] | None,
    xid: int | None,
    relation: str | RelFileLocator | None,
    block: int | None,
) -> RecordMatch:
    """Returns the conditions, all of which must hold; ``None`` is no condition.

    Raises:
        ValueError: there is no such resource manager, the relation is none, or there is a block
            without one (pg_waldump refuses that, too: it would be a block of any relation).
    """
    if block is not None and relation is None:
        raise ValueError(f"block: expected a relation that it is of, got block {block} alone")
    names = (rmgr,) if isinstance(rmgr, str) else rmgr or ()
    fork = None
    if isinstance(relation, str):
        relation, named_fork = parse_relation(relation)
        # As pg_waldump: all forks, where the path names none.
        fork = named_fork or None
    return RecordMatch([parse_rmgr_name(name) for name in names], xid, relation, block, fork)
