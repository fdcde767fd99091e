"""Joins what runs of segments gave, in their order, and says how WAL ended.

Each run reads on until it has seen, and checked, the first record behind it (``RunEnd.next_lsn``).
The next run must have begun with that one: so the chain of records is whole, however many threads
read. The first run that does not see a record behind it is the last that counts.
"""

from __future__ import annotations

from walstream.errors import WalError
from walstream.scanning.ending import Ending, EndKind, raise_ending
from walstream.scanning.runs import RunEnd
from walstream.scanning.tail import Position, tail_of
from walstream.segments.source import SegmentSource
from walstream.wal.layout import XLOG_BLCKSZ


class RunJoin:
    """Puts runs together; ``ending`` is how WAL ended, None where no more was wanted.

    Args:
        source: where the segments are.
        start_lsn: where reading begins.
    """

    def __init__(self, source: SegmentSource, start_lsn: int = 0) -> None:
        self._source = source
        self._start_lsn = start_lsn
        self._expected = 0
        self._last: RunEnd | None = None
        self.ending: Ending | None = None

    def check(self, end: RunEnd) -> None:
        """Checks that a run begins with the record that the run before saw behind it.

        Raises:
            WalError: it does not: what lies between is damaged.
        """
        first = end.first_lsn or end.next_lsn
        if self._expected and first and first != self._expected:
            raise_ending(self._tail(end))
            raise WalError(f"record expected at {self._expected:X}, got one at {first:X}", first)

    def goes_on(self, end: RunEnd) -> bool:
        """Returns whether the next run counts; sets ``ending`` where it does not.

        Raises:
            WalError: the WAL is damaged, or of another cluster.
            SegmentMissing: a segment is missing before more WAL.
        """
        if end.records:
            self._last = end
        if end.next_lsn:
            self._expected = end.next_lsn
            return True
        self.ending = self._tail(end)
        if self.ending.kind is not EndKind.TRUNCATED:
            raise_ending(self.ending)
        return False

    def _tail(self, end: RunEnd) -> Ending:
        if self._last is not None:
            return tail_of(self._source, self._last.position)
        first = max(
            end.run.first * self._source.segment_size, self._start_lsn // XLOG_BLCKSZ * XLOG_BLCKSZ
        )
        return tail_of(self._source, Position(first, find=True))
