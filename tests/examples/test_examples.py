"""The examples, run as they stand on a real server and its store; what they print is checked."""

from __future__ import annotations

import ast
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow.dataset as ds
import pytest

from tests.support.running import Running
from tests.support.servers import PostgresServer
from walstream import format_lsn, read_wal

EXAMPLES = Path(__file__).parents[2] / "examples"


class Story(NamedTuple):
    """A running server, a store with its WAL, and what was done there."""

    server: PostgresServer
    store: Path
    relation: str
    ctid: str
    deleted_by: int
    inserted_by: int
    before_delete: int
    after_delete: int


def example(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with PostgresServer(18) as server:
        store = tmp_path_factory.mktemp("examples") / "store"
        running = Running(server.replication_dsn, store)
        try:
            running.wait_until_indexed(0)
            server.execute("CREATE TABLE accounts (id int PRIMARY KEY, owner text)")
            ((inserted_by,),) = server.execute(
                "WITH new AS (INSERT INTO accounts SELECT g, repeat('o', 100)"
                " FROM generate_series(1, 3000) g RETURNING 1)"
                " SELECT pg_current_xact_id()::text::int FROM new LIMIT 1"
            )
            ((relation, ctid),) = server.execute(
                "SELECT pg_relation_filepath('accounts'), ctid::text FROM accounts WHERE id = 42"
            )
            before_delete = server.insert_lsn()
            ((deleted_by,),) = server.execute(
                "DELETE FROM accounts WHERE id = 42 RETURNING pg_current_xact_id()::text::int"
            )
            after_delete = server.flush_lsn()
            running.wait_until_indexed(after_delete)
            assert running.end(signal.SIGTERM) == 0
        finally:
            running.process.kill()
            running.process.communicate()
        yield Story(
            server, store, relation, ctid, deleted_by, inserted_by, before_delete, after_delete
        )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_imports_the_front_door_only(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 40
    modules = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert "walstream" in modules
    assert not {module for module in modules if module.startswith("walstream.")}


def test_who_deleted(story: Story) -> None:
    found = example("who_deleted", story.store, story.relation, story.ctid)
    deletion, end = found.splitlines()
    assert re.fullmatch(rf"[0-9A-F/]+ DELETE by transaction {story.deleted_by}", deletion)
    assert re.fullmatch(r"[0-9A-F/]+ COMMIT at \S+ \S+", end)
    assert example("who_deleted", story.store, story.relation, "(0,300)") == ""


def test_largest_transactions(story: Story) -> None:
    largest = example("largest_transactions", story.store).splitlines()[0]
    assert re.search(rf"xid {story.inserted_by} +COMMIT", largest)
    hour = datetime.now(UTC).isoformat()
    assert example("largest_transactions", story.store, hour) == ""


def test_wal_to_parquet(story: Story, tmp_path: Path) -> None:
    found = example("wal_to_parquet", story.store, tmp_path)
    rel = int(story.relation.rpartition("/")[2])
    rows = ds.dataset(tmp_path, format="parquet", partitioning="hive")
    assert found == f"{rows.count_rows()} rows\n"
    ours = rows.to_table(filter=ds.field("rel") == rel)
    assert ours.column("operation").to_pylist().count("DELETE") == 1
    assert (tmp_path / "spc=1663").is_dir()


def test_page_at_two_moments(story: Story) -> None:
    block, offset = story.ctid.strip("()").split(",")
    moments = map(format_lsn, (story.before_delete, story.after_delete))
    found = example("page_at_two_moments", story.store, story.relation, block, *moments)
    assert f"Heap/DELETE by {story.deleted_by}: " in found
    changed = [line for line in found.splitlines() if re.match(rf"[-+] *{offset} ", line)]
    assert [line[0] for line in changed] == ["-", "+"]


def test_commits_per_second(story: Story) -> None:
    command = [sys.executable, str(EXAMPLES / "commits_per_second.py"), story.server.dsn, "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            story.server.execute("INSERT INTO accounts SELECT max(id) + 1 FROM accounts")
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert len(lines) == 3
    assert sum(int(line.split()[0]) for line in lines) > 3


def test_stream_to_directory(story: Story, tmp_path: Path) -> None:
    found = example("stream_to_directory", story.server.dsn, tmp_path / "wal", "0.5")
    assert re.fullmatch(r"on disk: 0/\w+ to 0/\w+\n", found)
    assert [path.name[24:] for path in (tmp_path / "wal").iterdir()] == [".partial"]


def test_wal_to_stdout(story: Story) -> None:
    start, end = format_lsn(story.before_delete), format_lsn(story.after_delete)
    command = [sys.executable, str(EXAMPLES / "wal_to_stdout.py"), story.server.dsn, start, end]
    wal = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    records = list(read_wal(io.BytesIO(wal), start, end))
    stored = list(read_wal(story.store, start, end))
    assert [record.data for record in records] == [record.data for record in stored]
    assert any(record.operation == "DELETE" for record in records)
