"""How reading WAL ended: the end told from a truncated tail, damage, a gap and a wrong cluster."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from walstream.errors import SegmentMissing, WalError, WrongCluster


class EndKind(Enum):
    """Why reading ended."""

    LIMIT = "the end that was asked for"
    CLEAN = "the end of WAL"
    TRUNCATED = "WAL ends within a record"
    MISSING = "a segment is missing"
    DAMAGED = "WAL is damaged"
    WRONG_CLUSTER = "WAL of another cluster"


class Ending(NamedTuple):
    """How reading ended: why, behind which record, and a line for the user.

    ``inside``: a CLEAN end in front of which a record begins that the server had not finished.
    """

    kind: EndKind
    lsn: int
    message: str
    inside: bool = False


def raise_ending(ending: Ending) -> None:
    """Raises the error that an ending other than LIMIT and CLEAN is.

    Raises:
        SegmentMissing, WrongCluster, WalError: as the kind says.
    """
    match ending.kind:
        case EndKind.MISSING:
            raise SegmentMissing(ending.message, ending.lsn)
        case EndKind.WRONG_CLUSTER:
            raise WrongCluster(ending.message)
        case EndKind.DAMAGED | EndKind.TRUNCATED:
            raise WalError(ending.message, ending.lsn)
        case _:
            return
