"""``walstream stats`` prints the tables of pg_waldump --stats, for every version that has one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.binaries import find_binaries
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.cli.stats import command


@pytest.mark.pg_versions(15, 16, 17, 18)
def test_tables_are_those_of_pg_waldump(pg_version: int, tmp_path: Path) -> None:
    program = find_binaries(pg_version).client("pg_waldump")
    assert program is not None
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG) as server:
        run_workload(server)
        server.stop()
        directory = server.wal_directory
        for path in directory.iterdir():
            # A segment made in advance.
            if path.is_file() and not any(path.read_bytes()[:8]):
                path.unlink()
        names = sorted(path.name for path in directory.iterdir() if len(path.name) == 24)
        assert len(names) > 3
        for kind in ("rmgr", "record"):
            theirs = subprocess.run(
                [str(program), f"--stats={kind}", "-p", str(directory), names[0], names[-1]],
                capture_output=True,
                check=False,
            ).stdout.decode()
            assert "Total" in theirs
            for threads in ("1", "2"):
                ours = CliRunner().invoke(command, [str(directory), "--by", kind, "-j", threads])
                assert ours.exit_code == 0, ours.output
                assert ours.stdout == theirs
