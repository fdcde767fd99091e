"""What of WAL is to be read."""

from __future__ import annotations

from typing import NamedTuple


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
