"""A receiver with a sink of its own: WAL goes to standard output, to be packed, sent, or read.

wal_to_stdout.py CONNINFO LSN [END_LSN] | zstd > wal.zst; zstd -dc wal.zst | walstream dump -
"""

import sys

import trio

from walstream import WalChunk, parse_lsn, receive_wal

PAGE = 8192


async def take(chunk: WalChunk) -> None:
    """Called with each chunk; what it has returned from is not sent again."""
    await trio.to_thread.run_sync(sys.stdout.buffer.write, chunk.data)


async def main(conninfo: str, start: str, end: str | None) -> None:
    lsn = parse_lsn(start)
    end_lsn = parse_lsn(end) if end else None
    # From the start of a page: its header says what follows.
    await receive_wal(conninfo, take, start=lsn - lsn % PAGE, end=end_lsn)
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
