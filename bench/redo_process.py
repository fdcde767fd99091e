"""Requests through the redo manager: ``python bench/redo_process.py``.

Each of N callers sends its next request when it has the answer to the last one, as page readers
do. ping goes through one process (nothing is redone), short (2 records, 1.1 KB) and medium (226
records, 25 KB; the shapes of Neon's bench_walredo) through the manager: encoding, dispatch, checks
and metrics included. Shown: requests a second, latency p50 and p99 as a caller sees it, and the CPU
time that the parent and the child spent on a request.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

import walstream.redo.rules.engine as engine
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.redo.process import RedoProcess
from walstream.redo.protocol import RedoRequest
from walstream.wal.model import BufferTag

VERSION = 15
XLOG_HEAP_INIT_PAGE = 0x80


def heap_insert(block: int, offset: int, payload: int, *, init: bool) -> bytes:
    """A heap INSERT record of a table with one wide column."""
    flags = 0x60 if init else 0x20
    data = struct.pack("<HHB", 1, 0x0802, 24) + bytes(1) + bytes(payload)
    header = struct.pack("<BBHIIII", 0, flags, len(data), 1663, 5, 16384, block)
    body = header + b"\xff\x03" + data + struct.pack("<HB", offset, 0)
    info = XLOG_HEAP_INIT_PAGE if init else 0
    return struct.pack("<IIQBBHI", 24 + len(body), 700 + offset, 0, info, 10, 0, 0) + body


def inserts(block: int, payloads: list[int]) -> RedoRequest:
    records = tuple(
        (0x1000000 + 0x400 * (i + 1), heap_insert(block, i + 1, payload, init=i == 0))
        for i, payload in enumerate(payloads)
    )
    return RedoRequest(BufferTag(1663, 5, 16384, 0, block), None, records)


SHORT = [inserts(block, [820, 90]) for block in range(1000)]
MEDIUM = [inserts(block, [4] * 226) for block in range(100)]


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def drive(
    callers: int, seconds: float, one: Callable[[int], Awaitable[object]]
) -> list[float]:
    """Latencies of all requests that ended within ``seconds``."""
    latencies: list[float] = []
    end = perf_counter() + seconds

    async def caller(number: int) -> None:
        await trio.lowlevel.checkpoint()
        now = perf_counter()
        i = number * 7
        while now < end:
            await one(i)
            i += 1
            began, now = now, perf_counter()
            latencies.append(now - began)

    async with trio.open_nursery() as nursery:
        for number in range(callers):
            nursery.start_soon(caller, number)
    return latencies


async def main(seconds: float, counts: list[int], names: list[str]) -> None:
    manager = RedoManager(RedoConfig())
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        await manager.redo(SHORT[0], version=VERSION, stamp_hints=False)
        pool = manager._pools[VERSION, False]

        async def ping(i: int) -> None:
            process: RedoProcess | None = pool.pick()
            assert process is not None
            await process.ping()

        async def short(i: int) -> None:
            await manager.redo(SHORT[i % len(SHORT)], version=VERSION, stamp_hints=False)

        async def medium(i: int) -> None:
            await manager.redo(MEDIUM[i % len(MEDIUM)], version=VERSION, stamp_hints=False)

        build = "compiled" if engine.__file__.endswith(".so") else "pure"
        print(f"{platform.platform()}, {os.cpu_count()} CPUs, engine {build}")
        print("input   callers  requests/s   p50 us   p99 us  parent us  child us")
        for name, one in (("ping", ping), ("short", short), ("medium", medium)):
            for callers in counts if name in names else []:
                await drive(callers, seconds / 5, one)
                pids = [process.pid for process in pool.processes if process.pid]
                usage = resource.getrusage(resource.RUSAGE_SELF)
                began, child = perf_counter(), sum(map(cpu_of, pids))
                latencies = await drive(callers, seconds, one)
                elapsed = perf_counter() - began
                child = sum(map(cpu_of, pids)) - child
                after = resource.getrusage(resource.RUSAGE_SELF)
                parent = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
                latencies.sort()
                count = len(latencies)
                print(
                    f"{name:7} {callers:7} {count / elapsed:11.0f}"
                    f" {latencies[count // 2] * 1e6:8.0f} {latencies[count * 99 // 100] * 1e6:8.0f}"
                    f" {parent / count * 1e6:10.2f} {child / count * 1e6:9.2f}"
                )
        manager.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 2, 8, 32, 128])
    parser.add_argument("--inputs", nargs="+", default=["ping", "short", "medium"])
    options = parser.parse_args()
    trio.run(main, options.seconds, options.callers, options.inputs)
