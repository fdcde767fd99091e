"""GetPage@LSN on real clusters: whole clusters compared, pages in the past, precise refusals.

Redo runs in process here: the children have tests of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.index.stored import posting_list
from tests.support.redo import InProcessRedo
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.errors import LsnNotAvailable, NoBaseImage, PageNotFound, RecordError, WalError
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import Batch, Entry, PageIndex, SizeChange, SizeKind
from walstream.pages.compare import compare_with_directory
from walstream.pages.items import heap_tuple, page_header, page_items
from walstream.pages.service import Base, ClusterFacts, PageService
from walstream.redo.rules.checksum import page_checksum
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import BufferTag, RelFileLocator, parse_lsn
from walstream.wal.relpath import parse_relation


class Past(NamedTuple):
    """A cluster that was shut down, and what walstream knows of its past."""

    server: PostgresServer
    service: PageService
    moments: dict[str, int]
    paths: dict[str, str]


def build_service(server: PostgresServer, backup: Path, tmp_path: Path) -> PageService:
    """Returns a service over a base backup and the server's own pg_wal."""
    start_lsn = parse_lsn((backup / "backup_label").read_text().split()[3])
    base = BasePages(backup)
    archive = SegmentReader(server.wal_directory, server.segment_size)
    index = PageIndex(tmp_path / "index")
    begin_index(index, start_lsn, base.sizes().items())
    ingest = Ingest(index, archive, server.version, server.segment_size, None)
    # Reading ends where nothing was written, or in an old segment that waits for its next use.
    with contextlib.suppress(WalError):
        while ingest.end_of_wal is None:
            ingest.advance(ingest.read_lsn + server.segment_size)
    hints = server.version >= 18
    facts = ClusterFacts(server.version, hints, hints)
    return PageService(index, archive, [Base(start_lsn, start_lsn, base)], facts, InProcessRedo())


@pytest.fixture(scope="module")
def past(pg_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG) as server:
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        moments = {}
        server.execute("CREATE TABLE ledger (id int PRIMARY KEY, note text)")
        server.execute("INSERT INTO ledger SELECT i, 'first ' || i FROM generate_series(1, 500) i")
        moments["inserted"] = server.insert_lsn()
        server.execute("UPDATE ledger SET note = 'second ' || id WHERE id % 7 = 0")
        moments["updated"] = server.insert_lsn()
        server.execute("DELETE FROM ledger WHERE id > 20")
        server.execute("VACUUM ledger")
        moments["deleted"] = server.insert_lsn()
        run_workload(server)
        paths = {"ledger": str(server.execute("SELECT pg_relation_filepath('ledger')")[0][0])}
        server.execute("CREATE TABLE gone (id int)")
        server.execute("INSERT INTO gone VALUES (1)")
        paths["gone"] = str(server.execute("SELECT pg_relation_filepath('gone')")[0][0])
        moments["before drop"] = server.insert_lsn()
        server.execute("DROP TABLE gone")
        last_lsn = server.flush_lsn()
        server.stop()
        service = build_service(server, backup, tmp_path_factory.mktemp("store"))
        assert service.last_record_lsn >= last_lsn
        yield Past(server, service, moments, paths)
        service.index.close()


def block(past: Past, table: str, number: int = 0) -> BufferTag:
    locator, fork = parse_relation(past.paths[table])
    return BufferTag(*locator, fork, number)


def notes(page: bytes) -> list[str]:
    """Returns the notes of the tuples of a ledger page that are not deleted, in order."""
    found = []
    for item in page_items(page):
        row = heap_tuple(item.data)
        if row is not None and row.xmax == 0:
            found.append(row.data[5:].decode())
    return found


async def test_every_page_of_the_cluster_equals_the_servers_own(past: Past) -> None:
    directory = past.server.data_directory
    files = [p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()]
    comparison = await compare_with_directory(past.service, directory, sorted(files))
    assert comparison.differences == []
    assert comparison.pages > 5000


