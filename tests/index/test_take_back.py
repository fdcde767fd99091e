"""An index that went beyond a switch of the timeline is taken back to it: as if never gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index.test_ingest import RELATIONS, Memory, contents, wal_of_few_blocks
from tests.support.redo import NoRedo
from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from walstream.errors import LsnNotAvailable, StorageError, StoreError, WalError
from walstream.index import keys, page_index
from walstream.index.branch import branch_end
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.pages.service import ClusterFacts, PageService
from walstream.segments.reader import SegmentReader
from walstream.tasks.watermark import Watermark
from walstream.wal.model import BufferTag
from walstream.wal.timeline import TimelineHistory, fork_lsn, parse_history

TAG = BufferTag(*RELATIONS[0], 0, 1)


def begun(path: Path, start_lsn: int) -> PageIndex:
    index = PageIndex(path)
    begin_index(index, start_lsn, [((RELATIONS[0], 0), 2)])
    return index


def index_to(index: PageIndex, source: Memory, version: int, end_lsn: int) -> None:
    own = Ingest(index, source, version, SEGMENT, None)
    try:
        while own.read_lsn < end_lsn:
            own.advance(end_lsn)
    except WalError:
        pass


def meaning(index: PageIndex) -> object:
    """Returns all that can be read of an index; how posting lists are cut into keys is not."""
    stored = contents(index)
    relations = list(index.relations())
    tags = {BufferTag(*keys.BLOCK.unpack(key[:18])[1:]) for key in stored if key[:1] == b"b"}
    return (
        {key: value for key, value in stored.items() if key[:1] != b"b"},
        relations,
        {tag: list(index.entries(tag)) for tag in tags},
    )


@given(wal=wal_of_few_blocks(), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_taken_back_it_is_as_if_it_had_never_gone_further(
    tmp_path_factory: pytest.TempPathFactory, wal: WalWriter, data: st.DataObject
) -> None:
    paths = tmp_path_factory.mktemp("indexes")
    source = Memory(wal.start_lsn, bytes(wal.data))
    cut = data.draw(st.integers(wal.start_lsn, source.end_lsn))
    whole, short = begun(paths / "whole", wal.start_lsn), begun(paths / "short", wal.start_lsn)
    index_to(whole, source, wal.version, source.end_lsn)
    index_to(short, source, wal.version, cut)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_index, "DELETES_AT_ONCE", data.draw(st.sampled_from([1, 3, 1000])))
        whole.take_back(cut)
    # The newest record may have left no key: then reading goes on at one before it.
    index_to(whole, source, wal.version, cut)
    assert meaning(whole) == meaning(short)
    whole.close()
    short.close()


def test_an_interrupted_one_is_done_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = WalWriter()
    records = [wal.add(11, 0, 7, record_body(18, [Block(0, TAG)])) for _ in range(40)]
    index = begun(tmp_path / "index", SEGMENT)
    source = Memory(SEGMENT, bytes(wal.data))
    for record in records:
        index_to(index, source, 18, record.end_lsn)
    monkeypatch.setattr(page_index, "DELETES_AT_ONCE", 5)
    batches, write = [], index._db.write

    def fails_later(batch: object) -> None:
        batches.append(batch)
        if len(batches) == 4:
            raise Exception("IO error: no space")  # noqa: TRY002 (as rocksdict raises it)
        write(batch)

    monkeypatch.setattr(index, "_db", Failing(index._db, fails_later))
    with pytest.raises(StorageError, match="no space"):
        index.take_back(records[9].end_lsn)
    index.close()
    index = PageIndex(tmp_path / "index")
    assert index.taken_back_to() == records[9].end_lsn
    own = Ingest(index, source, 18, SEGMENT, None)
    assert own.last_record_end == records[9].end_lsn
    assert [entry.end_lsn for entry in index.entries(TAG)] == [
        record.end_lsn for record in reversed(records[:10])
    ]
    assert index.taken_back_to() is None
    index.close()


class Failing:
    """A database whose writes go through a function."""

    def __init__(self, database: object, write: object) -> None:
        self._database = database
        self.write = write

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._database[key] = value  # type: ignore[index]


def branch(records: int, timeline: int, before: WalWriter | None = None) -> WalWriter:
    """Returns WAL of that many records; of another timeline where it goes on after ``before``."""
    wal = WalWriter(timeline=timeline)
    if before is not None:
        wal.data, wal.records = bytearray(before.data), list(before.records)
        wal.lsn, wal.prev = before.lsn, before.prev
    for number in range(records):
        wal.add(11, 0, timeline, record_body(18, [Block(0, TAG)], bytes(1 + number % 7)))
    return wal


async def test_ingest_leaves_a_dead_branch_before_it_reads_on(tmp_path: Path) -> None:
    common = branch(5, 1)
    dead, live = branch(300, 1, common), branch(700, 2, common)
    index = begun(tmp_path / "index", SEGMENT)
    one = parse_history(1, b"")
    old = Ingest(index, Memory(SEGMENT, bytes(dead.data)), 18, SEGMENT, None, lambda: one)
    while old.read_lsn < dead.lsn:
        old.advance(dead.lsn)
    assert old.leave_dead_branch() is None

    two = parse_history(2, f"1\t0/{common.lsn:X}\tno recovery target\n".encode())
    new = Ingest(index, Memory(SEGMENT, bytes(live.data)), 18, SEGMENT, None, lambda: two)
    flushed, ingested = Watermark(), Watermark(new.last_record_end)
    async with trio.open_nursery() as nursery:
        await nursery.start(new.run, flushed, ingested)
        # The writer has gone back to the segment of the switch.
        flushed.advance(common.lsn)
        flushed.advance(live.lsn)
        with trio.fail_after(60):
            await new.caught_up(live.lsn)
        nursery.cancel_scope.cancel()
    expected = [(record.end_lsn, record.start_lsn) for record in reversed(live.records)]
    assert [(entry.end_lsn, entry.start_lsn) for entry in index.entries(TAG)] == expected
    index.close()


def test_readers_stop_where_the_server_left_what_was_indexed(tmp_path: Path) -> None:
    """Until run has taken the index back: what comes after is of no branch that there is."""
    common = branch(5, 1)
    dead = branch(300, 1, common)
    index = begun(tmp_path / "index", SEGMENT)
    one = parse_history(1, b"")
    old = Ingest(index, Memory(SEGMENT, bytes(dead.data)), 18, SEGMENT, None, lambda: one)
    while old.read_lsn < dead.lsn:
        old.advance(dead.lsn)
    assert branch_end(index, one) is None
    two = parse_history(2, f"1\t0/{common.lsn:X}\tno recovery target\n".encode())
    left = branch_end(index, two)
    assert left == common.lsn
    archive = SegmentReader(tmp_path, SEGMENT)
    facts = ClusterFacts(18, False, False)
    pages = PageService(index, archive, [], facts, NoRedo(), branch_end=left)
    assert pages.last_record_lsn == pages.last_valid_lsn == common.lsn
    assert pages.planner.check_lsn(None) == common.lsn
    with pytest.raises(LsnNotAvailable, match=f"of a branch that the server left at 0/{left:X}"):
        pages.planner.check_lsn(dead.lsn)
    index.close()


def test_an_index_that_begins_on_the_dead_branch_is_refused(tmp_path: Path) -> None:
    index = begun(tmp_path / "index", SEGMENT)
    with pytest.raises(StoreError, match=r"begins at 0/100000, after 0/FF000.*make a new store"):
        index.take_back(SEGMENT - 0x1000)
    index.close()


def history(*parts: tuple[int, int]) -> TimelineHistory:
    lines = "".join(f"{timeline}\t0/{end:X}\tx\n" for timeline, end in parts[:-1])
    return parse_history(parts[-1][0], lines.encode())


@pytest.mark.parametrize(
    ("old", "new", "end", "expected"),
    [
        (history((1, 0)), history((1, 0)), 500, 500),
        (history((1, 0)), history((1, 400), (2, 0)), 500, 400),
        (history((1, 0)), history((1, 600), (2, 0)), 500, 500),
        (history((1, 400), (2, 0)), history((1, 400), (2, 450), (5, 0)), 500, 450),
        (history((1, 400), (2, 0)), history((1, 300), (3, 0)), 500, 300),
        (history((1, 400), (2, 0)), history((1, 400), (3, 0)), 500, 400),
        (history((1, 400), (2, 0)), history((1, 450), (3, 0)), 500, 400),
        (history((1, 400), (2, 0)), history((3, 0)), 500, 0),
    ],
)
def test_where_two_histories_part(
    old: TimelineHistory, new: TimelineHistory, end: int, expected: int
) -> None:
    assert min(fork_lsn(old, new), end) == expected
