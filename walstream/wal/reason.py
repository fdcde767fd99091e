"""Why WAL stops being readable: the reasons of xlogreader.c, their words, and their errors.

``walk.py`` finds them, ``damage_error`` makes errors of them. Every message names the field, what
was expected, what was found, and the LSN of the page or record.
"""

from __future__ import annotations

from enum import IntEnum

from walstream.errors import PageHeaderError, RecordError
from walstream.wal.model import format_lsn


class Reason(IntEnum):
    """The first check that failed."""

    # of a page header (XLogReaderValidatePageHeader)
    INVALID_MAGIC = 10
    INVALID_INFO = 11
    NO_LONG_HEADER = 12
    OTHER_SYSTEM = 13
    OTHER_SEGMENT_SIZE = 14
    OTHER_BLOCK_SIZE = 15
    UNEXPECTED_PAGEADDR = 16
    OUT_OF_SEQUENCE_TIMELINE = 17
    # of a record that goes on on this page (XLogDecodeNextRecord)
    UNEXPECTED_CONTRECORD = 18
    NO_CONTRECORD = 19
    INVALID_CONTRECORD_LENGTH = 20
    # of a record header (ValidXLogRecordHeader)
    ZERO_LENGTH = 30
    INVALID_LENGTH = 31
    TOO_LONG = 32
    INVALID_RMGR = 33
    INCORRECT_PREV = 34
    # of a whole record (ValidXLogRecord, VerifyOverwriteContrecord)
    INCORRECT_CHECKSUM = 35
    NO_OVERWRITE_CONTRECORD = 36
    OTHER_OVERWRITTEN = 37
    # of block headers (DecodeXLogRecord)
    INVALID_BLOCKS = 38
    NO_MEMORY = 39


_MESSAGES = {
    Reason.INVALID_MAGIC: "invalid magic number: expected {a:04X}, got {b:04X} in page at {lsn}",
    Reason.INVALID_INFO: (
        "invalid info bits: expected none above 000F, got {b:04X} in page at {lsn}"
    ),
    Reason.NO_LONG_HEADER: (
        "invalid info bits: expected the long header bit 0002 at a segment start, "
        "got {b:04X} in page at {lsn}"
    ),
    Reason.OTHER_SYSTEM: (
        "WAL is from different database system: expected system identifier {a}, "
        "got {b} in page at {lsn}"
    ),
    Reason.OTHER_SEGMENT_SIZE: (
        "WAL is from different database system: expected segment size {a}, got {b} in page at {lsn}"
    ),
    Reason.OTHER_BLOCK_SIZE: (
        "WAL is from different database system: expected XLOG_BLCKSZ {a}, got {b} in page at {lsn}"
    ),
    Reason.UNEXPECTED_PAGEADDR: (
        "unexpected pageaddr: expected {a_lsn}, got {b_lsn} in page at {lsn}"
    ),
    Reason.OUT_OF_SEQUENCE_TIMELINE: (
        "out-of-sequence timeline ID: expected at {bound} {a}, got {b} in page at {lsn}"
    ),
    Reason.UNEXPECTED_CONTRECORD: (
        "contrecord is requested: expected a record to start, got one of which {b} bytes "
        "are missing in page at {lsn}"
    ),
    Reason.NO_CONTRECORD: (
        "there is no contrecord flag: expected the rest of the record at {a_lsn} in page at {lsn}"
    ),
    Reason.INVALID_CONTRECORD_LENGTH: (
        "invalid contrecord length: expected {a}, got {b} in page at {lsn}"
    ),
    Reason.ZERO_LENGTH: "invalid record length: expected at least 24, got 0 in record at {lsn}",
    Reason.INVALID_LENGTH: (
        "invalid record length: expected at least {a}, got {b} in record at {lsn}"
    ),
    Reason.TOO_LONG: "record length too long: expected at most {a}, got {b} in record at {lsn}",
    Reason.INVALID_RMGR: (
        "invalid resource manager ID: expected at most {a} or custom, got {b} in record at {lsn}"
    ),
    Reason.INCORRECT_PREV: (
        "record with incorrect prev-link: expected {expected_prev}, got {b_lsn} in record at {lsn}"
    ),
    Reason.INCORRECT_CHECKSUM: (
        "incorrect resource manager data checksum: expected {a:08X}, got {b:08X} in record at {lsn}"
    ),
    Reason.NO_OVERWRITE_CONTRECORD: (
        "missing overwrite contrecord: expected one for the record at {a_lsn}, "
        "got resource manager {b} in record at {lsn}"
    ),
    Reason.OTHER_OVERWRITTEN: (
        "mismatching overwritten LSN: expected {a_lsn}, got {b_lsn} in record at {lsn}"
    ),
    Reason.NO_MEMORY: "out of memory for {b} bytes of the record at {lsn}",
}


def damage_error(
    reason: Reason, lsn: int, expected: int, got: int, more: str = ""
) -> PageHeaderError | RecordError:
    """Returns the error for a failed check; ``expected`` and ``got`` are as ``walk.py`` has them.

    ``more`` is added to the message. The error's ``reason``, ``expected`` and ``got`` say the same
    to programs.
    """
    prev = format_lsn(expected) if expected else "one before it"
    message = _MESSAGES[reason].format(
        lsn=format_lsn(lsn),
        a=expected,
        b=got,
        a_lsn=format_lsn(expected),
        b_lsn=format_lsn(got),
        expected_prev=prev,
        bound="most" if got > expected else "least",
    )
    kind = PageHeaderError if reason < Reason.ZERO_LENGTH else RecordError
    return kind(message + more, lsn, reason=reason, expected=expected, got=got)


def in_record(error: RecordError, start_lsn: int) -> RecordError:
    """Returns the error with where its record begins, which a reader of bodies does not know."""
    if error.lsn is not None:
        return error
    return RecordError(f"{error} in record at {format_lsn(start_lsn)}", start_lsn)
