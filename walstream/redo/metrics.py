"""What the redo manager counts, as Neon's pageserver does.

A request must not cost more to count than to send: plain integers, which ``status/prometheus.py``
turns into metrics when someone asks, not a labelled histogram per request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

SECONDS = (
    5e-6,
    1e-5,
    2.5e-5,
    5e-5,
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    5e-3,
    1e-2,
    5e-2,
    0.1,
    0.5,
    1.0,
    10.0,
)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 2500, 5000)
BYTES = tuple(1 << power for power in range(8, 27, 2))
LAUNCH_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Histogram:
    """Counts of observations by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] | tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RedoMetrics:
    """The numbers themselves."""

    def __init__(self) -> None:
        self.seconds = Histogram(SECONDS)
        self.records = Histogram(RECORDS)
        self.bytes = Histogram(BYTES)
        self.launch_seconds = Histogram(LAUNCH_SECONDS)
        self.started = 0
        self.stopped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.retried = 0

    def answered(self, seconds: float, records: int, size: int) -> None:
        """Counts one rebuilt page; in line, for it is called for each."""
        histogram = self.seconds
        histogram.counts[bisect_left(SECONDS, seconds)] += 1
        histogram.total += seconds
        histogram = self.records
        histogram.counts[bisect_left(RECORDS, records)] += 1
        histogram.total += records
        histogram = self.bytes
        histogram.counts[bisect_left(BYTES, size)] += 1
        histogram.total += size

    def answered_batch(self, seconds: float, pages: int, records: int, size: int) -> None:
        """Counts some pages that were rebuilt together, each with its share of records and bytes.

        ``seconds`` is how long each was waited for.
        """
        if not pages:
            return
        for histogram, value in (
            (self.seconds, seconds),
            (self.records, records / pages),
            (self.bytes, size / pages),
        ):
            histogram.counts[bisect_left(histogram.bounds, value)] += pages
            histogram.total += value * pages
