"""Ends of transactions in the index: by their LSN, by their xid, and by their time.

A commit or abort is an entry of the list of its batch (``c``), and of the list of its group of 256
xids there (``x``, subtransactions too). Times need no entry each: as the clock mostly goes on,
``t`` marks in each batch only the first end that is later than all ends before it, and what lies
between two marks is looked up in the lists. That holds for a clock that jumps as well: recovery to
a time stops before the first end in WAL's order that is later, and the first mark that is later
than the time bounds where that can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from walstream.index import keys
from walstream.index.page_index import MAX_LSN, Event, PageIndex
from walstream.rmgr import xact
from walstream.wal.layout import RM_XACT_ID

_COMMITS = (xact.COMMIT, xact.COMMIT_PREPARED)
_M32, _M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


class End(NamedTuple):
    """The commit or abort of a transaction. ``info`` is the xl_info of its record."""

    end_lsn: int
    start_lsn: int
    xid: int
    time_us: int
    info: int

    @property
    def committed(self) -> bool:
        return self.info & xact.OP_MASK in _COMMITS


# The fields of an ``End``, where there are too many for objects.
EndRow = tuple[int, int, int, int, int]


class RestorePoint(NamedTuple):
    """A restore point (pg_create_restore_point); its name in no known encoding."""

    name: bytes
    end_lsn: int
    start_lsn: int
    time_us: int


def decode_ends(base: int, value: bytes) -> Iterator[End]:
    """Yields the entries of a list whose key has the LSN ``base``, in WAL's order."""
    lsn, xid, time_us = base, 0, 0
    for lsn_step, length, xid_step, time_step, info in keys.END.iter_unpack(value):
        lsn += lsn_step
        xid = xid + xid_step & _M32
        time_us = time_us + time_step & _M64
        yield End(lsn, lsn - length, xid, time_us, info)


def encode_ends(ends: Iterable[End]) -> bytes:
    """Returns the list of some ends, the first of which has the LSN of its key."""
    out = bytearray()
    before: End | None = None
    for end in ends:
        lsn, xid, time_us = (end.end_lsn, 0, 0) if before is None else (
            before.end_lsn, before.xid, before.time_us
        )  # fmt: skip
        out += keys.END.pack(
            end.end_lsn - lsn,
            end.end_lsn - end.start_lsn,
            end.xid - xid & _M32,
            end.time_us - time_us & _M64,
            end.info,
        )
        before = end
    return bytes(out)


def ends(index: PageIndex, after_lsn: int = 0, upto_lsn: int = MAX_LSN) -> Iterator[End]:
    """Yields the ends of transactions with ``after_lsn < end_lsn <= upto_lsn``, oldest first."""
    for base, value in index.lists_from(b"c", after_lsn):
        if base > upto_lsn:
            return
        for end in decode_ends(base, value):
            if end.end_lsn > upto_lsn:
                return
            if end.end_lsn > after_lsn:
                yield end


def end_events(index: PageIndex, after_lsn: int = 0, upto_lsn: int = MAX_LSN) -> Iterator[Event]:
    """Yields events and ends of transactions in ``(after_lsn, upto_lsn]``, in WAL's order."""
    ended = ends(index, after_lsn, upto_lsn)
    end = next(ended, None)
    for event in index.events(after_lsn, upto_lsn):
        while end is not None and end.end_lsn < event.end_lsn:
            yield Event(end.end_lsn, end.start_lsn, RM_XACT_ID, end.info, end.xid)
            end = next(ended, None)
        yield event
    while end is not None:
        yield Event(end.end_lsn, end.start_lsn, RM_XACT_ID, end.info, end.xid)
        end = next(ended, None)


def end_runs(
    index: PageIndex, after_lsn: int = 0, upto_lsn: int = MAX_LSN
) -> Iterator[Event | list[EndRow]]:
    """Yields what ``end_events`` does, but the ends between two events in one list.

    There may be a million of them, and nothing is made of each but its row.
    """
    events = index.events(after_lsn, upto_lsn)
    event = next(events, None)
    for base, value in index.lists_from(b"c", after_lsn):
        lsn, xid, time_us = base, 0, 0
        run: list[EndRow] = []
        for lsn_step, length, xid_step, time_step, info in keys.END.iter_unpack(value):
            lsn += lsn_step
            xid = xid + xid_step & _M32
            time_us = time_us + time_step & _M64
            if lsn <= after_lsn:
                continue
            if lsn > upto_lsn:
                break
            while event is not None and event.end_lsn < lsn:
                if run:
                    yield run
                    run = []
                yield event
                event = next(events, None)
            run.append((lsn, lsn - length, xid, time_us, info))
        if run:
            yield run
        if lsn > upto_lsn:
            break
    while event is not None:
        yield event
        event = next(events, None)


def last_commit(index: PageIndex, upto_lsn: int = MAX_LSN) -> End | None:
    """Returns the newest commit, in WAL's order, that ends at or before an LSN."""
    for base, value in index.scan_back(b"c", upto_lsn):
        found = None
        for end in decode_ends(base, value):
            if end.end_lsn > upto_lsn:
                break
            if end.committed:
                found = end
        if found is not None:
            return found
    return None


def end_of_xid(index: PageIndex, xid: int, upto_lsn: int = MAX_LSN) -> End | None:
    """Returns the commit or abort by which a transaction or subtransaction ended.

    An xid comes again after 4 billion transactions: the newest counts. Of a subtransaction the end
    is that of its parent, whose xid it has.
    """
    prefix = keys.XIDS_KEY.pack(b"x", xid >> 8, 0)[:-8]
    for base, value in index.scan_back(prefix, upto_lsn):
        found = 0
        for low, step in keys.XID.iter_unpack(value):
            if low == xid & 0xFF and base + step <= upto_lsn:
                found = base + step
        if found:
            return next(ends(index, found - 1, found))
    return None


def first_end_after_time(index: PageIndex, time_us: int) -> End | None:
    """Returns the first commit or abort, in WAL's order, that is later than a time."""
    lower, upper = 0, MAX_LSN
    for key, _ in index.scan(b"t", keys.TIME_KEY.pack(b"t", time_us + 1, 0)):
        upper = int.from_bytes(key[-8:], "big")
        break
    for key, _ in index.scan_down(b"t", keys.TIME_KEY.pack(b"t", time_us, MAX_LSN)):
        lower = int.from_bytes(key[-8:], "big")
        break
    if upper == MAX_LSN:
        # Nothing later but, it may be, in the batch of the last mark.
        if not lower:
            return None
        base, value = next(index.scan_back(b"c", lower))
        later = (end for end in decode_ends(base, value) if end.time_us > time_us)
        return next(later, None)
    return next(end for end in ends(index, lower, upper) if end.time_us > time_us)


def latest_time(index: PageIndex) -> int:
    """Returns the latest time of all ends, 0 where there is none."""
    for key, _ in index.scan_down(b"t", b"t" + b"\xff" * 16):
        base, value = next(index.scan_back(b"c", int.from_bytes(key[-8:], "big")))
        return max(end.time_us for end in decode_ends(base, value))
    return 0


def restore_points(index: PageIndex, name: bytes | None = None) -> Iterator[RestorePoint]:
    """Yields the restore points by name and then LSN, or those of one name."""
    prefix = b"n" if name is None else b"n" + name + b"\0"
    for key, value in index.scan(prefix, prefix):
        yield RestorePoint(key[1:-9], int.from_bytes(key[-8:], "big"), *keys.NAMED.unpack(value))
