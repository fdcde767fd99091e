"""What the index stores, made by the structs alone: what the kernel must agree with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from walstream.index import keys
from walstream.index.ends import End
from walstream.index.page_index import Entry


def posting_list(
    tag: tuple[int, int, int, int, int], entries: Sequence[Entry]
) -> tuple[bytes, bytes]:
    """Returns key and value of the entries of one block, oldest first, for ``Batch.pairs``."""
    base = entries[0].end_lsn
    value = b"".join(
        keys.ENTRY.pack(end_lsn - base, end_lsn - start_lsn, flags)
        for end_lsn, start_lsn, flags in entries
    )
    return keys.BLOCK_KEY.pack(b"b", *tag, base), value


def end_list(ends: Sequence[End]) -> tuple[bytes, bytes]:
    """Returns key and value of the ends of transactions of a batch, oldest first."""
    lsns = [ends[0].end_lsn, *(end.end_lsn for end in ends)]
    xids = [0, *(end.xid for end in ends)]
    times = [0, *(end.time_us for end in ends)]
    value = b"".join(
        keys.END.pack(
            end.end_lsn - lsns[i],
            end.end_lsn - end.start_lsn,
            (end.xid - xids[i]) % 2**32,
            (end.time_us - times[i]) % 2**64,
            end.info,
        )
        for i, end in enumerate(ends)
    )
    return keys.ENDS_KEY.pack(b"c", ends[0].end_lsn), value


def xid_list(group: int, found: Sequence[tuple[int, int]]) -> tuple[bytes, bytes]:
    """Returns key and value of (xid, end LSN) of one group of 256 xids in a batch."""
    base = found[0][1]
    value = b"".join(keys.XID.pack(xid % 256, end_lsn - base) for xid, end_lsn in found)
    return keys.XIDS_KEY.pack(b"x", group, base), value


def fork_list(
    directory: tuple[int, int], lsn: int, forks: Mapping[tuple[int, int], int]
) -> tuple[bytes, bytes]:
    """Returns key and value of the list of all forks of a directory."""
    value = b"".join(keys.FORK.pack(*key, forks[key]) for key in sorted(forks))
    return keys.DIRECTORY_KEY.pack(b"l", *directory, lsn), value
