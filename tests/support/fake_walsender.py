"""A walsender of the tests' own: says what it is told to, fails or falls silent where it is told.

It speaks as much of the protocol as a receiver needs: trust authentication, the commands of
physical replication, COPY in both directions, over WAL of ``tests/support/walgen.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import trio

from tests.support.walgen import SEGMENT, SYSTEM_IDENTIFIER
from walstream.replication.messages import encode_keepalive, encode_xlog_data
from walstream.wal.model import format_lsn, parse_lsn

SILENT = "silent"
Row = Sequence[str | bytes | None]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def error(sqlstate: str, text: str = "etwas ist falsch", severity: str = "FEHLER") -> bytes:
    fields = [(b"S", severity), (b"V", "ERROR"), (b"C", sqlstate), (b"M", text)]
    body = b"".join(key + value.encode() + b"\0" for key, value in fields)
    return message(b"E", body + b"F" + b"auth.c\0L339\0Rauth_failed\0\0")


def rows(*found: Row) -> bytes:
    columns = len(found[0])
    described = b"".join(
        b"c\0" + struct.pack(">IHIhih", 0, 0, 25, -1, -1, 0) for _ in range(columns)
    )
    out = message(b"T", struct.pack(">H", columns) + described)
    for row in found:
        body = struct.pack(">H", columns)
        for value in row:
            data = value.encode() if isinstance(value, str) else value
            body += struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
        out += message(b"D", body)
    return out + message(b"C", b"SELECT\0")


class FakeWalsender:
    """One server; ``faults`` maps the first word(s) of a command to a SQLSTATE or SILENT.

    ``login`` as a key stands for the start of the connection. A fault holds as often as ``times``
    says. ``wal`` maps a timeline to (start LSN, bytes); what lies before is "removed".
    """

    def __init__(
        self,
        wal: dict[int, tuple[int, bytes]],
        *,
        histories: dict[int, str] | None = None,
        faults: dict[str, str] | None = None,
        times: int = 1 << 30,
        system_identifier: int = SYSTEM_IDENTIFIER,
        version: int = 18,
        standby: bool = False,
    ) -> None:
        self.wal = wal
        self.histories = histories or {}
        self.faults = faults or {}
        self.times = times
        self.system_identifier = system_identifier
        self.version = version
        self.standby = standby
        self.commands: list[str] = []
        self.connections = 0
        self.port = 0

    @property
    def conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=u sslmode=disable"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    def _fault(self, command: str) -> str | None:
        for key, fault in self.faults.items():
            if command.startswith(key) and self.times > 0:
                self.times -= 1
                return fault
        return None

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                await _Session(self, stream).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass

    def end(self, timeline: int) -> int:
        start, data = self.wal[timeline]
        return start + len(data)


class _Session:
    def __init__(self, server: FakeWalsender, stream: trio.SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._bytes = b""

    async def _exactly(self, size: int) -> bytes:
        while len(self._bytes) < size:
            more = await self._stream.receive_some(65536)
            if not more:
                raise EOFError
            self._bytes += more
        taken, self._bytes = self._bytes[:size], self._bytes[size:]
        return taken

    async def _message(self) -> tuple[bytes, bytes]:
        kind = await self._exactly(1)
        (length,) = struct.unpack(">I", await self._exactly(4))
        return kind, await self._exactly(length - 4)

    async def run(self) -> None:
        server = self._server
        (length,) = struct.unpack(">I", await self._exactly(4))
        await self._exactly(length - 4)
        if not await self._well("login", severity="FATAL"):
            return
        settings = {
            "server_version": f"{server.version}.1",
            "in_hot_standby": "on" if server.standby else "off",
        }
        hello = message(b"R", struct.pack(">I", 0))
        for key, value in settings.items():
            hello += message(b"S", f"{key}\0{value}\0".encode())
        await self._stream.send_all(hello + message(b"Z", b"I"))
        while True:
            kind, body = await self._message()
            if kind == b"X":
                return
            if kind == b"Q":
                command = body[:-1].decode()
                server.commands.append(command)
                if await self._well(command):
                    await self._answer(command)
                await self._stream.send_all(message(b"Z", b"I"))

    async def _well(self, command: str, severity: str = "FEHLER") -> bool:
        fault = self._server._fault(command)
        if fault == SILENT:
            while await self._stream.receive_some(65536):
                pass
            raise EOFError
        if fault is not None:
            await self._stream.send_all(error(fault, severity=severity))
        return fault is None

    async def _answer(self, command: str) -> None:
        server = self._server
        newest = max(server.wal)
        words = command.replace('"', "").split()
        answers: dict[str, Callable[[], bytes]] = {
            "IDENTIFY_SYSTEM": lambda: rows(
                (str(server.system_identifier), str(newest), format_lsn(server.end(newest)), None)
            ),
            "SHOW": lambda: rows((f"{SEGMENT >> 20}MB",)),
            "READ_REPLICATION_SLOT": lambda: rows(("physical", None, None)),
            "CREATE_REPLICATION_SLOT": lambda: rows((words[1], "0/0", None, None)),
        }
        if words[0] in answers:
            await self._stream.send_all(answers[words[0]]())
        elif words[0] == "TIMELINE_HISTORY":
            text = server.histories.get(int(words[1]))
            name = f"{int(words[1]):08X}.history"
            await self._stream.send_all(error("58P01") if text is None else rows((name, text)))
        elif words[0] == "START_REPLICATION":
            at = words.index("PHYSICAL")
            await self._stream_wal(parse_lsn(words[at + 1]), int(words[at + 3]))
        elif words[0] == "BASE_BACKUP":
            start = rows(("0/100028", "1")) + rows((None, None, None))
            begun = message(b"H", b"\0\0\0") + message(b"d", b"nbase.tar\0\0")
            await self._stream.send_all(start + begun)
            await self._well("TAR")
        else:
            raise AssertionError(command)

    async def _stream_wal(self, lsn: int, timeline: int) -> None:
        server = self._server
        start, data = server.wal[timeline]
        end = start + len(data)
        later = [t for t in sorted(server.wal) if t > timeline]
        if lsn > end:
            await self._stream.send_all(error("XX000", "angeforderter Start liegt vorn"))
            return
        await self._stream.send_all(message(b"W", b"\0\0\0"))
        if lsn < start:
            await self._stream.send_all(error("58P01", "WAL-Segment wurde schon entfernt"))
            return
        while lsn < end:
            piece = data[lsn - start :][: 128 << 10]
            sent = encode_xlog_data(lsn, end, 0, piece)
            await self._stream.send_all(message(b"d", sent))
            lsn += len(piece)
        if later:
            await self._stream.send_all(message(b"c"))
        else:
            await self._stream.send_all(message(b"d", encode_keepalive(end, 0, False)))
            if not await self._well("COPY"):
                return
        while True:
            kind, _ = await self._message()
            if kind == b"c":
                break
        if later:
            switch = format_lsn(end)
            await self._stream.send_all(rows((str(later[0]), switch)))
        else:
            await self._stream.send_all(message(b"c"))
        await self._stream.send_all(message(b"C", b"START_STREAMING\0"))
