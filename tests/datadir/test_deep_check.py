"""``walstream verify --deep``: sound clusters are called sound, and what is not is told of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.running import walstream
from tests.support.servers import PostgresServer
from tests.support.stopped import Stopped, note_paths, stopped_cluster
from tests.support.workload import WORKLOAD_CONFIG, run_sql_files
from walstream.app.open import open_past
from walstream.cli import exit_codes
from walstream.datadir.deep_check import DeepCheck, DeepReport
from walstream.index.moment import parse_moment
from walstream.pages.service import PageService
from walstream.pages.soundness import btree_links, page_faults, tree_faults
from walstream.redo.rules.checksum import with_checksum
from walstream.segments.reader import SegmentReader
from walstream.wal.model import BLCKSZ, BufferTag
from walstream.wal.relpath import parse_relation_file

pytestmark = [pytest.mark.timeout(600), pytest.mark.pg_versions(15, 18)]


def work(server: PostgresServer) -> None:
    server.execute("CREATE TABLE plain AS SELECT i, md5(i::text) t FROM generate_series(1, 9000) i")
    server.execute("CREATE TABLE hinted AS SELECT * FROM plain")
    server.execute("CREATE INDEX plain_i ON plain (i)")
    # Hint bits of pages that nothing else changed since the checkpoint.
    server.execute("CHECKPOINT")
    server.execute("SELECT count(*) FROM hinted")
    run_sql_files(server)
    note_paths(server, "hinted", "plain_i")


@pytest.fixture(scope="module", params=["hints", "consistency"])
def stopped(pg_version: int, request: pytest.FixtureRequest) -> Iterator[Stopped]:
    logs = request.param == "consistency"
    config = {**WORKLOAD_CONFIG, **({"wal_consistency_checking": "all"} if logs else {})}
    with stopped_cluster(pg_version, work, config=config) as stopped:
        yield stopped


def deep(stopped: Stopped, *options: object, code: int = 0) -> dict[str, Any]:
    done = walstream("verify", "--deep", "--json", *options, stopped.store)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_sound_store_and_what_is_remembered(stopped: Stopped) -> None:
    first = deep(stopped, "--all")
    assert first["verdict"] == "sound" and first["remembered"] == 0
    pages = first["pages"]
    assert pages["bad"] == [] and first["bases"]["damaged"] == []
    assert pages["pages"] == pages["pages_of"] > 3000
    assert pages["images"] > 20
    again = deep(stopped, "--sample", "5%")
    assert again["remembered"] >= again["segments"] - 2 and again["segments"] > 4
    assert again["bases"]["remembered"] == again["bases"]["files"] > 900
    assert 0 < again["pages"]["pages"] < pages["pages"] / 5
    # Only what is as it was then is remembered.
    segment = sorted((stopped.store / "wal").glob("*[0-9A-F]"))[3]
    content = segment.read_bytes()
    segment.write_bytes(content[:9000] + b"?" + content[9001:])
    done = walstream("verify", stopped.store)
    assert done.returncode == exit_codes.WAL_DAMAGED, done.stdout
    segment.write_bytes(content)
    done = walstream("verify", stopped.store)
    assert done.returncode == 0, done.stdout


def test_the_pages_of_a_server_are_sound(stopped: Stopped) -> None:
    """What PostgreSQL itself writes is never called bad, of whatever access method."""
    count = 0
    for path in sorted((stopped.data / "base").rglob("*")):
        file = parse_relation_file(path.relative_to(stopped.data).as_posix())
        if file is None or not path.is_file():
            continue
        data = path.read_bytes()
        tree = {}
        for block in range(len(data) // BLCKSZ):
            page = data[block * BLCKSZ : (block + 1) * BLCKSZ]
            assert page_faults(page, file.fork, block, checksums=True) == [], (path, block)
            links = btree_links(page) if file.fork == 0 else None
            if links is not None:
                tree[block] = links
            count += 1
        assert list(tree_faults(tree, len(data) // BLCKSZ)) == [], path
    assert count > 3000


class Altered:
    """A page service whose pages are changed on the way out."""

    def __init__(self, pages: PageService, change: Callable[[BufferTag, bytes], bytes]) -> None:
        self._pages = pages
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pages, name)

    async def get_page(self, tag: BufferTag, at_lsn: int | None = None) -> bytes:
        return self._change(tag, await self._pages.get_page(tag, at_lsn))


def check_altered(store: Path, change: Callable[[BufferTag, bytes], bytes]) -> DeepReport:
    async def main() -> DeepReport:
        async with open_past(store) as past:
            lsn = (await past.moment(parse_moment("latest"))).lsn
            source = past.source(lsn)
            archive = SegmentReader(source.archive.path, source.archive.segment_size)
            try:
                pages: Any = Altered(past.pages, change)
                return await DeepCheck(pages, replace(source, archive=archive), lsn).run()
            finally:
                archive.close()

    return trio.run(main)


def test_what_is_not_as_it_should_be(stopped: Stopped) -> None:
    """Links of a B-tree, a tuple that is not what an image shows: only these are told of."""
    table = parse_relation_file(stopped.relation("hinted").relative_to(stopped.data).as_posix())
    index = parse_relation_file(stopped.relation("plain_i").relative_to(stopped.data).as_posix())
    assert table is not None and index is not None

    def change(tag: BufferTag, page: bytes) -> bytes:
        data = bytearray(page)
        if tag == BufferTag(*index.locator, 0, 2):
            data[-16] ^= 0x05  # btpo_prev
        elif tag.locator == table.locator and tag.fork == 0 and tag.block == 1:
            data[-20] ^= 0x40  # within the first tuple
        else:
            return page
        return with_checksum(bytes(data), tag.block)

    report = check_altered(stopped.store, change)
    told = {(bad.tag.rel_number, bad.tag.block): bad.faults for bad in report.bad}
    tree = [told.pop(key) for key in list(told) if key[0] == index.locator.rel_number]
    assert any("its right sibling 2 is level 0 behind" in fault for each in tree for fault in each)
    (faults,) = [told.pop(key) for key in list(told) if key[0] == table.locator.rel_number]
    assert "from its image in the record at" in faults[0]
    assert not told


def test_a_damaged_base_backup(stopped: Stopped) -> None:
    (base,) = (stopped.store / "base").glob("*[0-9A-F]")
    path = base / "PG_VERSION"
    content = path.read_bytes()
    path.write_bytes(b"?" + content[1:])
    found = deep(stopped, "--sample", "1%", code=exit_codes.STORE)
    (line,) = found["bases"]["damaged"]
    assert str(path) in line
    path.write_bytes(content)


def test_options_that_do_not_fit(stopped: Stopped, tmp_path: Path) -> None:
    for options, said in (
        (("--deep", tmp_path), "is no store"),
        (("--sample", "5%", stopped.store), "go with --deep"),
        (("--deep", "--sample", "0%", stopped.store), "expected a share"),
    ):
        done = walstream("verify", *options)
        assert done.returncode == exit_codes.USAGE and said in done.stderr
    done = walstream("verify", "--deep", "--at", "F/0", stopped.store)
    assert done.returncode == exit_codes.PAGE and "F/0" in done.stderr
