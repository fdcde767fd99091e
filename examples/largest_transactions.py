"""Lists the transactions of an hour that wrote most WAL: largest_transactions.py WAL [HOUR].

HOUR is when it begins, such as '2026-11-25 14:00'; without it all of WAL counts.
"""

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

from walstream import read_wal


def main(wal: str, hour: str | None) -> None:
    begin = datetime.fromisoformat(hour).astimezone(UTC) if hour else None
    sizes: Counter[int] = Counter()
    ended = []
    for record in read_wal(wal):
        if record.xid:
            sizes[record.xid] += record.total_length
        end = record.xact_end
        if end is None or record.time is None:
            continue
        size = sum(sizes.pop(xid, 0) for xid in {record.xid, end.twophase_xid, *end.subxids})
        if begin is None or begin <= record.time < begin + timedelta(hours=1):
            ended.append((size, end.twophase_xid or record.xid, record.operation, record.time))
    for size, xid, operation, time in sorted(ended, reverse=True)[:10]:
        print(f"{size:14,} bytes  xid {xid:<10}  {operation:<15} {time}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
