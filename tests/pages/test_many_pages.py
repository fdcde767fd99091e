"""Many pages at once, and pages that are remembered, against every page planned by itself."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.pages.test_service import build_service
from tests.support.redo import InProcessRedo
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.errors import LsnNotAvailable, PageDamaged, SegmentMissing, WalstreamError
from walstream.pages.plan import Plan
from walstream.pages.service import Base, Block, PageService
from walstream.redo.manager import RedoConfig, RedoManager
from walstream.redo.protocol import RedoRequest
from walstream.redo.rules.checksum import with_checksum
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.relpath import parse_relation_file, relation_file

pytestmark = pytest.mark.pg_versions(15, 18)

Fork = tuple[RelFileLocator, int]
Found = bytes | tuple[type[WalstreamError], str]


class Past(NamedTuple):
    """A cluster that was shut down: what knows its past, every fork in it, and moments."""

    service: PageService
    backup: Path
    forks: list[Fork]
    moments: list[int]


@pytest.fixture(scope="module", params=[15, 18])
def past(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Past]:
    with PostgresServer(request.param, config=WORKLOAD_CONFIG) as server:
        server.execute("CREATE TABLE old AS SELECT i, 'x' || i t FROM generate_series(1, 20000) i")
        server.execute("CREATE TABLE cut AS SELECT i FROM generate_series(1, 20000) i")
        backup = server.base_backup(tmp_path_factory.mktemp("backup") / "base")
        moments = [server.insert_lsn()]
        server.execute("UPDATE old SET t = 'y' WHERE i % 501 = 0")
        server.execute("DELETE FROM cut WHERE i > 3000")
        server.execute("VACUUM cut")
        moments.append(server.insert_lsn())
        for _ in range(40):
            server.execute("UPDATE old SET t = t || 'z' WHERE i = 1")
        server.execute("INSERT INTO cut SELECT generate_series(1, 10000)")
        moments.append(server.insert_lsn())
        server.execute("CREATE DATABASE copied TEMPLATE template0")
        run_workload(server)
        server.execute("TRUNCATE cut")
        server.execute("INSERT INTO cut SELECT generate_series(1, 1000)")
        server.stop()
        service = build_service(server, backup, tmp_path_factory.mktemp("store"))
        forks = set()
        for path in server.data_directory.rglob("*"):
            file = parse_relation_file(path.relative_to(server.data_directory).as_posix())
            if file is not None and path.is_file():
                forks.add((file.locator, int(file.fork)))
        for locator, fork in service.bases[0].pages.sizes():
            forks.add((locator, fork))
        moments.append(service.last_record_lsn)
        yield Past(service, backup, sorted(forks), moments)
        service.index.close()


def anew(past: Past, **changes: object) -> PageService:
    """A service like that of ``past``, that remembers nothing yet."""
    service = past.service
    values = {
        "archive": service.archive,
        "bases": service.bases,
        "redo": InProcessRedo(),
        **changes,
    }
    return PageService(service.index, facts=service.facts, **values)  # type: ignore[arg-type]


async def plainly(service: PageService, tag: BufferTag, lsn: int) -> Found:
    """The page as its plan says, step by step, or what is raised."""
    try:
        page = await _redone(service, service.planner.plan(tag, lsn))
    except WalstreamError as error:
        return type(error), str(error)
    return with_checksum(page, tag.block) if service.facts.checksums else page


async def _redone(service: PageService, plan: Plan) -> bytes:
    base = await _redone(service, plan.base) if isinstance(plan.base, Plan) else plan.base
    if not plan.entries:
        assert base is not None
        return base
    request = RedoRequest(plan.tag, base, service.planner.records(plan.entries))
    facts = service.facts
    return await InProcessRedo().redo(request, version=facts.version, stamp_hints=facts.stamp_hints)


async def read(service: PageService, fork: Fork, blocks: Sequence[int], lsn: int) -> list[Block]:
    found: list[Block] = []
    async with service.get_pages(*fork, blocks, lsn) as batches:
        async for batch in batches:
            found += batch
    return found


def told(block: Block) -> Found:
    if block.page is not None:
        assert block.error is None
        return block.page
    assert block.error is not None
    return type(block.error), str(block.error)


async def compare(service: PageService, fork: Fork, blocks: Sequence[int], lsn: int) -> int:
    """Compares some blocks; returns how many could be rebuilt."""
    found = await read(service, fork, blocks, lsn)
    assert [block.number for block in found] == list(blocks)
    for block in found:
        tag = BufferTag(*fork[0], fork[1], block.number)
        assert told(block) == await plainly(service, tag, lsn), f"{tag} at {lsn:X}"
    return sum(block.page is not None for block in found)


@pytest.mark.timeout(600)
async def test_every_page_of_every_fork_at_every_moment(past: Past) -> None:
    service = anew(past)
    pages = 0
    for lsn in past.moments:
        for fork in past.forks:
            size = service.index.size_at(*fork, lsn) or 0
            pages += await compare(service, fork, range(size + 2), lsn)
    assert pages > 8000


async def test_blocks_with_gaps(past: Past) -> None:
    service, lsn = anew(past), past.moments[-1]
    chosen = random.Random(1)
    for fork in past.forks:
        size = service.index.size_at(*fork, lsn) or 0
        if size > 20:
            await compare(service, fork, sorted(chosen.sample(range(size), size // 3)), lsn)


async def test_nothing_and_what_does_not_ascend(past: Past) -> None:
    service, fork = anew(past), past.forks[0]
    assert await read(service, fork, [], past.moments[-1]) == []
    for blocks in ([1, 0], [0, 0], range(3, 0, -1)):
        with pytest.raises(ValueError, match="ascending"):
            await read(service, fork, blocks, past.moments[-1])
    with pytest.raises(LsnNotAvailable, match="has not been reached"):
        await read(service, fork, [0], past.moments[-1] + 1)
    with pytest.raises(LsnNotAvailable, match="before the store begins"):
        await read(service, fork, [0], 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20, 64 << 20])
async def test_single_pages_of_many_callers(past: Past, cache_bytes: int) -> None:
    # Callers ask for few pages at moments between all records of these, often for the same.
    service = anew(past, cache_bytes=cache_bytes)
    chosen = random.Random(cache_bytes)
    asked: list[tuple[BufferTag, int]] = []
    forks = chosen.sample(past.forks, min(40, len(past.forks)))
    for locator, fork in forks:
        tag = BufferTag(locator.spc_oid, locator.db_oid, locator.rel_number, fork, 0)
        ends = [entry.end_lsn for entry in service.index.entries(tag)]
        moments = [*past.moments, *(end + chosen.choice((-1, 0, 1)) for end in ends)]
        moments = [lsn for lsn in moments if past.moments[0] <= lsn <= past.moments[-1]]
        size = max(1, *(service.index.size_at(locator, fork, lsn) or 0 for lsn in past.moments))
        for _ in range(50):
            block = chosen.choice((0, chosen.randrange(size)))
            asked.append((tag._replace(block=block), chosen.choice(moments)))
    chosen.shuffle(asked)
    waiting = iter(asked)
    found: list[tuple[BufferTag, int, Found]] = []

    async def call() -> None:
        for tag, lsn in waiting:
            try:
                found.append((tag, lsn, await service.get_page(tag, lsn)))
            except WalstreamError as error:
                found.append((tag, lsn, (type(error), str(error))))

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(call)
    assert len(found) == len(asked)
    for tag, lsn, page in found:
        assert page == await plainly(service, tag, lsn), f"{tag} at {lsn:X}"


def largest(past: Past) -> tuple[Fork, int]:
    """The fork with the most blocks at the last moment, and how many it has."""
    lsn = past.moments[-1]
    sizes = {fork: past.service.index.size_at(*fork, lsn) or 0 for fork in past.forks}
    fork = max(sizes, key=lambda fork: sizes[fork])
    return fork, sizes[fork]


async def test_redo_children_give_the_same(past: Past) -> None:
    fork, size = largest(past)
    lsn = past.moments[-1]
    expected = await read(anew(past), fork, range(size), lsn)
    manager = RedoManager(RedoConfig())
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        service = anew(past, redo=manager)
        assert await read(service, fork, range(size), lsn) == expected
        for block in expected[:: size // 20]:
            tag = BufferTag(*fork[0], fork[1], block.number)
            assert await service.get_page(tag, lsn) == block.page
        manager.shutdown()


async def test_reading_may_stop_anywhere(past: Past) -> None:
    fork, size = largest(past)
    lsn = past.moments[-1]
    service = anew(past)
    async with service.get_pages(*fork, range(size), lsn) as batches:
        async for _ in batches:
            break
    with pytest.raises(KeyError):
        async with service.get_pages(*fork, range(size), lsn):
            raise KeyError
    for steps in range(1, 40):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, service, fork, range(size), lsn)
                await trio.lowlevel.checkpoint()
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught
    assert len(await read(service, fork, range(100), lsn)) == 100


async def test_a_missing_segment_costs_the_pages_that_need_it(past: Past, tmp_path: Path) -> None:
    lsn = past.moments[2]
    segment_size = past.service.archive.segment_size
    wal = tmp_path / "wal"
    wal.mkdir()
    for path in past.service.archive.path.iterdir():
        if path.is_file():
            (wal / path.name).symlink_to(path)
    tag, needed = next(
        (tag, entry)
        for locator, fork in past.forks
        for tag in (BufferTag(*locator, fork, 0),)
        for entry in past.service.index.entries(tag, lsn)
        if entry.end_lsn > past.moments[0] and past.service.index.size_at(locator, fork, lsn)
    )
    missing = SegmentReader(wal, segment_size).find(needed.start_lsn // segment_size)
    assert missing is not None
    missing.unlink()
    service = anew(past, archive=SegmentReader(wal, segment_size))
    rebuilt = failed = 0
    for fork in past.forks:
        size = service.index.size_at(*fork, lsn) or 0
        rebuilt += (good := await compare(service, fork, range(size), lsn))
        failed += size - good
    assert rebuilt > 0
    assert failed > 0
    with pytest.raises(SegmentMissing):
        await service.get_page(tag, lsn)


async def test_a_damaged_base_page_costs_only_itself(past: Past, tmp_path: Path) -> None:
    lsn = past.moments[0]
    whole = past.service.bases[0]
    sizes = whole.pages.sizes()
    index = past.service.index
    tag = next(
        tag
        for (locator, fork), blocks in sizes.items()
        for tag in (BufferTag(*locator, fork, 10),)
        if 40 < blocks == index.size_at(locator, fork, lsn) and not [*index.entries(tag, lsn)]
    )
    fork = (tag.locator, tag.fork)
    shutil.copytree(past.backup, tmp_path / "backup")
    pages = BasePages(tmp_path / "backup", checksums=past.service.facts.checksums)
    name = relation_file(fork[0], fork[1], 0, "")
    with (tmp_path / "backup" / name).open("r+b") as file:
        file.seek(10 * 8192 + 5000)
        byte = file.read(1)[0]
        file.seek(10 * 8192 + 5000)
        file.write(bytes((byte ^ 1,)))
    service = anew(past, bases=[Base(whole.start_lsn, whole.stop_lsn, pages)])
    size = service.index.size_at(*fork, lsn)
    assert size is not None
    good = await compare(service, fork, range(size), lsn)
    # Pages without a checksum, all or those that are zeros, need the manifest, of the whole file.
    assert good < size
    assert good > size // 2 or not service.facts.checksums
    with pytest.raises(PageDamaged):
        await service.get_page(tag, lsn)


async def test_what_was_taken_back_is_not_given(past: Past) -> None:
    fork, size = largest(past)
    service = anew(past, branch_end=past.moments[1])
    with pytest.raises(LsnNotAvailable, match="of a branch that the server left"):
        await read(service, fork, range(size), past.moments[2])
