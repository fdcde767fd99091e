"""What the application is told: frozen values, made from arguments by ``cli/``; and TOML files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from walstream.errors import ConfigError, ReadError
from walstream.toml import parse_toml
from walstream.wal.model import parse_lsn

DEFAULT_SLOT = "walstream"


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """What of a store is to be kept; at most one of the first three is given.

    ``keep_window_s``: every moment of so many seconds. ``keep_from_lsn``: every moment from there
    on. ``keep_size``: as many as bases and WAL of so many bytes give. ``daily``, ``weekly``,
    ``monthly``: single base backups beyond. ``grace_s``: how long what was taken away can be taken
    back. ``every_s``: how often ``run`` looks.
    """

    keep_window_s: float | None = None
    keep_from_lsn: int | None = None
    keep_size: int | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    grace_s: float = 86400.0
    every_s: float = 3600.0

    @property
    def given(self) -> bool:
        """Whether anything says what is to be kept."""
        return (self.keep_window_s, self.keep_from_lsn, self.keep_size) != (None, None, None)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What ``walstream run`` was asked to do.

    ``slot`` None streams without a slot: the server may then remove WAL that was not received.
    ``synchronous`` flushes whenever no more input waits, as a synchronous standby must.
    ``receive_timeout_s``: a server silent for that long is left; 0 waits for ever.
    ``show_progress`` keeps a line on standard error.
    ``group_access`` makes a new store readable by its group even where the server's is not.
    ``metrics`` (HOST:PORT) serves Prometheus metrics. ``retention`` None keeps everything.
    """

    conninfo: str
    store: Path
    slot: str | None = DEFAULT_SLOT
    status_interval_s: float = 10.0
    receive_timeout_s: float = 60.0
    synchronous: bool = False
    loop: bool = True
    sandbox: bool = True
    show_progress: bool = False
    metrics: str | None = None
    group_access: bool = False
    retention: RetentionConfig | None = None


@dataclass(frozen=True, slots=True)
class ReceiveConfig:
    """What ``walstream receive`` was asked to do; what ``RunConfig`` has too means the same.

    ``directory`` is a plain one, or a store. ``end_lsn``: stop when WAL up to there is on disk.
    ``sync`` False never waits for the disk: nothing counts as flushed.
    ``compression``: ``none`` or ``METHOD[:LEVEL]``. ``verify`` None: the best that is quick enough.
    ``status_file`` None: that of the store, none for a plain directory.
    ``reread`` returns the connection string anew, on SIGHUP; it blocks and is called in a thread.
    """

    conninfo: str
    directory: Path
    slot: str | None = None
    end_lsn: int | None = None
    status_interval_s: float = 10.0
    receive_timeout_s: float = 60.0
    synchronous: bool = False
    sync: bool = True
    loop: bool = True
    compression: str = "none"
    verify: Literal["off", "headers", "records"] | None = None
    status_file: Path | None = None
    show_progress: bool = False
    reread: Callable[[], str] | None = None


def read_conninfo(path: Path) -> str:
    """Returns the connection string of a file of settings, empty where it has none. Blocks.

    Raises:
        ConfigError: it is not TOML, or ``conninfo`` is no text.
        ReadError: it cannot be read.
    """
    found = _read_table(path).get("conninfo", "")
    if not isinstance(found, str):
        raise ConfigError(f"{path}: conninfo: expected a string, got {found!r}", str(path))
    return found


def _read_table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ReadError(f"cannot read {path}: {exc.strerror}", str(path)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: {exc}", str(path)) from exc
    return parse_toml(text, path)


_UNITS_OF_TIME = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_UNITS_OF_SIZE = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def parse_duration(text: str) -> float:
    """Returns the seconds that ``7d``, ``36h``, ``90min``, ``30s`` or ``2w`` say.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*(s|min|h|d|w)\s*", text)
    if found is None:
        raise ValueError(f"expected a length of time such as 7d, 36h, 90min or 2w, got {text!r}")
    return float(int(found[1]) * _UNITS_OF_TIME[found[2]])


def parse_size(text: str) -> int:
    """Returns the bytes that ``100GB`` says, in PostgreSQL's units (powers of 1024).

    Raises:
        ValueError: it is no size.
    """
    found = re.fullmatch(r"\s*([0-9]{1,15})\s*(B|kB|MB|GB|TB)\s*", text)
    if found is None:
        raise ValueError(f"expected a size such as 100GB or 500MB, got {text!r}")
    return int(found[1]) * _UNITS_OF_SIZE[found[2]]


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a number, 0 or more, got {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


# What [retention] may say: the key, the field, and what reads its value.
_RETENTION: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "keep_window": ("keep_window_s", lambda value: parse_duration(_text(value))),
    "keep_from": ("keep_from_lsn", lambda value: parse_lsn(_text(value))),
    "keep_size": ("keep_size", lambda value: parse_size(_text(value))),
    "keep_daily": ("daily", _count),
    "keep_weekly": ("weekly", _count),
    "keep_monthly": ("monthly", _count),
    "grace": ("grace_s", lambda value: parse_duration(_text(value))),
    "every": ("every_s", lambda value: parse_duration(_text(value))),
}


def read_retention(path: Path) -> RetentionConfig | None:
    """Returns the table ``[retention]`` of a file of settings, None where it has none. Blocks.

    Raises:
        ConfigError: it is not TOML, or a setting is not known or makes no sense.
        ReadError: it cannot be read.
    """
    table = _read_table(path).get("retention")
    if table is None:
        return None
    where = f"{path}: retention"
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table [retention]", str(path))
    found = {}
    for key, value in table.items():
        if key not in _RETENTION:
            known = ", ".join(_RETENTION)
            raise ConfigError(f"{where}: there is no setting {key}: there are {known}", str(path))
        field, read = _RETENTION[key]
        try:
            found[field] = read(value)
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"{where}.{key}: {exc}", str(path)) from exc
    return check_retention(RetentionConfig(**found), where)


def check_retention(config: RetentionConfig, where: str) -> RetentionConfig:
    """Returns settings of retention that agree with one another; ``where`` they stand is told.

    Raises:
        ConfigError: nothing says what is to be kept, or two things do.
    """
    told = (config.keep_window_s, config.keep_from_lsn, config.keep_size)
    given = [name for name, value in zip(_WINDOWS, told, strict=True) if value is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise ConfigError(f"{where}: expected one of {', '.join(_WINDOWS)}, got {got}")
    if config.every_s < 1:
        raise ConfigError(f"{where}: every: expected at least 1s")
    return config


_WINDOWS = ("keep_window", "keep_from", "keep_size")
