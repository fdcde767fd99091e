"""How a receiver is at one moment: a value, and the table that stands for it in JSON.

Knows no files and imports no Trio: commands that must start fast read it too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from walstream.wal.model import format_lsn, parse_lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """A receiver, its writer, and what comes behind them, at one moment.

    LSNs are 0 where they are not known. Names in ``_seconds`` are lengths of time, in ``_at``
    seconds since 1970.

    ``retained_bytes``: how much WAL the server keeps for our slot; None: no slot, or not known yet.
    ``indexed_lsn`` and ``redo_children``: None where there is no index (``walstream receive``).
    ``retention``: what the last look at what may go found, in words; None where all is kept.
    """

    updated_at: float
    phase: str
    server: str = ""
    sessions: int = 0
    timeline: int = 0
    server_end_lsn: int = 0
    received_lsn: int = 0
    written_lsn: int = 0
    flushed_lsn: int = 0
    lag_bytes: int = 0
    lag_seconds: float = 0.0
    bytes_per_second: int = 0
    retained_bytes: int | None = None
    slot_restart_lsn: int = 0
    fsyncs: int = 0
    last_fsync_seconds: float = 0.0
    slowest_fsync_seconds: float = 0.0
    waiting_for_space: str | None = None
    holes: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    last_error: str | None = None
    last_error_at: float | None = None
    indexed_lsn: int | None = None
    redo_children: tuple[str, ...] | None = None
    retention: str | None = None


# Left out of the table where they are None: they belong to an index.
OF_AN_INDEX = ("indexed_lsn", "redo_children", "retention")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "tuple[str, ...]": (list, tuple),
    "None": type(None),
}


def to_table(status: ReceiverStatus) -> dict[str, object]:
    """Returns what JSON holds: every field by its name, LSNs as text (``0/16B3748``)."""
    table: dict[str, object] = {}
    for field in fields(status):
        value = getattr(status, field.name)
        if field.name in OF_AN_INDEX and value is None:
            continue
        table[field.name] = format_lsn(value) if field.name.endswith("_lsn") else value
    return table


def from_table(table: object) -> ReceiverStatus | None:
    """Returns the status that a table stands for; None where it is not one.

    Of another release there may be fewer names, which then have their defaults, or more.
    """
    if not isinstance(table, dict):
        return None
    found: dict[str, Any] = {}
    try:
        for field in fields(ReceiverStatus):
            if field.name in table:
                found[field.name] = _value(field.name, str(field.type), table[field.name])
        return ReceiverStatus(**found)
    except (TypeError, ValueError):
        return None


def _value(name: str, kind: str, value: object) -> object:
    if name.endswith("_lsn") and isinstance(value, str):
        value = parse_lsn(value)
    expected = [_TYPES[word] for word in kind.split(" | ")]
    if not any(isinstance(value, type_) for type_ in expected) or isinstance(value, bool):
        raise TypeError(name)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value
