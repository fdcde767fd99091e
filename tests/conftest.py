"""Fixtures that give tests a real PostgreSQL.

A test that takes ``pg_version`` (or ``pg_server``) runs once for each major version;
``@pytest.mark.pg_versions(15, 18)`` narrows it, and so does a ``parametrize`` of its own over
``pg_version``. Under CI all of these run; elsewhere those of a version whose binaries are not on
the machine are deselected (``python -m tests.support.binaries`` fetches them).
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.binaries import VERSIONS, available_versions
from tests.support.servers import PostgresServer

# How long an example or its making takes says something of the machine, not of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pg_versions(*majors): run on these versions only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg_version" not in metafunc.fixturenames:
        return
    if any(
        "pg_version" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        return
    marker = metafunc.definition.get_closest_marker("pg_versions")
    versions = marker.args if marker is not None else VERSIONS
    metafunc.parametrize("pg_version", versions, ids=lambda v: f"pg{v}", scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    present = available_versions()
    kept: list[pytest.Item] = []
    absent: list[pytest.Item] = []
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        (kept if parameters.get("pg_version", 18) in present else absent).append(item)
    config.hook.pytest_deselected(items=absent)
    items[:] = kept


@pytest.fixture(scope="module")
def pg_server(pg_version: int) -> Iterator[PostgresServer]:
    """A server with default options that all tests of a module share, one for each version."""
    with PostgresServer(pg_version) as server:
        yield server


@pytest.fixture
def start_server() -> Iterator[Callable[..., PostgresServer]]:
    """Starts servers of the test's own: ``start_server(16, segment_size=1 << 20)``."""
    with contextlib.ExitStack() as stack:

        def start(version: int, **options: object) -> PostgresServer:
            server = PostgresServer(version, **options)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield start
