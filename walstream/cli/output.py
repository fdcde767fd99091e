"""Standard output and standard error of a command: what may go wrong there, and what is said."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

from walstream.cli.exit_codes import FAILED, STORAGE

# What writing to standard output may fail with.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF, errno.EPIPE)


def say(line: str) -> None:
    """Writes a line to standard error.

    Raises:
        OSError: it cannot be written.
    """
    stream: TextIO | None = sys.stderr  # None: it was closed before we began
    if stream is not None:
        print(line, file=stream, flush=True)


def flush_output() -> None:
    """Writes out what is buffered, so that a failure is ours to tell."""
    output: TextIO | None = sys.stdout  # None: it was closed before we began
    if output is not None:
        output.flush()


def output_failed(error: OSError) -> int:
    """Says that the output cannot be written, and keeps Python from trying again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        # Whoever read it has seen enough.
        return FAILED
    say(f"walstream: error: could not write the output: {error.strerror}")
    return STORAGE
