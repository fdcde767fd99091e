"""Exit codes of every command, and which error becomes which (docs/reference/exit-codes.md)."""

from __future__ import annotations

from walstream import errors

OK = 0
FAILED = 1
USAGE = 2
CONNECTION = 3
REFUSED = 4
STORE = 5
STORAGE = 6
WAL_DAMAGED = 7
PAGE = 8
REDO = 9
DIFFERENT = 10
WAL_TRUNCATED = 11
SEGMENT_MISSING = 12
WRONG_CLUSTER = 13
ROWS_LOST = 14
NO_ROWS = 15
READ = 16
LOCAL_SERVER = 17
MOUNT = 18
DRILL = 19

MEANINGS = {
    OK: "success",
    FAILED: "no code of its own: a bug, a part that is not installed, output that nobody reads",
    USAGE: "wrong options, arguments or settings",
    CONNECTION: "no connection to the server, or it was lost and was not to be tried again",
    REFUSED: "the server refuses for good: WAL removed, slot lost, no REPLICATION, start ahead",
    STORE: "the directory is not a store, is in use, or is not usable for this server",
    STORAGE: "a file or the output cannot be written: a write, fsync or rename failed",
    WAL_DAMAGED: "WAL is corrupt, has a gap, or differs from what is stored",
    PAGE: "the page does not exist at that LSN, or cannot be known; `verify --deep`: pages are not "
    "sound",
    REDO: "redo failed",
    DIFFERENT: "a comparison found differences",
    WAL_TRUNCATED: "WAL ends within a record",
    SEGMENT_MISSING: "WAL that was asked for is not there: a segment is missing, or there is none",
    WRONG_CLUSTER: "WAL or store of another cluster",
    ROWS_LOST: "rows are missing from the output: a page, tuple or value cannot be read",
    NO_ROWS: "no such table at that moment, or none whose rows can be read",
    READ: "a file cannot be read",
    LOCAL_SERVER: "a PostgreSQL of walstream's own is not found, does not start, or fails",
    MOUNT: "nothing can be mounted: no FUSE, or no permission",
    DRILL: "a drill failed: the report says which check",
}

_CODES: tuple[tuple[type[errors.WalstreamError], int], ...] = (
    (errors.ConnectionLost, CONNECTION),
    (errors.ServerRefused, REFUSED),
    (errors.WrongCluster, WRONG_CLUSTER),
    (errors.StoreError, STORE),
    (errors.ReadError, READ),
    (errors.StorageError, STORAGE),
    (errors.ConfigError, USAGE),
    (errors.NoWalFound, SEGMENT_MISSING),
    (errors.SegmentMissing, SEGMENT_MISSING),
    (errors.WalError, WAL_DAMAGED),
    (errors.ProtocolError, CONNECTION),
    (errors.PageError, PAGE),
    (errors.RowDamaged, ROWS_LOST),
    (errors.InvalidFilter, USAGE),
    (errors.RowsError, NO_ROWS),
    (errors.RedoError, REDO),
    (errors.LocalServerError, LOCAL_SERVER),
    (errors.MountError, MOUNT),
)


def exit_code(error: errors.WalstreamError) -> int:
    """Returns the exit code for an error of ours."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return FAILED
