"""Storage: creation and truncation of relation files (storage_xlog.h, smgrdesc.c)."""

from __future__ import annotations

from typing import NamedTuple

from walstream.errors import RecordError
from walstream.rmgr.layout import Cursor, Layout
from walstream.rmgr.op import Op
from walstream.rmgr.view import View
from walstream.wal import opcodes
from walstream.wal.layout import XLR_RMGR_INFO_MASK
from walstream.wal.model import RelFileLocator
from walstream.wal.relpath import FORK_SUFFIXES, relation_file
from walstream.wal.versions import ROWS

# TABLESPACE_VERSION_DIRECTORY: major version and catalog version
VERSION_DIRECTORIES = {row.major: f"PG_{row.major}_{row.catalog_version}" for row in ROWS}

TRUNCATE_HEAP = opcodes.SMGR_TRUNCATE_HEAP
TRUNCATE_VM = opcodes.SMGR_TRUNCATE_VM
TRUNCATE_FSM = opcodes.SMGR_TRUNCATE_FSM


class StorageCreate(NamedTuple):
    """A relation fork was created, empty (xl_smgr_create)."""

    locator: RelFileLocator
    fork: int


class StorageTruncate(NamedTuple):
    """A relation was cut to ``blocks`` blocks (xl_smgr_truncate).

    ``flags`` says which forks: TRUNCATE_HEAP, TRUNCATE_VM, TRUNCATE_FSM. The map forks shrink to
    what ``blocks`` main blocks need, and the tail bits of their last page are cleared.
    """

    locator: RelFileLocator
    blocks: int
    flags: int


def parse_storage(main_data: bytes, info: int) -> StorageCreate | StorageTruncate | None:
    """Returns the body of a Storage record, None for an operation that does not exist.

    Raises:
        RecordError: the body is too short.
    """
    cursor = Cursor(main_data)
    if info & XLR_RMGR_INFO_MASK == opcodes.XLOG_SMGR_CREATE:
        return StorageCreate(cursor.locators(1)[0], cursor.integer("i32"))
    if info & XLR_RMGR_INFO_MASK == opcodes.XLOG_SMGR_TRUNCATE:
        blocks = cursor.integer()
        return StorageTruncate(cursor.locators(1)[0], blocks, cursor.integer("i32"))
    return None


def path_of(locator: RelFileLocator, fork: int, version: int) -> str:
    """Returns the path that relpathperm gives in that version."""
    if fork not in FORK_SUFFIXES:
        raise RecordError(f"invalid fork number: expected 0 to 3, got {fork}")
    return relation_file(locator, fork, 0, VERSION_DIRECTORIES[version])


def describe(view: View) -> str:
    body = parse_storage(view.main, view.info)
    if isinstance(body, StorageCreate):
        return path_of(body.locator, body.fork, view.version)
    assert body is not None
    path = path_of(body.locator, 0, view.version)
    return f"{path} to {body.blocks} blocks flags {body.flags}"


OPS = {
    opcodes.XLOG_SMGR_CREATE: (Op(14, "CREATE", Layout("locator locator, fork i32"), describe),),
    opcodes.XLOG_SMGR_TRUNCATE: (
        Op(14, "TRUNCATE", Layout("blocks block, locator locator, flags i32"), describe),
    ),
}
