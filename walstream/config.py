"""What the application is told: frozen values, made from arguments by ``cli/``; and TOML files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from walstream.errors import ConfigError, ReadError
from walstream.toml import parse_toml

DEFAULT_SLOT = "walstream"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What ``walstream run`` was asked to do.

    ``slot`` None streams without a slot: the server may then remove WAL that was not received.
    ``synchronous`` flushes whenever no more input waits, as a synchronous standby must.
    ``receive_timeout_s``: a server silent for that long is left; 0 waits for ever.
    ``show_progress`` keeps a line on standard error.
    ``group_access`` makes a new store readable by its group even where the server's is not.
    ``metrics`` (HOST:PORT) serves Prometheus metrics.
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
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ReadError(f"cannot read {path}: {exc.strerror}", str(path)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: {exc}", str(path)) from exc
    found = parse_toml(text, path).get("conninfo", "")
    if not isinstance(found, str):
        raise ConfigError(f"{path}: conninfo: expected a string, got {found!r}", str(path))
    return found
