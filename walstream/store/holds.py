"""Holds: moments that stay whatever the retention says, until a time, for a stated reason.

A hold is ``STORE/holds/NAME.toml``, written durably. What was asked for was looked up when it was
made. It keeps a base backup that those moments start from, and WAL from what that needs to their
end.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from walstream.errors import ConfigError, StoreError
from walstream.segments.files import read_error
from walstream.store.file_layer import FileLayer, file_mode_below, storage_error, write_durably
from walstream.toml import parse_toml
from walstream.wal.model import format_lsn, parse_lsn

HOLDS = "holds"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class Hold(NamedTuple):
    """Moments ``[from_lsn, to_lsn]`` that stay until ``until``; ``asked``: in whose words."""

    name: str
    from_lsn: int
    to_lsn: int
    until: datetime
    reason: str
    asked: str
    made_at: datetime

    def expired(self, now: datetime) -> bool:
        """Returns whether it holds no longer."""
        return now >= self.until


def check_hold_name(name: str) -> str:
    """Returns the name of a hold.

    Raises:
        ConfigError: it cannot be one.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"a hold cannot be called {name!r}: up to 64 letters, digits, dots, _ and -"
        )
    return name


def write_hold(store: Path, hold: Hold) -> None:
    """Keeps a hold, durably.

    Raises:
        StoreError: there is one of that name.
        StorageError: it cannot be written.
    """
    directory = store / HOLDS
    path = directory / f"{hold.name}.toml"
    mode = file_mode_below(store)
    try:
        directory.mkdir(mode=0o750 if mode & 0o040 else 0o700, exist_ok=True)
        if path.exists():
            raise StoreError(
                f"there is a hold {hold.name!r} already: release it, or choose a name", str(path)
            )
        FileLayer().fsync_directory(store)
    except OSError as exc:
        raise storage_error("write", path, exc) from exc
    # A JSON string is a TOML one.
    text = (
        f'from_lsn = "{format_lsn(hold.from_lsn)}"\n'
        f'to_lsn = "{format_lsn(hold.to_lsn)}"\n'
        f"until = {hold.until.isoformat()}\n"
        f"made_at = {hold.made_at.isoformat()}\n"
        f"asked = {json.dumps(hold.asked)}\n"
        f"reason = {json.dumps(hold.reason)}\n"
    )
    write_durably(FileLayer(), path, text.encode(), mode)


def list_holds(store: Path) -> list[Hold]:
    """Returns the holds of a store by name, those that expired too.

    Raises:
        StoreError: one of them is malformed.
        StorageError: they cannot be read.
    """
    directory = store / HOLDS
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise read_error("read", directory, exc) from exc
    return [hold for path in paths if (hold := _read(path)) is not None]


def _read(path: Path) -> Hold | None:
    try:
        table = parse_toml(path.read_text(encoding="utf-8"), path)
        return Hold(
            path.stem,
            parse_lsn(table["from_lsn"]),
            parse_lsn(table["to_lsn"]),
            _time(table["until"]),
            str(table["reason"]),
            str(table["asked"]),
            _time(table["made_at"]),
        )
    except FileNotFoundError:
        return None  # released meanwhile
    except (ConfigError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(f"{path}: missing or malformed {exc}", str(path)) from exc
    except OSError as exc:
        raise read_error("read", path, exc) from exc


def _time(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"time: expected one with its zone, got {value!r}")
    return value.astimezone(UTC)


def release_hold(store: Path, name: str) -> None:
    """Takes a hold away, durably.

    Raises:
        StoreError: there is none of that name.
        StorageError: it cannot be removed.
    """
    path = store / HOLDS / f"{check_hold_name(name)}.toml"
    if not path.exists():
        known = ", ".join(hold.name for hold in list_holds(store)) or "none"
        raise StoreError(f"there is no hold {name!r}: there are {known}", str(path))
    layer = FileLayer()
    try:
        layer.unlink(path)
        layer.fsync_directory(path.parent)
    except OSError as exc:
        raise storage_error("remove", path, exc) from exc
