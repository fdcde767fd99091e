"""A redo child that answers every request with a page that only this request can have.

Run as ``speaker.py --wal-redo [--sandbox] ...``. A record whose bytes after the 24-byte header
start with ``!`` is a command to fail; see ``COMMANDS``. Other arguments are ignored.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable

from walstream.errors import RedoError
from walstream.redo import child, sandbox
from walstream.redo.protocol import PING_REPLY, RedoRequest, decode_requests


def echo_page(request: RedoRequest) -> bytes:
    """The page that stands for a request: its last LSN, a sane header, and a digest of it all."""
    tag, base_page, records = request
    lsn = records[-1][0] if records else 0
    digest = hashlib.blake2b(repr((tuple(tag), base_page)).encode(), digest_size=32)
    for end_lsn, record in records:
        digest.update(struct.pack(">Q", end_lsn) + record)
    header = struct.pack("<IIHHHHHHI", lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 24, 8192, 8192, 0x2004, 0)
    return (header + digest.digest()).ljust(8192, b"\x5a")


class EchoEngine:
    def __init__(self) -> None:
        self.replies = bytearray()
        self.open = bytearray()
        self.consumed = 0
        self.wrong = False

    def process(self, buffer: memoryview, length: int) -> int:
        at = 0
        while length - at >= 5:
            end = at + 1 + int.from_bytes(buffer[at + 1 : at + 5], "big")
            if end > length:
                break
            if buffer[at] == ord("H"):
                self.replies += PING_REPLY
            else:
                self.open += buffer[at:end]
            if buffer[at] == ord("G"):
                (request,) = decode_requests(bytes(self.open))
                self.open.clear()
                assert request is not None
                self.answer(request)
            at = end
        return at

    def answer(self, request: RedoRequest) -> None:
        for _, record in request.records:
            name, _, argument = record[24:224].rstrip(b"\0").decode("latin-1").partition(" ")
            if name in COMMANDS:
                COMMANDS[name](self, argument)
        page = echo_page(request)
        if self.wrong:
            page = b"\xff\xff\xff\xff" + page[4:]  # an LSN that no record ends at
            self.wrong = False
        self.replies += page


def _die(engine: EchoEngine, argument: str) -> None:
    os.kill(os.getpid(), getattr(signal, argument))


def _exit(engine: EchoEngine, argument: str) -> None:
    child.write_replies(engine, 1)
    os._exit(int(argument))


def _fail(engine: EchoEngine, argument: str) -> None:
    raise RedoError(f"told to fail {argument}")


def _hang(engine: EchoEngine, argument: str) -> None:
    while True:
        signal.pause()


def _spin(engine: EchoEngine, argument: str) -> None:
    while True:
        pass


def _slow(engine: EchoEngine, argument: str) -> None:
    child.write_replies(engine, 1)
    time.sleep(float(argument))


def _garbage(engine: EchoEngine, argument: str) -> None:
    engine.replies += b"garbage" * int(argument)


def _wrong(engine: EchoEngine, argument: str) -> None:
    engine.wrong = True


def _half(engine: EchoEngine, argument: str) -> None:
    engine.replies += bytes(4096)
    _exit(engine, "0")


def _eat(engine: EchoEngine, argument: str) -> None:
    blocks = []
    while True:
        blocks.append(bytearray(b"x") * (16 << 20))


def _flood(engine: EchoEngine, argument: str) -> None:
    line = b"flood " * 20 + b"\n"
    rest = int(argument)
    while rest > 0:
        rest -= os.write(2, line * 500)


def _line(engine: EchoEngine, argument: str) -> None:
    rest = int(argument)
    while rest > 0:
        rest -= os.write(2, b"x" * 60000)


def _system_call(number: int, *arguments: int) -> Callable[[EchoEngine, str], None]:
    def attempt(engine: EchoEngine, argument: str) -> None:
        LIBC.syscall(number, *arguments)

    return attempt


def _fork(engine: EchoEngine, argument: str) -> None:
    while True:
        os.fork()


def _open(engine: EchoEngine, argument: str) -> None:
    os.open(argument or "/etc/passwd", os.O_RDONLY)


def _exec(engine: EchoEngine, argument: str) -> None:
    os.execv("/bin/true", ["true"])


def _executable(engine: EchoEngine, argument: str) -> None:
    LIBC.mmap(0, 4096, 7, 0x22, -1, 0)


def _limit(engine: EchoEngine, argument: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def _burn(engine: EchoEngine, argument: str) -> None:
    end = time.process_time() + float(argument)
    while time.process_time() < end:
        pass


def _once(engine: EchoEngine, argument: str) -> None:
    if not os.path.exists(argument):  # noqa: PTH110
        os.close(os.open(argument, os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)


LIBC = ctypes.CDLL(None)
COMMANDS: dict[str, Callable[[EchoEngine, str], None]] = {
    "!die": _die,
    "!exit": _exit,
    "!fail": _fail,
    "!hang": _hang,
    "!spin": _spin,
    "!slow": _slow,
    "!garbage": _garbage,
    "!wrong": _wrong,
    "!half": _half,
    "!eat": _eat,
    "!flood": _flood,
    "!line": _line,
    "!burn": _burn,
    "!once": _once,
    # What the sandbox forbids; the numbers are those of x86-64.
    "!fork": _fork,
    "!open": _open,
    "!exec": _exec,
    "!executable": _executable,
    "!limit": _limit,
    "!socket": _system_call(41, 2, 1, 0),
    "!ptrace": _system_call(101, 0, 0, 0, 0),
    "!signal": _system_call(62, 1, 0),
    "!memory": _system_call(310, 1, 0, 0, 0, 0, 0),
}


def main() -> int:
    engine = EchoEngine()
    cpu_seconds = 0
    if "--cpu-seconds" in sys.argv:
        cpu_seconds = int(sys.argv[sys.argv.index("--cpu-seconds") + 1])
        child.RENEW_EVERY = 1
    try:
        if "--memory" in sys.argv:
            limit = int(sys.argv[sys.argv.index("--memory") + 1])
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if "--sandbox" in sys.argv:
            state = sandbox.enter(cpu_seconds=cpu_seconds or sandbox.CPU_SECONDS)
            os.write(2, child.state_line(state).encode() + b"\n")
        child.Child(engine, cpu_seconds=cpu_seconds).serve()
    except RedoError as exc:
        os.write(2, f"{child.PREFIX}RedoError: {exc}\n".encode())
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main())
