"""Ends ``walstream restore-wal`` with the exit codes that PostgreSQL needs of a restore_command.

RestoreArchivedFile takes 1 to 125 for "the archive does not have it": recovery ends and the server
is promoted. Above 125, and by a signal, recovery stops with an error. So 1 is said only of a file
that is not there; everything else, a broken installation too, is 200 and more. Imports nothing
that could be missing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

NAME = "restore-wal"
NOT_THERE = 1
ABOVE = 200
_FAILED = 1
_SEGMENT_MISSING = 12


def is_restore_command() -> bool:
    """Returns whether this process was started as ``walstream restore-wal``."""
    return sys.argv[1:2] == [NAME]


def restore_exit_code(code: object) -> int:
    """Returns what an exit code of the other commands becomes (docs/reference/exit-codes.md)."""
    if code in (None, 0):
        return 0
    if code == _SEGMENT_MISSING:
        return NOT_THERE
    return ABOVE + (code if isinstance(code, int) and 0 < code < 56 else _FAILED)


def run_as_restore_command(run: Callable[[], None]) -> NoReturn:
    """Calls ``run`` and ends the process, whatever happens in it."""
    # Python would make an exit code of it; killed by the signal is what PostgreSQL understands.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = restore_exit_code(_FAILED)
    try:
        run()
        code = 0
    except SystemExit as end:
        code = restore_exit_code(end.code)
    except BaseException:  # noqa: ASYNC103 (nothing runs on: the process ends here)
        # A failed import too: Python would end with 1, and the server would be promoted.
        with contextlib.suppress(BaseException):
            import traceback  # not for every start

            traceback.print_exc()
    # Past this point nothing, such as a closed standard output, may change the code.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)
