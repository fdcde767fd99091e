"""Prometheus metrics of a running cluster, served over HTTP by prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from walstream.errors import WalstreamError
from walstream.wal.model import parse_lsn


class StatusCollector(Collector):
    """Every number and LSN of a status snapshot as a gauge ``walstream_NAME``; LSNs in bytes."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, value in self._snapshot().items():
            if name.endswith("_lsn"):
                value = parse_lsn(value)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(
                    f"walstream_{name}", f"{name} of walstream status", value=value
                )


@contextmanager
def serve_metrics(address: str, collectors: Iterable[Collector]) -> Iterator[None]:
    """Serves the collectors at ``HOST:PORT`` until the end of the context.

    Raises:
        WalstreamError: not an address, or it cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = start_http_server(int(port), host or "127.0.0.1", registry)
    except (ValueError, OSError) as error:
        raise WalstreamError(f"cannot serve metrics at {address!r}: {error}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
