"""Receives WAL for some seconds: stream_to_directory.py CONNINFO DIRECTORY [SECONDS]."""

import sys
from pathlib import Path

import trio

from walstream import format_lsn, receive_wal


async def main(conninfo: str, directory: Path, seconds: float) -> None:
    directory.mkdir(exist_ok=True)
    async with trio.open_nursery() as nursery:
        receiving = await nursery.start(receive_wal, conninfo, directory)
        begin = receiving.flushed.value
        await trio.sleep(seconds)
        receiving.stop()
    print(f"on disk: {format_lsn(begin)} to {format_lsn(receiving.flushed.value)}")


if __name__ == "__main__":
    wait = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    trio.run(main, sys.argv[1], Path(sys.argv[2]), wait)
