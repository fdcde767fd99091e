"""What the application is told: frozen values, made from arguments by ``cli/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
