"""Every exception that walstream raises on purpose.

::

    WalstreamError
    ├── WalError                     the bytes are wrong; fatal for that cluster
    │   ├── PageHeaderError          a WAL page header is not what it must be
    │   ├── RecordError              a WAL record is not what it must be
    │   ├── WalGapError              WAL between two positions is missing
    │   ├── WalDivergedError         the same LSN with other content
    │   └── SegmentMissing           a segment file that should be there is not
    ├── NoWalFound                   a path that was to hold WAL holds none
    ├── ProtocolError                a peer broke a format
    │   ├── ReplicationProtocolError
    │   └── RedoProtocolError
    ├── ConnectionLost               socket cut, server shut down; restart
    ├── ServerRefused                WAL removed, no slot, no REPLICATION; a person must act
    │   └── HistoryMissing           the server has no history file of a timeline
    ├── StorageError                 the file system refused; never raised itself
    │   ├── ReadError                a file cannot be opened, read or looked at
    │   │   └── FileDamaged          bytes of it are lost: cut, or damaged where compressed
    │   └── WriteError               a write, fsync, rename or removal failed; fatal
    │       └── NoSpace              the disk or quota is full; whoever writes waits
    ├── StoreError                   the directory is not what was asked for
    │   ├── WrongCluster             WAL or a store of another cluster
    │   └── BackupDamaged            a file of a base backup is not what was backed up
    ├── ConfigError                  an option, argument or file of settings cannot be used
    ├── RedoError                    a page could not be rebuilt
    │   ├── RedoProcessDied          the child ended, or was poisoned, meanwhile
    │   ├── RedoTimeout              the queue was too long
    │   ├── RedoQuarantined          the request killed more than one child
    │   ├── UnsupportedRecord        custom resource manager, unknown operation
    │   ├── WrongResult              the child's answer is not the page that was asked for
    │   └── SandboxError             a wall around the child does not stand
    ├── PageError                    to the caller of get_page
    │   ├── PageNotFound             beyond the end of the relation, or no such relation
    │   ├── LsnNotAvailable          before the store begins, or not yet reached
    │   ├── NoBaseImage              the index knows no image to start from
    │   └── PageDamaged              the base backup's page is not what the backup brought
    ├── RowsError                    to the caller who asks for rows
    │   ├── NameNotFound             no database, table or column of that name then
    │   ├── NoRows                   the relation has no rows that WAL tells
    │   ├── InvalidFilter            a filter that cannot be understood
    │   └── RowDamaged               bytes of a tuple or value are not what PostgreSQL writes
    ├── LocalServerError             a server that walstream starts: not found, does not start
    └── MountError                   there is no FUSE, or it refuses to mount

Messages name the field, what was expected, what was found, and the LSN or path. The same facts are
attributes, given when the error is made; every error can be pickled. Whether an error is fatal or
means "try again" is decided by the supervisor that sees it (its ``restart_on``), not by flags here.
Bugs of our own are ``AssertionError`` or ``TypeError`` and are never translated; a function that is
given what it does not take raises ``ValueError``.
"""

from __future__ import annotations

from typing import Any, Self


class WalstreamError(Exception):
    """Base of everything that walstream raises on purpose."""

    @classmethod
    def _remade(cls, message: str, facts: dict[str, Any]) -> Self:
        error = cls.__new__(cls, message)
        error.__dict__.update(facts)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with the message alone.
        return self._remade, (str(self), self.__dict__)

    def reworded(self, message: str) -> Self:
        """Returns an error of the same kind, with the same facts and another message."""
        return self._remade(message, self.__dict__)


class WalError(WalstreamError):
    """Bytes of WAL that are not what PostgreSQL writes.

    ``lsn`` is where the offending structure starts (a page or a record), or None where the
    bytes have no position. The decoder's errors also have ``reason`` (a ``wal.reason.Reason``),
    ``expected`` and ``got``.
    """

    def __init__(
        self,
        message: str,
        lsn: int | None = None,
        *,
        reason: int | None = None,
        expected: int = 0,
        got: int = 0,
    ) -> None:
        super().__init__(message)
        self.lsn = lsn
        self.reason = reason
        self.expected = expected
        self.got = got


class PageHeaderError(WalError):
    """A WAL page header fails a check of XLogReaderValidatePageHeader."""


class RecordError(WalError):
    """A WAL record fails a check of ValidXLogRecordHeader, ValidXLogRecord or DecodeXLogRecord."""


class WalGapError(WalError):
    """WAL between what we have and what arrived is missing."""


class WalDivergedError(WalError):
    """The same LSN arrived with other content than what is stored."""


class SegmentMissing(WalError):
    """A segment file that should hold the LSN is not there."""


