"""The redo child: ``python -m walstream.redo.child --wal-redo --pg-version N``.

Reads requests of the redo protocol (``protocol.py``) from stdin in large pieces, has the engine
apply whole messages, and writes the pages of a piece in one go. Stands where Neon's
``postgres --wal-redo`` stands: the end of stdin between two messages ends it with exit status 0;
anything wrong is one line on stderr and exit status 1, after the pages of the requests before it
were written. Options:

--wal-redo            must come first: the mode switch of Neon's binary
--pg-version N        the major version whose WAL this is
--stamp-hints         the cluster has checksums or wal_log_hints
--error-frames        answer a request that cannot be redone with an error frame, and go on
--no-sandbox          start without the sandbox
--cpu-seconds N       CPU time that may pass without an answer
--memory-limit N      bytes of address space
--tenant-shard-id X   ignored, as it is by Neon's binary

Start-up time counts here: neither trio, psycopg, argparse nor logging is imported.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Protocol

from walstream.errors import ProtocolError, RedoError, RedoProtocolError, WalError
from walstream.redo import sandbox
from walstream.redo.protocol import MAX_MESSAGE

PREFIX = "walstream-redo: "
STATE_PREFIX = PREFIX + "sandbox "
READ_SIZE = 1 << 20
_RENEW_EVERY = 64


class EngineLike(Protocol):
    """What the child asks of an engine (``rules/engine.py``)."""

    replies: bytearray

    def process(self, buffer: bytearray, length: int, /) -> int:
        """Handles the whole messages in ``buffer[:length]``, returns how many bytes they had."""


def serve(engine: EngineLike, stdin: int = 0, stdout: int = 1, *, cpu_seconds: int = 0) -> None:
    """Answers requests until stdin ends.

    With ``cpu_seconds``, the CPU limit is moved on every few batches.

    Raises:
        RedoProtocolError: stdin ends inside a message, or a message has an impossible length.
        RedoError, WalError: a request cannot be redone; the replies before it are written.
    """
    buffer = bytearray(READ_SIZE)
    length = batches = 0
    while True:
        with memoryview(buffer) as view, view[length:] as room:
            count = os.readv(stdin, [room])
        if count == 0:
            if length:
                raise RedoProtocolError(f"stdin ended inside a message, after {length} bytes of it")
            return
        length += count
        try:
            consumed = engine.process(buffer, length)
        finally:
            write_replies(engine, stdout)
        length -= consumed
        if length:
            buffer = _keep_rest(buffer, consumed, length)
        elif len(buffer) > READ_SIZE:
            buffer = bytearray(READ_SIZE)
        batches += 1
        if cpu_seconds and batches % _RENEW_EVERY == 0:
            sandbox.renew_cpu_limit(cpu_seconds)


def write_replies(engine: EngineLike, stdout: int) -> None:
    """Writes all replies that the engine holds, and forgets them."""
    replies = engine.replies
    if not replies:
        return
    written = os.write(stdout, replies)
    while written < len(replies):
        with memoryview(replies) as view, view[written:] as rest:
            written += os.write(stdout, rest)
    replies.clear()


def _keep_rest(buffer: bytearray, consumed: int, length: int) -> bytearray:
    """Moves an unfinished message to the front of a buffer that has room for all of it."""
    rest = buffer[consumed : consumed + length]
    if length >= 5:
        message = int.from_bytes(rest[1:5], "big")
        if not 4 <= message < MAX_MESSAGE:
            raise RedoProtocolError(
                f"message length: expected 4 to {MAX_MESSAGE - 1}, got {message}"
            )
        if message + 1 > len(buffer):
            buffer = bytearray(message + 1)
    buffer[:length] = rest
    return buffer


def state_line(state: dict[str, str]) -> str:
    """Returns the line that tells the parent which walls stand."""
    return STATE_PREFIX + " ".join(f"{name}={value}" for name, value in state.items())


def main(arguments: list[str]) -> int:
    """Runs the child; returns its exit status."""
    try:
        options = _options(arguments)
        from walstream.redo.rules.engine import Engine

        engine: EngineLike = Engine(options["--pg-version"], bool(options["--stamp-hints"]))
        cpu_seconds = options["--cpu-seconds"]
        if options["--no-sandbox"]:
            _say(STATE_PREFIX + "off")
            cpu_seconds = 0
        else:
            state = sandbox.enter(options["--memory-limit"], cpu_seconds)
            _say(state_line(state))
        serve(engine, cpu_seconds=cpu_seconds)
    except (RedoError, WalError, ProtocolError, sandbox.SandboxError) as exc:
        _say(f"{PREFIX}{type(exc).__name__}: {exc}")
    except MemoryError:
        _say(PREFIX + "out of memory: the request needs more than the address space limit")
    except BrokenPipeError:
        _say(PREFIX + "stdout was closed")
    except OSError as exc:
        _say(f"{PREFIX}{exc.strerror}")
    else:
        return 0
    return 1


def _options(arguments: list[str]) -> dict[str, int]:
    options = {
        "--pg-version": 0,
        "--cpu-seconds": sandbox.CPU_SECONDS,
        "--memory-limit": sandbox.MEMORY_LIMIT,
    }
    flags = {"--stamp-hints": 0, "--error-frames": 0, "--no-sandbox": 0}
    if arguments[:1] != ["--wal-redo"]:
        raise RedoProtocolError("expected --wal-redo as the first argument")
    words = iter(arguments[1:])
    for word in words:
        if word in flags:
            flags[word] = 1
        elif word in options or word == "--tenant-shard-id":
            value = next(words, "")
            if word in options:
                if not value.isdigit():
                    raise RedoProtocolError(f"{word}: expected a number, got {value!r}")
                options[word] = int(value)
        else:
            raise RedoProtocolError(f"unknown argument {word!r}")
    if not options["--pg-version"]:
        raise RedoProtocolError("--pg-version is missing")
    return options | flags


def _say(line: str) -> None:
    """Writes one line to stderr, in one piece; a stderr that is gone is no reason to fail."""
    with suppress(OSError):
        os.write(2, line.replace("\n", " ").encode("utf-8", "replace")[:4000] + b"\n")


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
