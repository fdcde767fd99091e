"""Fixtures that give tests a real PostgreSQL.

A test that takes ``pg_version`` (or ``pg_server``) runs once for each major version: all of
14 to 18 under CI, else those whose binaries are on this machine already
(``python -m tests.binaries`` fetches the rest). ``@pytest.mark.pg_versions(15, 18)`` narrows it.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.binaries import available_versions
from tests.servers import PostgresServer


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pg_versions(*majors): run on these versions only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg_version" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("pg_versions")
    wanted = marker.args if marker is not None else available_versions()
    versions = [version for version in available_versions() if version in wanted]
    metafunc.parametrize("pg_version", versions, ids=lambda v: f"pg{v}", scope="module")


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
