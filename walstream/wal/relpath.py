"""Names of relation files in a data directory (relpath.c): to and from locator, fork, segment.

``base/DB/REL``, ``global/REL``, ``pg_tblspc/SPC/PG_VERSION_CATALOG/DB/REL``, then ``_fsm``, ``_vm``
or ``_init`` for the fork, then ``.N`` for the N-th file of 1 GB.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from walstream.wal.model import FORK_NAMES, BufferTag, RelFileLocator

DEFAULT_TABLESPACE = 1663
GLOBAL_TABLESPACE = 1664
RELSEG_SIZE = 131072

FORK_SUFFIXES = {number: f"_{name}" if number else "" for name, number in FORK_NAMES.items()}

# As PostgreSQL writes an OID and a file's number: no zeros before it, no digits of other scripts.
_OID = r"[1-9][0-9]{0,9}"
_FILE = re.compile(
    rf"(?:base/(?P<db>{_OID})|(?P<shared>global)"
    rf"|pg_tblspc/(?P<spc>{_OID})/PG_[^/]+/(?P<spcdb>{_OID}))"
    rf"/(?P<rel>{_OID})(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<segment>[1-9][0-9]{{0,5}}))?"
)
_MAX_OID = (1 << 32) - 1
_LOCATOR = re.compile(r"(\d+)/(\d+)/(\d+)", re.ASCII)


class RelationFile(NamedTuple):
    """What the path of a relation file says; ``segment`` counts files of 1 GB from 0."""

    locator: RelFileLocator
    fork: int
    segment: int


def parse_relation_file(path: str) -> RelationFile | None:
    """Returns what a path below the data directory says, or None where it is no relation file."""
    match = _FILE.fullmatch(path)
    if match is None:
        return None
    if match["shared"]:
        spc_oid, db_oid = GLOBAL_TABLESPACE, 0
    elif match["db"]:
        spc_oid, db_oid = DEFAULT_TABLESPACE, int(match["db"])
    else:
        spc_oid, db_oid = int(match["spc"]), int(match["spcdb"])
    fork = FORK_NAMES[match["fork"]] if match["fork"] else 0
    locator = RelFileLocator(spc_oid, db_oid, int(match["rel"]))
    if max(locator) > _MAX_OID:
        return None
    return RelationFile(locator, fork, int(match["segment"] or 0))


def relation_file(
    locator: RelFileLocator, fork: int, segment: int = 0, version_directory: str = ""
) -> str:
    """Returns the path below the data directory (GetRelationPath).

    ``version_directory`` (``PG_15_202209061``) is needed for other tablespaces only.
    """
    name = f"{locator.rel_number}{FORK_SUFFIXES[fork]}"
    if segment:
        name += f".{segment}"
    if locator.spc_oid == GLOBAL_TABLESPACE:
        return f"global/{name}"
    if locator.spc_oid == DEFAULT_TABLESPACE:
        return f"base/{locator.db_oid}/{name}"
    return f"pg_tblspc/{locator.spc_oid}/{version_directory}/{locator.db_oid}/{name}"


def block_place(tag: BufferTag) -> tuple[int, int]:
    """Returns the 1 GB file number and the block number within it."""
    return divmod(tag.block, RELSEG_SIZE)


def parse_relation(text: str) -> tuple[RelFileLocator, int]:
    """Returns locator and fork of ``SPC/DB/REL`` or of a path such as ``base/5/16384_vm``.

    Raises:
        ValueError: it is neither.
    """
    match = _LOCATOR.fullmatch(text)
    if match is not None:
        return RelFileLocator(int(match[1]), int(match[2]), int(match[3])), 0
    found = parse_relation_file(text)
    if found is None:
        raise ValueError(
            "invalid relation: expected tablespace/database/relfilenode or a path such as "
            f"base/5/16384, got {text!r}"
        )
    return found.locator, found.fork
