"""The streaming replication protocol's messages and answers, as bytes and rows (pure).

Mirrors walsender.c (what it sends and accepts) and streamutil.c (what it answers to commands).
Integers on the wire are big-endian; times are microseconds since 2000-01-01.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from walstream.errors import ReplicationProtocolError
from walstream.wal.model import format_lsn, parse_lsn

_WAL_DATA = Struct(">cQQq")
_KEEPALIVE = Struct(">cQqB")
_STATUS = Struct(">cQQQqB")

_W = ord("w")
_K = ord("k")


class XLogData(NamedTuple):
    """WAL bytes from ``start_lsn`` on. ``data`` is a view into the message, not a copy."""

    start_lsn: int
    server_end_lsn: int
    send_time_us: int
    data: memoryview


class PrimaryKeepAlive(NamedTuple):
    """The server's sign of life; ``reply_requested``: it wants a status update at once."""

    server_end_lsn: int
    send_time_us: int
    reply_requested: bool


class SystemIdentity(NamedTuple):
    """The row of IDENTIFY_SYSTEM. ``flush_lsn`` is the end of WAL on the server then."""

    system_id: int
    timeline: int
    flush_lsn: int
    database: str | None


class SlotPosition(NamedTuple):
    """The row of READ_REPLICATION_SLOT; ``restart_lsn`` is 0 where no WAL is reserved."""

    slot_type: str
    restart_lsn: int
    restart_timeline: int


class NextTimeline(NamedTuple):
    """The row after the end of a timeline: where the next one goes on."""

    timeline: int
    start_lsn: int


def decode_copy_message(message: bytes | memoryview) -> XLogData | PrimaryKeepAlive:
    """Returns the message that one CopyData holds.

    Raises:
        ReplicationProtocolError: unknown type or a length that is too short.
    """
    view = memoryview(message)
    kind = view[0] if len(view) else -1
    if kind == _W:
        if len(view) < _WAL_DATA.size:
            raise ReplicationProtocolError(
                f"XLogData: expected at least {_WAL_DATA.size} bytes, got {len(view)}"
            )
        _, start, end, sent = _WAL_DATA.unpack_from(view)
        return XLogData(start, end, sent, view[_WAL_DATA.size :])
    if kind == _K:
        if len(view) < _KEEPALIVE.size:
            raise ReplicationProtocolError(
                f"PrimaryKeepAlive: expected {_KEEPALIVE.size} bytes, got {len(view)}"
            )
        _, end, sent, reply = _KEEPALIVE.unpack_from(view)
        return PrimaryKeepAlive(end, sent, reply != 0)
    found = repr(chr(kind)) if kind >= 0 else "an empty message"
    raise ReplicationProtocolError(f"CopyData: expected type 'w' or 'k', got {found}")


def encode_xlog_data(start_lsn: int, server_end_lsn: int, send_time_us: int, data: bytes) -> bytes:
    """Returns an XLogData message; what a server sends, for tests and proxies."""
    return _WAL_DATA.pack(b"w", start_lsn, server_end_lsn, send_time_us) + data


def encode_keepalive(server_end_lsn: int, send_time_us: int, reply_requested: bool) -> bytes:
    """Returns a PrimaryKeepAlive message; what a server sends, for tests and proxies."""
    return _KEEPALIVE.pack(b"k", server_end_lsn, send_time_us, reply_requested)


def encode_status_update(
    written_lsn: int, flushed_lsn: int, applied_lsn: int, now_us: int, reply_requested: bool
) -> bytes:
    """Returns a standby status update.

    Each LSN is the position after the last byte; 0 says nothing. ``flushed_lsn`` is a promise:
    the server may forget everything before it.
    """
    return _STATUS.pack(b"r", written_lsn, flushed_lsn, applied_lsn, now_us, reply_requested)


def decode_status_update(message: bytes) -> tuple[int, int, int, int, bool]:
    """Returns (written, flushed, applied, time, reply requested) of a standby status update.

    Raises:
        ReplicationProtocolError: not such a message.
    """
    if len(message) != _STATUS.size or message[0] != ord("r"):
        raise ReplicationProtocolError("not a standby status update")
    _, written, flushed, applied, now, reply = _STATUS.unpack(message)
    return written, flushed, applied, now, reply != 0


Row = tuple[str | None, ...]


def parse_identify_system(rows: list[Row]) -> SystemIdentity:
    """Returns the answer of IDENTIFY_SYSTEM: system id, timeline, position, database name.

    Raises:
        ReplicationProtocolError: other than one row of at least three usable columns.
    """
    row = _one_row("IDENTIFY_SYSTEM", rows, 3)
    system_id = _number("IDENTIFY_SYSTEM systemid", row[0])
    timeline = _number("IDENTIFY_SYSTEM timeline", row[1])
    if system_id == 0 or timeline == 0:
        raise ReplicationProtocolError(
            f"IDENTIFY_SYSTEM: expected a system id and a timeline, got {row[0]} and {row[1]}"
        )
    database = row[3] if len(row) > 3 else None
    return SystemIdentity(system_id, timeline, _lsn("IDENTIFY_SYSTEM xlogpos", row[2]), database)


