"""Prometheus metrics of a running cluster, served over HTTP by prometheus-client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import trio
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from walstream.errors import ConfigError, StorageError, StoreError
from walstream.redo.manager import RedoManager
from walstream.redo.metrics import Histogram
from walstream.status.monitor import Monitor
from walstream.status.window import Loss, gauges
from walstream.store.drills import last_drill


class StatusCollector(Collector):
    """Every number of the last snapshot as a gauge ``walstream_NAME``; LSNs in bytes.

    Is called in threads of the HTTP server: takes what there is, never looks for itself.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[GaugeMetricFamily]:
        status = self._monitor.latest
        for field in fields(status):
            value = getattr(status, field.name)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(
                    f"walstream_{field.name}", f"{field.name} of walstream status", value=value
                )


class WindowCollector(Collector):
    """Which moments can be had, as gauges ``walstream_window_NAME``, as last looked at."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[GaugeMetricFamily]:
        window = self._monitor.window
        if window is None:
            return
        for name, text, value in gauges(window, Loss.of(self._monitor.latest, time.time())):
            yield GaugeMetricFamily(name, text, value=value)


class DrillCollector(Collector):
    """What the drills of a store found, as gauges ``walstream_drill_NAME``.

    Is called in threads of the HTTP server, which read the reports.
    """

    def __init__(self, store: Path) -> None:
        self._store = store

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            newest, good = last_drill(self._store), last_drill(self._store, passed=True)
        except (StoreError, StorageError):
            return
        if newest is not None:
            text = "whether nothing failed in the newest drill"
            yield GaugeMetricFamily("walstream_drill_passed", text, value=float(newest.passed))
        if good is not None:
            text = "when the newest drill began in which nothing failed"
            began = good.began.timestamp()
            yield GaugeMetricFamily("walstream_drill_good_timestamp_seconds", text, value=began)
            if good.first_query_s is not None:
                text = "from its start to its first answer"
                seconds = good.first_query_s
                yield GaugeMetricFamily("walstream_drill_first_query_seconds", text, value=seconds)


class RedoCollector(Collector):
    """Shows the counts of a redo manager to a Prometheus registry."""

    def __init__(self, redo: RedoManager) -> None:
        self._redo = redo

    def collect(self) -> Iterable[Metric]:
        metrics = self._redo.metrics
        queued, processes = self._redo.depth()
        yield _family(
            metrics.seconds,
            "walstream_redo_seconds",
            "Time to rebuild a page, as seen by the caller",
        )
        yield _family(metrics.records, "walstream_redo_records", "Records per redo request")
        yield _family(metrics.bytes, "walstream_redo_bytes", "Bytes per redo request")
        yield _family(
            metrics.launch_seconds,
            "walstream_redo_launch_seconds",
            "Time from spawning a redo child to its first reply",
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


def _family(histogram: Histogram, name: str, help_text: str) -> HistogramMetricFamily:
    buckets = []
    running = 0
    bounds = (*(repr(float(bound)) for bound in histogram.bounds), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        running += count
        buckets.append((bound, running))
    return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=histogram.total)


@asynccontextmanager
async def serve_metrics(address: str, collectors: Iterable[Collector]) -> AsyncIterator[None]:
    """Serves the collectors at ``HOST:PORT``, in threads, until the end of the context.

    Raises:
        ConfigError: not an address, or it cannot be listened on.

    Cancellation: the server is stopped.
    """
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = await trio.to_thread.run_sync(
            start_http_server, int(port), host or "127.0.0.1", registry
        )
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"cannot serve metrics at {address!r}: {error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(stop)
