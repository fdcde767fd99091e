"""Streams WAL for some seconds: stream_to_directory.py CONNINFO DIRECTORY [SECONDS]."""

import sys
from pathlib import Path

import trio
from trio_util import AsyncValue

from walstream.receive.receiver import Receiver
from walstream.store.writer import Writer
from walstream.wal.model import format_lsn


async def main(conninfo: str, directory: Path, seconds: float) -> None:
    directory.mkdir(exist_ok=True)
    writer = Writer(directory)
    receiver = Receiver(AsyncValue(conninfo), writer)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await nursery.start(receiver.run)
        begin = writer.flushed.value
        await trio.sleep(seconds)
        receiver.stop()
        writer.close()
    print(f"on disk: {format_lsn(begin)} to {format_lsn(writer.flushed.value)}")


if __name__ == "__main__":
    wait = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    trio.run(main, sys.argv[1], Path(sys.argv[2]), wait)