def parse_read_replication_slot(rows: list[Row]) -> SlotPosition | None:
    """Returns the answer of READ_REPLICATION_SLOT, or None: no such slot (a row of NULLs).

    Raises:
        ReplicationProtocolError: other than one row of three usable columns.
    """
    row = _one_row("READ_REPLICATION_SLOT", rows, 3)
    if row[0] is None:
        return None
    lsn = _lsn("READ_REPLICATION_SLOT restart_lsn", row[1]) if row[1] is not None else 0
    timeline = _number("READ_REPLICATION_SLOT restart_tli", row[2]) if row[2] is not None else 0
    return SlotPosition(row[0], lsn, timeline)


def parse_next_timeline(rows: list[Row]) -> NextTimeline:
    """Returns the row that follows the end of a timeline.

    Raises:
        ReplicationProtocolError: other than one row of two usable columns.
    """
    row = _one_row("end of timeline", rows, 2)
    return NextTimeline(
        _number("next timeline", row[0]), _lsn("start of the next timeline", row[1])
    )


def parse_backup_position(what: str, rows: list[Row]) -> tuple[int, int]:
    """Returns (LSN, timeline) of BASE_BACKUP's first or last row.

    Raises:
        ReplicationProtocolError: other than one row of two usable columns.
    """
    row = _one_row(what, rows, 2)
    return _lsn(what, row[0]), _number(what, row[1])


def parse_timeline_history(timeline: int, rows: list[Row]) -> bytes:
    """Returns the content of a history file from the answer of TIMELINE_HISTORY, byte for byte.

    Raises:
        ReplicationProtocolError: the file name is another one, or there is no content.
    """
    row = _one_row("TIMELINE_HISTORY", rows, 2)
    expected = f"{timeline:08X}.history"
    if row[0] != expected:
        raise ReplicationProtocolError(f"TIMELINE_HISTORY: expected {expected}, got {row[0]!r}")
    if row[1] is None:
        raise ReplicationProtocolError("TIMELINE_HISTORY: expected the content, got NULL")
    return encode_text(row[1])


def parse_size(what: str, text: str | None) -> int:
    """Returns the bytes of a setting with a unit, such as ``16MB`` or ``1GB``.

    Raises:
        ReplicationProtocolError: not a number with a known unit.
    """
    units = {"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
    digits = (text or "").rstrip("BkMGT")
    unit = (text or "")[len(digits) :]
    if not digits.isascii() or not digits.isdigit() or unit not in units:
        raise ReplicationProtocolError(f"{what}: expected a size such as 16MB, got {text!r}")
    return int(digits) * units[unit]


def decode_text(value: bytes) -> str:
    """Returns what a server sent, as text.

    A server without a database to say the encoding sends the bytes it has. Those that are not UTF-8
    become lone surrogates, and ``encode_text`` gives them back.
    """
    return value.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """Returns the bytes of ``decode_text``, or of an argument of the command line."""
    return text.encode("utf-8", "surrogateescape")


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def start_replication_command(slot: str | None, start_lsn: int, timeline: int) -> str:
    """Returns the START_REPLICATION command for physical WAL."""
    with_slot = f"SLOT {quote_identifier(slot)} " if slot else ""
    return f"START_REPLICATION {with_slot}PHYSICAL {format_lsn(start_lsn)} TIMELINE {timeline}"


def create_slot_command(slot: str, version: int, *, reserve_wal: bool, temporary: bool) -> str:
    """Returns the CREATE_REPLICATION_SLOT command; options in parentheses from server 15 on."""
    words = f"CREATE_REPLICATION_SLOT {quote_identifier(slot)}"
    if temporary:
        words += " TEMPORARY"
    words += " PHYSICAL"
    if reserve_wal:
        words += " (RESERVE_WAL)" if version >= 15 else " RESERVE_WAL"
    return words


def base_backup_command(label: str, version: int, *, checksum: str, fast: bool) -> str:
    """Returns the BASE_BACKUP command; options in parentheses from server 15 on.

    The server does not wait for its own archiver: whoever takes the backup streams the WAL.
    """
    if version >= 15:
        options = [
            f"LABEL {quote_literal(label)}",
            "MANIFEST 'yes'",
            f"MANIFEST_CHECKSUMS '{checksum}'",
            "WAIT false",
            f"CHECKPOINT '{'fast' if fast else 'spread'}'",
        ]
        return f"BASE_BACKUP ({', '.join(options)})"
    words = f"BASE_BACKUP LABEL {quote_literal(label)}"
    if fast:
        words += " FAST"
    return words + f" NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS '{checksum}'"


def _one_row(what: str, rows: list[Row], columns: int) -> Row:
    if len(rows) != 1 or len(rows[0]) < columns:
        found = f"{len(rows)} rows of {len(rows[0]) if rows else 0} columns"
        raise ReplicationProtocolError(
            f"{what}: expected 1 row of {columns} or more columns, got {found}"
        )
    return rows[0]


def _number(what: str, text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit():
        raise ReplicationProtocolError(f"{what}: expected a number, got {text!r}")
    return int(text)


def _lsn(what: str, text: str | None) -> int:
    try:
        return parse_lsn(text or "")
    except ValueError:
        raise ReplicationProtocolError(f"{what}: expected an LSN, got {text!r}") from None
