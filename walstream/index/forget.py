"""Takes out of the index what is only of WAL that is gone: space, not answers.

What made a block, events and folded states go with their WAL. Sizes, what voids older versions, and
copied databases stay: they are small, and later moments lean on them. Ends of transactions stay: by
them a time or an xid is found to be of WAL that is gone, and is not taken for another moment.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence

from walstream.index import keys
from walstream.index.page_index import PageIndex

AT_ONCE = 10_000
_META = "forgotten"


def forget(
    index: PageIndex,
    ranges: Sequence[tuple[int, int]],
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Removes the entries of records that lie within ``ranges``; returns how many keys. Blocks.

    A posting list that reaches out of a range stays. Done once for the same ranges; interrupted, it
    begins again next time.

    Args:
        index: opened for writing.
        ranges: WAL ``[begin, end)`` that is gone, ascending, none touching another.
        pause: called between batches; it may raise to end it.

    Raises:
        StorageError: the index cannot be read or written.
    """
    wanted = json.dumps(ranges).encode()
    if not ranges or index.meta(_META) == wanted:
        return 0
    begins = [begin for begin, _ in ranges]

    def within(first: int, last: int) -> bool:
        at = bisect_right(begins, first - 1) - 1
        return at >= 0 and last <= ranges[at][1]

    removed = 0
    doomed: list[bytes] = []

    def flush() -> None:
        nonlocal removed
        index.remove(doomed)
        removed += len(doomed)
        doomed.clear()
        pause()

    for key, value in index.pairs(b"b"):
        first = int.from_bytes(key[-8:], "big")
        above, _, _ = keys.ENTRY.unpack_from(value, len(value) - keys.ENTRY.size)
        if within(first, first + above):
            doomed.append(key)
            if len(doomed) >= AT_ONCE:
                flush()
    for key, _ in index.pairs(b"e"):
        lsn = int.from_bytes(key[-8:], "big")
        if lsn > ranges[-1][1]:
            break
        if within(lsn, lsn):
            doomed.append(key)
            if len(doomed) >= AT_ONCE:
                flush()
    for key, _ in index.pairs(b"f"):
        # Folded states of base backups that are gone.
        if within(*(int.from_bytes(key[1:9], "big"),) * 2):
            doomed.append(key)
            if len(doomed) >= AT_ONCE:
                flush()
    flush()
    index.note(_META, wanted)
    return removed
