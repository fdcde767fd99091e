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

from walstream.errors import ProtocolError, RecordError, RedoError, RedoProtocolError
from walstream.redo import sandbox
from walstream.redo.protocol import MAX_MESSAGE, encode_error
from walstream.redo.rules.messages import GET
from walstream.wal.versions import VERSIONS

PREFIX = "walstream-redo: "
STATE_PREFIX = PREFIX + "sandbox "
READ_SIZE = 1 << 20
RENEW_EVERY = 64


class EngineLike(Protocol):
    """What the child asks of an engine (``rules/engine.py``)."""

    replies: bytearray

    @property
    def consumed(self) -> int:
        """After an error: where the message that failed starts."""

    def process(self, buffer: memoryview, length: int, /) -> int:
        """Handles whole messages in ``buffer[:length]``, returns how many bytes they had."""


class Child:
    """Answers the requests that come on ``stdin``, with the pages that ``engine`` rebuilds.

    With ``error_frames``, a request that cannot be redone is answered with an error frame; without
    it ends the child. With ``cpu_seconds``, the CPU limit is moved on every few batches.
    """

    def __init__(
        self,
        engine: EngineLike,
        stdin: int = 0,
        stdout: int = 1,
        *,
        error_frames: bool = False,
        cpu_seconds: int = 0,
    ) -> None:
        self._engine = engine
        self._stdin = stdin
        self._stdout = stdout
        self._error_frames = error_frames
        self._cpu_seconds = cpu_seconds
        self._buffer = bytearray(READ_SIZE)
        self._failure = ""

    def serve(self) -> None:
        """Answers requests until stdin ends.

        Raises:
            RedoProtocolError: stdin ends inside a message, or a message is malformed.
            RedoError, RecordError: a request cannot be redone; the replies before it are written.
        """
        length = batches = 0
        while True:
            with memoryview(self._buffer) as view, view[length:] as room:
                count = os.readv(self._stdin, [room])
            if count == 0:
                if length:
                    raise RedoProtocolError(f"stdin ended {length} bytes into a message")
                return
            length += count
            consumed = self._answer(length)
            length -= consumed
            if length:
                self._keep_rest(consumed, length)
            elif len(self._buffer) > READ_SIZE:
                self._buffer = bytearray(READ_SIZE)
            batches += 1
            if self._cpu_seconds and batches % RENEW_EVERY == 0:
                sandbox.renew_cpu_limit(self._cpu_seconds)

    def _answer(self, length: int) -> int:
        """Answers all whole messages in the buffer; returns how many bytes they had."""
        engine = self._engine
        at = 0
        with memoryview(self._buffer) as view:
            while length - at >= 5:
                try:
                    if self._failure:
                        consumed = self._skip(at, length)
                    else:
                        with view[at:length] as piece:
                            consumed = engine.process(piece, length - at)
                except (RedoError, RecordError) as exc:
                    if not self._error_frames:
                        raise
                    self._failure = f"{type(exc).__name__}: {exc}"
                    consumed = engine.consumed + self._skip(at + engine.consumed, length)
                finally:
                    write_replies(engine, self._stdout)
                if not consumed:
                    break
                at += consumed
        return at

    def _skip(self, at: int, length: int) -> int:
        """Passes over the rest of a request that failed, as far as it is here; answers its G."""
        begin = at
        while self._failure and length - at >= 5:
            size = int.from_bytes(self._buffer[at + 1 : at + 5], "big")
            if size < 4:
                raise RedoProtocolError(f"message length: expected at least 4, got {size}")
            end = at + 1 + size
            if end > length:
                break
            if self._buffer[at] == GET:
                self._engine.replies += encode_error(self._failure)
                self._failure = ""
            at = end
        return at - begin

    def _keep_rest(self, consumed: int, length: int) -> None:
        """Moves an unfinished message to the front of a buffer that has room for all of it."""
        buffer = self._buffer
        if consumed:
            buffer[:length] = buffer[consumed : consumed + length]
        if length >= 5:
            message = int.from_bytes(buffer[1:5], "big")
            if not 4 <= message < MAX_MESSAGE:
                raise RedoProtocolError(
                    f"message length: expected 4 to {MAX_MESSAGE - 1}, got {message}"
                )
            if message + 1 > len(buffer):
                self._buffer = bytearray(message + 1)
                self._buffer[:length] = buffer[:length]


def write_replies(engine: EngineLike, stdout: int) -> None:
    """Writes all replies that the engine holds, and forgets them."""
    replies = engine.replies
    if not replies:
        return
    written = os.write(stdout, replies)
    while written < len(replies):
        with memoryview(replies) as view, view[written:] as rest:
            written += os.write(stdout, rest)
    # Not clear(): a bytearray that was large costs two page faults for each later reply.
    engine.replies = bytearray()


def state_line(state: dict[str, str]) -> str:
    """Returns the line that tells the parent which walls stand."""
    return STATE_PREFIX + " ".join(f"{name}={value}" for name, value in state.items())


def main(arguments: list[str]) -> int:
    """Runs the child; returns its exit status."""
    try:
        options = _options(arguments)
        from walstream.redo.rules.engine import Engine

        if options["--pg-version"] not in VERSIONS:
            raise RedoProtocolError(f"--pg-version: expected one of {VERSIONS}")
        engine: EngineLike = Engine(options["--pg-version"], bool(options["--stamp-hints"]))
        cpu_seconds = options["--cpu-seconds"]
        if options["--no-sandbox"]:
            _say(STATE_PREFIX + "off")
            cpu_seconds = 0
        else:
            state = sandbox.enter(options["--memory-limit"], cpu_seconds)
            _say(state_line(state))
        Child(engine, error_frames=bool(options["--error-frames"]), cpu_seconds=cpu_seconds).serve()
    except (RedoError, RecordError, ProtocolError) as exc:
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
    return options | flags


def _say(line: str) -> None:
    """Writes one line to stderr, in one piece; a stderr that is gone is no reason to fail."""
    with suppress(OSError):
        os.write(2, line.replace("\n", " ").encode("utf-8", "replace")[:4000] + b"\n")


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