class NoWalFound(WalstreamError):
    """There is no WAL at ``path``: no such segment, or a file or directory of something else."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class ProtocolError(WalstreamError):
    """A peer sent something that its protocol does not allow."""


class ReplicationProtocolError(ProtocolError):
    """The server's answer is not one of the streaming replication protocol."""


class RedoProtocolError(ProtocolError):
    """A redo request or reply is malformed."""


class ConnectionLost(WalstreamError):
    """The connection to the server ended, or could not be used; a new one may succeed.

    ``sqlstate`` is the five-character code of the server's error, None where there was none.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ServerRefused(WalstreamError):
    """The server answered with an error that trying again does not cure.

    ``sqlstate`` is the five-character code, or None where the refusal is our own.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class HistoryMissing(ServerRefused):
    """The server does not have the history file of a timeline that it knows."""


class StorageError(WalstreamError):
    """The file system refused; which of the two it is, says the class. ``path`` names the file."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class ReadError(StorageError):
    """A file or directory cannot be opened, read or looked at."""


class FileDamaged(ReadError):
    """A file can be read, but does not hold all that it should: it was cut, or is damaged.

    The damage is in its compression or archive. WAL that is wrong is a ``WalError``.
    """


class WriteError(StorageError):
    """A write, fsync, rename or removal failed. A failed fsync is never tried again."""


class NoSpace(WriteError):
    """The disk or quota is full; the same write may succeed later."""


class StoreError(WalstreamError):
    """A directory is not a store, is locked, or belongs to another cluster.

    ``path`` is the directory or the file in it, None where two servers differ.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class WrongCluster(StoreError):
    """WAL, a store or a server belongs to another cluster (system identifier differs)."""


class BackupDamaged(StoreError):
    """A file of a base backup differs from what its manifest says. ``path`` names the file."""

    def __init__(self, message: str, path: str, expected: str, got: str) -> None:
        super().__init__(message)
        self.path = path
        self.expected = expected
        self.got = got


class ConfigError(WalstreamError):
    """An option, an argument or a file of settings cannot be used.

    ``path`` is the file where it stands, None where it was given otherwise.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class RedoError(WalstreamError):
    """A page could not be rebuilt."""


class RedoProcessDied(RedoError):
    """The redo child ended, or was poisoned, while the request was in flight.

    ``cause`` is one word of ``redo.death.CAUSES``. ``suspect``: the child may have died of this
    very request; false for one that only waited behind it. ``dump`` is the file that holds the
    input that was in flight, if one was written.
    """

    def __init__(
        self, message: str, *, cause: str = "", suspect: bool = False, dump: str | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.suspect = suspect
        self.dump = dump


class RedoTimeout(RedoError):
    """The request did not reach the redo child before its deadline: the queue was too long."""


class RedoQuarantined(RedoError):
    """The request killed more than one redo child; it is not tried again.

    ``dump`` is the file that holds the request, for ``walstream redo replay``.
    """

    def __init__(self, message: str, *, dump: str | None = None) -> None:
        super().__init__(message)
        self.dump = dump


class UnsupportedRecord(RedoError):
    """The record cannot be redone (custom resource manager, unknown operation)."""


class WrongResult(RedoError):
    """What the redo child answered is not the page that was asked for."""


class SandboxError(RedoError):
    """A wall of the sandbox could not be built, or did not hold when it was tried."""


class PageError(WalstreamError):
    """``get_page`` cannot answer."""


class PageNotFound(PageError):
    """The block does not exist at that LSN."""


class LsnNotAvailable(PageError):
    """The LSN is before the store begins, or has not been reached yet."""


class PageDamaged(PageError):
    """The page that redo would start from differs from what the base backup brought.

    ``tag`` is the block (``wal.model.BufferTag``), ``path`` the file.
    """

    def __init__(self, message: str, tag: tuple[int, ...] = (), path: str | None = None) -> None:
        super().__init__(message)
        self.tag = tag
        self.path = path


class NoBaseImage(PageError):
    """No base page, page image or initialising record to start redo from."""


class RowsError(WalstreamError):
    """Rows of a table cannot be told."""


class NameNotFound(RowsError):
    """No database, table or column of that name at that moment, or more than one."""


class NoRows(RowsError):
    """The relation has no rows that could be read: a view, or one that WAL does not tell."""


class InvalidFilter(RowsError):
    """A filter is not one that can be understood."""


class RowDamaged(RowsError):
    """Bytes of a heap page, a tuple or a value are not what PostgreSQL writes."""


class LocalServerError(WalstreamError):
    """A PostgreSQL that walstream starts itself cannot be found, copied or started."""


class MountError(WalstreamError):
    """A file system cannot be mounted: no FUSE, no permission, or the place is in use."""
