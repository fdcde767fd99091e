"""What of WAL is to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from walstream.segments.source import SegmentSource


class WalRange(NamedTuple):
    """WAL ``[start_lsn, end_lsn)``; None: from the first that there is, to the end of WAL."""

    start_lsn: int | None = None
    end_lsn: int | None = None

    def within(self, start_lsn: int, end_lsn: int) -> WalRange:
        """Returns what of it is in ``[start_lsn, end_lsn)``."""
        start = start_lsn if self.start_lsn is None else max(start_lsn, self.start_lsn)
        end = end_lsn if self.end_lsn is None else min(end_lsn, self.end_lsn)
        return WalRange(start, end)


ALL_WAL = WalRange()


def stored(source: SegmentSource, start_lsn: int, end_lsn: int | None) -> WalRange:
    """Returns what of ``[start_lsn, end_lsn)`` may be there: from the first segment on that is."""
    size = source.segment_size
    first = next((n * size for n in source.numbers() if (n + 1) * size > start_lsn), start_lsn)
    return WalRange(max(start_lsn, first), end_lsn)
