"""examples/stream_to_directory.py, run as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.servers import PostgresServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "stream_to_directory.py"


def test_stream_to_directory(tmp_path: Path) -> None:
    with PostgresServer(18) as server:
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
        command = [sys.executable, str(EXAMPLE), server.dsn, str(tmp_path / "wal"), "0.5"]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        assert found.stdout.startswith("on disk: 0/")
        assert len(list((tmp_path / "wal").iterdir())) == 1
    assert len(EXAMPLE.read_text().splitlines()) < 40
