"""The servers of the tests themselves: what other tests take for granted about them."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.clusters import ServerFailed
from tests.support.servers import PostgresServer

StartServer = Callable[..., PostgresServer]


def test_server_is_of_the_version_and_takes_replication_connections(
    pg_server: PostgresServer, pg_version: int
) -> None:
    assert int(pg_server.execute("SHOW server_version_num")[0][0]) // 10_000 == pg_version
    with psycopg.connect(pg_server.replication_dsn, autocommit=True) as session:
        row = session.execute("IDENTIFY_SYSTEM").fetchone()
    assert row is not None
    assert row[1] == 1
    with psycopg.connect(f"host=127.0.0.1 port={pg_server.port} user=postgres") as session:
        assert session.info.server_version // 10_000 == pg_version


def test_crash_loses_no_committed_row(pg_version: int, start_server: StartServer) -> None:
    server = start_server(pg_version, segment_size=1 << 20, checksums=True)
    assert server.execute("SHOW wal_segment_size") == [("1MB",)]
    assert server.execute("SHOW data_checksums") == [("on",)]
    server.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    server.crash()
    assert not server.running
    server.start()
    assert server.execute("SELECT count(*) FROM t") == [(1000,)]
    assert "was not properly shut down" in server.log_text()
    server.restart("immediate")
    server.restart()
    assert server.execute("SELECT count(*) FROM t") == [(1000,)]


def test_standby_follows_and_is_promoted(pg_server: PostgresServer) -> None:
    with pg_server.standby() as standby:
        assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
        standby.promote()
        assert standby.execute("SELECT pg_is_in_recovery()") == [(False,)]
        assert standby.execute("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
        root = standby.root
    assert not root.exists()


def test_unique_clusters_have_identities_of_their_own(
    pg_server: PostgresServer, pg_version: int, start_server: StartServer
) -> None:
    identity = "SELECT system_identifier FROM pg_control_system()"
    assert start_server(pg_version, unique=True).execute(identity) != pg_server.execute(identity)


@pytest.mark.pg_versions(18)
def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    pg_version: int, tmp_path: Path
) -> None:
    server = PostgresServer(pg_version, config={"no_such_setting": 1})
    with pytest.raises(ServerFailed, match="no_such_setting"):
        server.start()
    root = server.root
    server.close()
    assert not root.exists()
