"""Prints how many transactions a server commits, second by second: commits_per_second.py CONNINFO.

The role needs REPLICATION. A second argument is how many seconds to watch.
"""

import sys
from collections import Counter
from itertools import count

import trio

from walstream import stream_wal


async def main(conninfo: str, seconds: int | None) -> None:
    ended: Counter[str] = Counter()

    async def report() -> None:
        for _ in range(seconds) if seconds else count():
            await trio.sleep(1)
            print(f"{ended['COMMIT']:8} commits/s {ended['ABORT']:8} aborts/s", flush=True)
            ended.clear()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery, stream_wal(conninfo, rmgr="Transaction") as records:
        nursery.start_soon(report)
        async for record in records:
            ended[record.operation.removesuffix("_PREPARED")] += 1


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