async def test_a_page_in_the_past(past: Past) -> None:
    tag = block(past, "ledger")
    inserted = notes(await past.service.get_page(tag, past.moments["inserted"]))
    assert inserted[:7] == [f"first {i}" for i in range(1, 8)]
    updated = notes(await past.service.get_page(tag, past.moments["updated"]))
    assert "first 7" not in updated
    assert "first 6" in updated
    deleted = notes(await past.service.get_page(tag, past.moments["deleted"]))
    assert "first 20" in deleted
    assert "first 22" not in deleted


async def test_pages_carry_the_checksum_of_their_cluster(past: Past) -> None:
    tag = block(past, "ledger")
    page = await past.service.get_page(tag, past.moments["deleted"])
    stored = page_header(page).checksum
    assert (stored == page_checksum(page, tag.block)) == past.service.facts.checksums


def test_the_history_tells_who_changed_the_page(past: Past) -> None:
    tag = block(past, "ledger")
    changes = past.service.history(tag, to_lsn=past.moments["inserted"])
    assert (changes[0].rmgr, changes[0].op, changes[0].makes_page) == ("Heap", "INSERT+INIT", True)
    assert changes[0].description.startswith("off: 1") or changes[0].description.startswith("off 1")
    assert len({change.xid for change in changes}) == 1
    later = past.service.history(tag, past.moments["inserted"], past.moments["updated"])
    assert "UPDATE" in {change.op.removeprefix("HOT_") for change in later}
    assert not {change.op for change in later} & {"INSERT", "DELETE"}
    assert past.service.history(tag, limit=1)[0].end_lsn == past.service.history(tag)[-1].end_lsn


async def test_what_cannot_be_answered_is_refused_precisely(past: Past) -> None:
    service, tag = past.service, block(past, "ledger")
    last = service.last_record_lsn
    with pytest.raises(PageNotFound, match=r"block 9999 is beyond the end .* it has \d+ blocks at"):
        await service.get_page(tag._replace(block=9999))
    with pytest.raises(PageNotFound, match=r"relation 1663/1/9 fork main does not exist at"):
        await service.get_page(BufferTag(1663, 1, 9, 0, 0))
    with pytest.raises(LsnNotAvailable, match=r"LSN 0/10 is before the store begins: the earliest"):
        await service.get_page(tag, 0x10)
    with pytest.raises(LsnNotAvailable, match="has not been reached: the newest record ends at"):
        await service.get_page(tag, last + 1)
    gone = block(past, "gone")
    assert await service.get_page(gone, past.moments["before drop"])
    with pytest.raises(PageNotFound, match="does not exist at"):
        await service.get_page(gone)
    with pytest.raises(PageNotFound, match="does not exist at"):
        await service.get_page(tag, service.first_lsn)


async def test_a_page_without_a_base_is_refused(past: Past) -> None:
    index = past.service.index
    locator = RelFileLocator(1663, 5, 99999)
    lsn = past.service.last_record_lsn
    batch = Batch()
    batch.sizes = [(locator, 0, SizeChange(lsn, SizeKind.EXTEND, 1))]
    batch.pairs.append(posting_list((*locator, 0, 0), [Entry(lsn, lsn - 100, 0)]))
    index.write(batch)
    with pytest.raises(NoBaseImage, match="no base for block 0 of 1663/5/99999: the oldest of 1"):
        await past.service.get_page(BufferTag(*locator, 0, 0))


async def test_a_corrupt_byte_in_a_segment_is_a_named_error(past: Past) -> None:
    tag = block(past, "ledger")
    first = past.service.history(tag)[0]
    whole = past.service
    service = PageService(
        whole.index, whole.archive, whole.bases, whole.facts, InProcessRedo(), cache_bytes=0
    )
    number, offset = divmod(first.start_lsn, past.server.segment_size)
    path = past.service.archive.find(number)
    assert path is not None
    with path.open("r+b") as file:
        file.seek(offset + 30)
        byte = file.read(1)[0]
        file.seek(offset + 30)
        file.write(bytes((byte ^ 1,)))
    with pytest.raises(RecordError, match="incorrect resource manager data checksum in record"):
        await service.get_page(tag, past.moments["inserted"])
    with path.open("r+b") as file:
        file.seek(offset + 30)
        file.write(bytes((byte,)))
    assert await service.get_page(tag, past.moments["inserted"])
