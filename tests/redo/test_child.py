from __future__ import annotations

import os
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.redo.children.speaker import EchoEngine, echo_page
from tests.redo.faults import ENVIRONMENT, request
from walstream.errors import RedoProtocolError
from walstream.redo import child
from walstream.redo.child import Child, write_replies
from walstream.redo.protocol import (
    MAX_MESSAGE,
    PING,
    PING_REPLY,
    decode_error,
    encode_request,
)
from walstream.redo.rules.engine import Engine

DATA = Path(__file__).parent.parent / "data"
SHORT = (DATA / "neon_short_pg15.request").read_bytes()
SHORT_PAGE = (DATA / "neon_short_pg15.page").read_bytes()
MEDIUM = (DATA / "neon_medium_pg15.request").read_bytes()


def run(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "walstream.redo.child", *arguments]
    return subprocess.run(command, input=data, env=ENVIRONMENT, capture_output=True, check=False)


PLAIN = ("--wal-redo", "--pg-version", "15")


@pytest.mark.parametrize("arguments", [(), ("--no-sandbox",), ("--tenant-shard-id", "x")])
def test_the_child_rebuilds_the_page_of_neons_benchmark(arguments: tuple[str, ...]) -> None:
    result = run(PING + SHORT + PING + SHORT, *PLAIN, *arguments)
    assert result.returncode == 0
    assert result.stdout == (PING_REPLY + SHORT_PAGE) * 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("walstream-redo: sandbox ")


# The rmgr id of the second record; the first restores an image, whatever its rmgr.
UNKNOWN_RMGR = SHORT[:939] + b"\xc8" + SHORT[940:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SHORT[:-1], "RedoProtocolError: stdin ended 21 bytes into a message"),
        (b"X\0\0\0\4", "unknown message type 0x58"),
        (b"A" + struct.pack(">I", MAX_MESSAGE), f"expected 4 to {MAX_MESSAGE - 1}, got"),
        (b"H\0\0\0\5.", "ping length: expected 4, got 5"),
        (SHORT[-22:], "without BeginRedoForBlock"),
        (UNKNOWN_RMGR, "UnsupportedRecord"),
        (SHORT[:22] + SHORT[-22:], "neither a base page nor a record that initialises it"),
    ],
)
def test_errors_are_one_line_and_exit_1_after_the_pages_before(data: bytes, words: str) -> None:
    result = run(SHORT + data, *PLAIN, "--no-sandbox")
    assert result.returncode == 1
    assert result.stdout == SHORT_PAGE
    state, line = result.stderr.decode().splitlines()
    assert state == "walstream-redo: sandbox off"
    assert line.startswith("walstream-redo: ")
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected --wal-redo as the first argument"),
        (("--pg-version", "15", "--wal-redo"), "expected --wal-redo as the first argument"),
        (("--wal-redo",), "--pg-version: expected one of"),
        (("--wal-redo", "--pg-version", "13"), "--pg-version: expected one of"),
        (("--wal-redo", "--pg-version", "new"), "--pg-version: expected a number, got 'new'"),
        (("--wal-redo", "--bogus"), "unknown argument '--bogus'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    result = run(b"", *arguments)
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert words in line


def test_a_record_that_needs_too_much_memory_is_one_line() -> None:
    big = b"A" + struct.pack(">IQ", 12 + (100 << 20), 8) + bytes(1)
    result = run(SHORT[:22] + big, *PLAIN, "--memory-limit", str(100 << 20))
    assert result.returncode == 1
    assert b"out of memory" in result.stderr


def test_start_up_imports_nothing_heavy() -> None:
    code = (
        "import sys; import walstream.redo.child, walstream.redo.rules.engine;"
        "print(*{'trio', 'psycopg', 'logging', 'argparse', 'asyncio', 'crc32c',"
        " 'subprocess', 'socket', 'walstream.rmgr.op'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], env=ENVIRONMENT, capture_output=True, check=True
    )
    assert result.stdout.split() == []


class Pieces:
    """Stands for the pipes: readv gives one piece after the other, write keeps what comes."""

    def __init__(self, pieces: list[bytes], write_size: int) -> None:
        self.pieces = pieces
        self.write_size = write_size
        self.written = bytearray()

    def readv(self, fd: int, buffers: list[memoryview]) -> int:
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        count = min(len(piece), len(buffers[0]))
        buffers[0][:count] = piece[:count]
        if count < len(piece):
            self.pieces.insert(0, piece[count:])
        return count

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        count = min(len(data), self.write_size)
        self.written += bytes(data[:count])
        return count


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[begin:end] for begin, end in pairwise(bounds)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 2**20), max_size=12),
    st.sampled_from([99, 1000, 8192, 1 << 20]),
    st.sampled_from([64, 1 << 20]),
)
def test_any_cut_of_the_input_gives_the_same_replies(
    monkeypatch: pytest.MonkeyPatch, places: list[int], write_size: int, read_size: int
) -> None:
    monkeypatch.setattr(child, "READ_SIZE", read_size)
    pipes = Pieces(cut(SHORT + UNKNOWN_RMGR + PING + MEDIUM + SHORT, places), write_size)
    monkeypatch.setattr(os, "readv", pipes.readv)
    monkeypatch.setattr(os, "write", pipes.write)
    try:
        Child(Engine(15, False), error_frames=True).serve()
    finally:
        monkeypatch.undo()
    replies = [bytes(pipes.written[at : at + 8192]) for at in range(0, len(pipes.written), 8192)]
    assert [decode_error(reply) is not None for reply in replies] == [False, True] + [False] * 3
    assert replies[0] == replies[4] == SHORT_PAGE
    assert "UnsupportedRecord" in (decode_error(replies[1]) or "")
    assert replies[2] == PING_REPLY
    assert replies[3][:8] == struct.pack("<II", 0, 0x16B8000)


def test_a_flood_of_pings_is_answered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pipes = Pieces([PING * 2000], 1 << 20)
    sizes = []

    def write(fd: int, data: bytearray) -> int:
        sizes.append(len(data))
        return len(data)

    monkeypatch.setattr(os, "readv", pipes.readv)
    monkeypatch.setattr(os, "write", write)
    Child(Engine(15, False)).serve()
    monkeypatch.undo()
    assert sum(sizes) == 2000 * 8192
    assert max(sizes) == 512 * 1024


def test_a_broken_message_inside_a_failed_request_ends_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipes = Pieces([UNKNOWN_RMGR[:1110], b"A\0\0\0\0" + SHORT], 1 << 20)
    monkeypatch.setattr(os, "readv", pipes.readv)
    with pytest.raises(RedoProtocolError, match="message length: expected at least 4, got 0"):
        Child(Engine(15, False), error_frames=True).serve()
    monkeypatch.undo()


def test_replies_are_written_whole() -> None:
    reader, writer = os.pipe()
    engine = EchoEngine()
    wanted = request(1)
    engine.process(memoryview(encode_request(wanted)), len(encode_request(wanted)))
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb"):
        write_replies(engine, writer)
        write_replies(engine, writer)
        assert file.read(8192) == echo_page(wanted)
    assert engine.replies == b""
