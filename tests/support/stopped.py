"""A cluster that was shut down, and a store that was imported of it: a past without streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.running import walstream
from tests.support.servers import PostgresServer, Setting


class Stopped(NamedTuple):
    """``store`` has everything up to the end of ``server``, from a base backup before ``work``."""

    server: PostgresServer
    store: Path

    @property
    def data(self) -> Path:
        return self.server.data_directory

    def relation(self, name: str) -> Path:
        """The first file of a relation that was noted before the server was stopped."""
        return self.data / (self.data / f"path.{name}").read_text()


def note_paths(server: PostgresServer, *names: str) -> None:
    """Remembers where relations lie, for when the server is down."""
    for name in names:
        ((path,),) = server.execute(f"SELECT pg_relation_filepath('{name}')")
        (server.data_directory / f"path.{name}").write_text(str(path))


@contextmanager
def stopped_cluster(
    version: int,
    work: Callable[[PostgresServer], None],
    *,
    checksums: bool = True,
    config: Mapping[str, Setting] | None = None,
) -> Iterator[Stopped]:
    """A server that did ``work`` behind its base backup, was stopped, and was imported."""
    settings: dict[str, Setting] = {"wal_keep_size": "2GB", **(config or {})}
    with (
        directory_for_server(roomy_directory()) as place,
        PostgresServer(version, checksums=checksums, config=settings, unique=True) as server,
    ):
        base = server.base_backup(place / "base")
        work(server)
        server.stop()
        store = place / "store"
        done = walstream("import", store, "--base", base, "--wal", server.wal_directory)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Stopped(server, store)
