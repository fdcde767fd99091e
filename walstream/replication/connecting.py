"""One address, until it takes commands or says why not: libpq's connection, driven by Trio.

libpq keeps the SQLSTATE of a failed connection to itself, except in the text of a verbose message.
So messages are verbose while it connects, and what is verbose about them is taken out again.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import trio
from psycopg import pq

from walstream.errors import ConnectionLost, ServerRefused, WalstreamError
from walstream.replication.addresses import Attempt
from walstream.replication.messages import encode_text
from walstream.replication.refusals import refusal

# PGVerbosity of libpq-fe.h.
_DEFAULT, _VERBOSE = 1, 2
# "FATAL:  28P01: password ..." with the severity in the server's language.
_SQLSTATE = re.compile(r"(?<=:  )([0-9A-Z]{5}): ")
# "LOCATION:  auth_failed, auth.c:339" with the first word in libpq's language.
_LOCATION = re.compile(r"\n[^\n]*:  (?:\w+, )?[\w./-]+\.[cly]:\d+(?=\n|\Z)")


class Failure(NamedTuple):
    """What libpq says of a connection that failed, in one line."""

    text: str
    sqlstate: str | None


def parse_failure(message: str) -> Failure:
    """Returns what a verbose message of libpq says; the last SQLSTATE where there are several."""
    found = _SQLSTATE.findall(message)
    text = _SQLSTATE.sub("", _LOCATION.sub("", message))
    return Failure(" ".join(text.split()), found[-1] if found else None)


@cache
def _verbosity_setter() -> Callable[[int, int], int] | None:
    """Returns PQsetErrorVerbosity of the libpq that psycopg uses; None where it is not found.

    Looked up through psycopg's own library: a handle's symbols include those of what it needs.
    """
    paths = [getattr(sys.modules[pq.PGconn.__module__], "__file__", None)]
    with contextlib.suppress(ImportError):
        from psycopg.pq.misc import find_libpq_full_path

        if pq.__impl__ == "python":
            paths.append(find_libpq_full_path())
    for path in paths:
        with contextlib.suppress(OSError, AttributeError):
            function = ctypes.CDLL(path or "").PQsetErrorVerbosity
            function.argtypes = [ctypes.c_void_p, ctypes.c_int]
            return lambda pgconn, verbosity: int(function(pgconn, verbosity))
    return None


def _set_verbosity(pgconn: pq.abc.PGconn, verbosity: int) -> None:
    setter, pointer = _verbosity_setter(), getattr(pgconn, "pgconn_ptr", None)
    if setter is not None and pointer is not None:
        setter(pointer, verbosity)


async def open_connection(attempt: Attempt) -> pq.abc.PGconn:
    """Returns a non-blocking connection to one address that takes commands.

    Raises:
        ConnectionLost: no connection, for now.
        ServerRefused: the server refuses us until somebody changes something.

    Cancellation: the socket is closed.
    """
    with contextlib.ExitStack() as stack:
        pgconn = pq.PGconn.connect_start(encode_text(attempt.conninfo))
        stack.callback(pgconn.finish)
        _set_verbosity(pgconn, _VERBOSE)
        while pgconn.status != pq.ConnStatus.BAD:
            status = pgconn.connect_poll()
            if status == pq.PollingStatus.OK:
                pgconn.nonblocking = 1
                _set_verbosity(pgconn, _DEFAULT)
                stack.pop_all()
                return pgconn  # noqa: ASYNC910
            if status == pq.PollingStatus.READING:
                await trio.lowlevel.wait_readable(pgconn.socket)
            elif status == pq.PollingStatus.WRITING:
                await trio.lowlevel.wait_writable(pgconn.socket)
            else:
                break
        raise _failure(pgconn)


def _failure(pgconn: pq.abc.PGconn) -> ConnectionLost | ServerRefused:
    text, sqlstate = parse_failure(pgconn.get_error_message())
    if sqlstate is None and pgconn.needs_password:
        return ServerRefused(text, "28P01")  # libpq's own words: none was given
    return refusal(text, sqlstate)


def none_would_do(problems: list[tuple[str, WalstreamError]]) -> WalstreamError:
    """Returns the one error for all addresses that were tried: (name, why not).

    What may pass at one of them may pass: ``ConnectionLost``. Else the first one, which tells of
    the others too.
    """
    told = list(dict.fromkeys(str(error) for _, error in problems))
    lost = [error for _, error in problems if isinstance(error, ConnectionLost)]
    first = lost[0] if lost else problems[0][1]
    if len(told) == 1:
        return first
    text = "; ".join(dict.fromkeys(f"{name}: {error}" for name, error in problems))
    if lost:
        return ConnectionLost(text, lost[0].sqlstate)
    return first.reworded(text)
