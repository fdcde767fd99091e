"""``walstream page`` with a range of blocks, on a store of a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer
from walstream.cli import exit_codes

pytestmark = pytest.mark.pg_versions(15, 18)


class Kept(NamedTuple):
    """A store that nobody writes to, and the path of a relation of five blocks."""

    store: Path
    path: str


@pytest.fixture(scope="module")
def kept(pg_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    store = tmp_path_factory.mktemp("ranges") / "store"
    running = Running(pg_server.replication_dsn, store, "--no-slot")
    try:
        running.wait_until_indexed(0)
        pg_server.execute("CREATE TABLE ranges AS SELECT generate_series(1, 226 * 4 + 1) AS i")
        path = pg_server.execute("SELECT pg_relation_filepath('ranges')")[0][0]
        running.wait_until_indexed(pg_server.insert_lsn())
        assert running.end(signal.SIGINT) == 0
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()
    yield Kept(store, str(path))


def raw(kept: Kept, blocks: str) -> bytes:
    command = [sys.executable, "-m", "walstream", "page", str(kept.store), kept.path, blocks]
    return subprocess.run([*command, "--format", "raw"], check=True, stdout=subprocess.PIPE).stdout


def test_a_range_is_its_pages_one_after_another(kept: Kept) -> None:
    single = [raw(kept, str(number)) for number in range(5)]
    assert all(len(page) == 8192 for page in single)
    for blocks, wanted in (
        ("0-4", single),
        ("1-2", single[1:3]),
        ("3-", single[3:]),
        ("2-2", single[2:3]),
    ):
        assert raw(kept, blocks) == b"".join(wanted)
    # A relation ends before the range does.
    assert raw(kept, "4-99") == single[4]


def test_every_page_says_which_it_is(kept: Kept) -> None:
    items = walstream("page", kept.store, kept.path, "1-3").stdout
    assert [line for line in items.splitlines() if line.startswith("block ")] == [
        "block 1",
        "block 2",
        "block 3",
    ]
    alone = walstream("page", kept.store, kept.path, "2").stdout
    assert f"block 2\n{alone}block 3\n" in items
    lines = walstream("page", kept.store, kept.path, "0-", "--json").stdout.splitlines()
    pages = [json.loads(line) for line in lines]
    assert [page.pop("block") for page in pages] == [0, 1, 2, 3, 4]
    one = json.loads(walstream("page", kept.store, kept.path, "4", "--json").stdout)
    assert pages[4] == one


def test_a_range_behind_the_end_is_refused(kept: Kept) -> None:
    answer = walstream("page", kept.store, kept.path, "5-9")
    assert answer.returncode == exit_codes.PAGE
    assert "block 5 is beyond the end" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


def test_a_page_that_cannot_be_rebuilt_leaves_the_others(kept: Kept) -> None:
    whole = walstream("page", kept.store, kept.path, "0-", "--json").stdout.splitlines()
    history = walstream("history", kept.store, kept.path, "2", "--json").stdout.splitlines()
    assert history
    segment = sorted((kept.store / "wal").glob("0*"))[-1]
    content = segment.read_bytes()
    start = json.loads(history[-1])["start_lsn"]
    high, _, low = start.partition("/")
    at = (int(high, 16) << 32 | int(low, 16)) % len(content)
    try:
        segment.write_bytes(content[: at + 20] + bytes(4) + content[at + 24 :])
        answer = walstream("page", kept.store, kept.path, "0-", "--json")
        assert answer.returncode == exit_codes.WAL_DAMAGED
        assert answer.stderr.startswith("block 2: ")
        shown = [json.loads(line)["block"] for line in answer.stdout.splitlines()]
        assert 2 not in shown
        assert {0, 4} <= set(shown)
    finally:
        segment.write_bytes(content)
    assert walstream("page", kept.store, kept.path, "0-", "--json").stdout.splitlines() == whole


@pytest.mark.parametrize("blocks", ["x", "-", "3-1", "1-2-3", "4294967295", "0-4294967295", "1_0"])
def test_what_is_no_range(blocks: str, tmp_path: Path) -> None:
    answer = walstream("page", tmp_path, "base/5/1", "--", blocks)
    assert answer.returncode == exit_codes.USAGE
    assert "expected" in answer.stderr
