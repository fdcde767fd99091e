"""What the redo manager counts, as Neon's pageserver does, and how Prometheus gets it.

A request must not cost more to count than to send: plain integers here, turned into Prometheus
metrics when someone asks (``RedoCollector.collect``), not a labelled histogram per request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

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

    def family(self, name: str, help_text: str) -> HistogramMetricFamily:
        buckets = []
        running = 0
        for bound, count in zip(
            (*(repr(float(bound)) for bound in self.bounds), "+Inf"), self.counts, strict=True
        ):
            running += count
            buckets.append((bound, running))
        return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=self.total)


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


class RedoCollector(Collector):
    """Shows ``RedoMetrics`` to a Prometheus registry; ``depth`` gives (queued, processes)."""

    def __init__(self, metrics: RedoMetrics, depth: Callable[[], tuple[int, int]]) -> None:
        self._metrics = metrics
        self._depth = depth

    def collect(self) -> Iterable[Metric]:
        metrics = self._metrics
        queued, processes = self._depth()
        yield metrics.seconds.family(
            "walstream_redo_seconds", "Time to rebuild a page, as seen by the caller"
        )
        yield metrics.records.family("walstream_redo_records", "Records per redo request")
        yield metrics.bytes.family("walstream_redo_bytes", "Bytes per redo request")
        yield metrics.launch_seconds.family(
            "walstream_redo_launch_seconds", "Time from spawning a redo child to its first reply"
        )
        yield CounterMetricFamily(
            "walstream_redo_processes_started", "Redo children started", value=metrics.started
        )
        stopped = CounterMetricFamily(
            "walstream_redo_processes_stopped",
            "Redo children that ended, by cause",
            labels=["cause"],
        )
        for cause, count in metrics.stopped.items():
            stopped.add_metric([cause], count)
        yield stopped
        failed = CounterMetricFamily(
            "walstream_redo_failures", "Requests that failed, by error", labels=["error"]
        )
        for error, count in metrics.failed.items():
            failed.add_metric([error], count)
        yield failed
        yield CounterMetricFamily(
            "walstream_redo_retries",
            "Requests tried again after a child died",
            value=metrics.retried,
        )
        yield GaugeMetricFamily(
            "walstream_redo_queue_depth", "Requests queued or in flight", value=queued
        )
        yield GaugeMetricFamily("walstream_redo_processes", "Redo children alive", value=processes)
