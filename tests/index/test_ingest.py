"""Ingest against a plain reference: every key and value of the index is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.reference import Reference, said
from tests.support.pure import load
from tests.support.servers import PostgresServer
from tests.support.strategies import versions
from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.errors import RecordError, WalError
from walstream.index import digest, ingest, postings
from walstream.index.ends import restore_points
from walstream.index.page_index import Entry, PageIndex
from walstream.segments.reader import SegmentReader
from walstream.store.base_backup_pages import BasePages
from walstream.wal.model import BufferTag, PageImage, RelFileLocator, parse_lsn

PURE = load("walstream.index.postings", {})
BUILDS: list[ModuleType] = [postings, PURE]
builds = pytest.mark.parametrize("build", BUILDS, ids=("installed", "pure"))


class Memory:
    """WAL in memory."""

    def __init__(self, start_lsn: int, data: bytes) -> None:
        self.start_lsn = start_lsn
        self.data = data
        self.end_lsn = start_lsn + len(data)

    def read(self, lsn: int, length: int) -> bytes:
        return self.data[lsn - self.start_lsn : lsn - self.start_lsn + length]


@contextlib.contextmanager
def built(build: ModuleType, read_size: int = ingest.READ_SIZE) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "PostingLists", build.PostingLists)
        patch.setattr(ingest, "READ_SIZE", read_size)
        yield


def contents(index: PageIndex) -> dict[bytes, bytes]:
    return dict(index.scan(b"", b""))


def run(
    index: PageIndex, source: ingest.WalSource, version: int, segment_size: int, upto_lsn: int
) -> WalError | None:
    """Indexes up to ``upto_lsn`` or an error, which every later call must raise again."""
    own = ingest.Ingest(index, source, version, segment_size, None)
    try:
        while own.read_lsn < upto_lsn:
            own.advance(upto_lsn)
    except WalError as error:
        with pytest.raises(type(error)) as again:
            own.advance(upto_lsn)
        assert again.value is error
        return error
    return None


RELATIONS = (RelFileLocator(1663, 5, 16384), RelFileLocator(1663, 6, 16384))
tags = st.builds(
    BufferTag,
    st.just(1663),
    st.sampled_from([5, 6]),
    st.just(16384),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([0, 1, 2, 40000, 2**32 - 1]),
)


@st.composite
def blocks(draw: st.DrawFn) -> list[Block]:
    found = []
    for number in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        image = None
        if draw(st.integers(0, 4)) == 0:
            image = PageImage(bytes(100), 100, 8092, 0, draw(st.booleans()))
        init = draw(st.integers(0, 3)) == 0
        found.append(Block(number, draw(tags), draw(st.binary(max_size=9)), image, init))
    return found


@st.composite
def wal_of_few_blocks(draw: st.DrawFn) -> WalWriter:
    """Records of all that matters to the index, and much on the same few blocks."""
    version = draw(versions)
    wal = WalWriter(version, SEGMENT, SEGMENT)
    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.integers(0, 9))
        rmgr, info, body = 10, 0x00, draw(st.binary(max_size=12))
        refs = draw(blocks())
        if kind <= 4:
            rmgr = draw(st.sampled_from([9, 10, 10, 10, 11, 20]))
            info = draw(st.sampled_from([0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x80]))
        elif kind == 5:
            rmgr = draw(st.sampled_from([0, 0, 3, 5, 7, 8, 18, 19, 21, 133]))
            if version == 14 and rmgr == 133:
                rmgr = 21
            info = draw(st.sampled_from([0x00, 0x10, 0x60, 0x70, 0xA0, 0xB0]))
            if rmgr == 0 and info == 0x60 and draw(st.booleans()):
                level = draw(st.sampled_from([0, 1]))
                numbers = [100, 8, 10, 0, 64, level, 0]
                body = b"".join(number.to_bytes(4, "little") for number in numbers)
        elif kind == 6:
            rmgr, refs = 1, []
            info = draw(st.sampled_from([0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x80, 0xB0]))
            body = draw(st.sampled_from([0, 1, 800_000_000_000_000, 2**63])).to_bytes(8, "little")
            if info & 0x80:
                xinfo = draw(
                    st.sampled_from([0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x10, 0x12, 0x17])
                )
                numbers = [xinfo, *([5, 1663] if xinfo & 0x01 else ())]
                if xinfo & 0x02:
                    subxids = draw(st.lists(st.sampled_from([4, 5, 255, 256, 2**32 - 1])))
                    numbers += [draw(st.sampled_from([len(subxids), 2**31])), *subxids]
                if xinfo & 0x04:
                    numbers += [1, *draw(st.sampled_from(RELATIONS))]
                if xinfo & 0x10:
                    numbers.append(draw(st.sampled_from([9, 700])))
                body += b"".join(number.to_bytes(4, "little") for number in numbers)
        elif kind == 7:
            rmgr, refs = 2, []
            info = draw(st.sampled_from([0x10, 0x20]))
            locator = draw(st.sampled_from(RELATIONS))
            numbers = [*locator, draw(st.sampled_from([0, 1, 2]))]
            if info == 0x20:
                numbers = [numbers[3] * 17, *locator, 7]
            body = b"".join(number.to_bytes(4, "little") for number in numbers)
        elif kind == 8:
            # A database is copied or dropped; 14 and 15 do not number these alike.
            rmgr, refs = 4, []
            info = draw(st.sampled_from([0x00, 0x10 if version == 14 else 0x20]))
            numbers = [draw(st.sampled_from([5, 6])), 1663, 5, 1663]
            if info:
                numbers = [numbers[0], 1, 1663]
            body = b"".join(number.to_bytes(4, "little") for number in numbers)
        elif draw(st.booleans()):
            wal.fill_page(draw(st.sampled_from([0, 8, 32])))
            continue
        xid = draw(st.sampled_from([0, 2, 3, 700, 701, 2**32 - 1]))
        wal.add(rmgr, info, xid, record_body(version, refs, body))
    return wal


@builds
@given(wal=wal_of_few_blocks(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_wal_gives_the_keys_and_values_of_the_reference(
    build: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
    wal: WalWriter,
    data: st.DataObject,
) -> None:
    written = bytearray(wal.data)
    if data.draw(st.integers(0, 3)) == 0:
        written[data.draw(st.integers(0, len(written) - 1))] ^= data.draw(st.integers(1, 255))
    source = Memory(wal.start_lsn, bytes(written))
    read_size = data.draw(st.sampled_from([200, 3000, 1 << 20]))
    paths = tmp_path_factory.mktemp("indexes")
    indexes = [PageIndex(paths / name) for name in ("own", "reference")]
    for index in indexes:
        ingest.begin_index(index, wal.start_lsn, [((RELATIONS[0], 0), 2)])
    with built(build, read_size):
        got = run(indexes[0], source, wal.version, SEGMENT, source.end_lsn)
    expected = Reference(indexes[1], source, wal.version, SEGMENT, read_size).run(source.end_lsn)
    assert said(got) == said(expected)
    assert contents(indexes[0]) == contents(indexes[1])
    for index in indexes:
        index.close()


def test_the_whole_workload_gives_the_keys_and_values_of_the_reference(
    pg_version: int, tmp_path: Path
) -> None:
    with PostgresServer(pg_version, config=WORKLOAD_CONFIG) as server:
        backup = server.base_backup(tmp_path / "base")
        run_workload(server)
        server.stop()
        start_lsn = parse_lsn((backup / "backup_label").read_text().split()[3])
        sizes = BasePages(backup).sizes()
        archive = SegmentReader(server.wal_directory, server.segment_size)
        found = []
        for name, build in (("installed", postings), ("pure", PURE), ("reference", None)):
            index = PageIndex(tmp_path / name)
            ingest.begin_index(index, start_lsn, sizes.items())
            end_lsn = archive.end_lsn()
            if build is None:
                Reference(index, archive, pg_version, server.segment_size).run(end_lsn)
            else:
                with built(build):
                    run(index, archive, pg_version, server.segment_size, end_lsn)
            found.append(contents(index))
            index.close()
    assert len(found[0]) > 10_000
    assert found[0] == found[2]
    assert found[1] == found[2]


@builds
def test_records_before_a_body_that_cannot_be_read_are_indexed(
    build: ModuleType, tmp_path: Path
) -> None:
    wal = WalWriter()
    tag = BufferTag(*RELATIONS[0], 0, 1)
    good = wal.add(11, 0, 7, record_body(18, [Block(0, tag)]))
    bad = wal.add(2, 0x10, 7, record_body(18, [Block(0, tag)], b"short"))
    wal.add(11, 0, 7, record_body(18, [Block(0, tag)]))
    index = PageIndex(tmp_path / "index")
    ingest.begin_index(index, wal.start_lsn, [])
    source = Memory(wal.start_lsn, bytes(wal.data))
    for _ in range(2):
        with built(build):
            assert isinstance(run(index, source, 18, SEGMENT, source.end_lsn), RecordError)
        assert list(index.entries(tag)) == [Entry(good.end_lsn, good.start_lsn, 0)]
        assert index.meta("last_record_end") == str(bad.start_lsn).encode()
    index.close()


@builds
def test_zeros_end_wal_and_a_page_after_them_makes_them_a_hole(
    build: ModuleType, tmp_path: Path
) -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    ended = Memory(wal.start_lsn, bytes(wal.data) + bytes(8 << 10))
    wal.raw(bytes(-wal.lsn % 8192))
    wal.open_page()
    hole = Memory(wal.start_lsn, bytes(wal.data) + bytes(8 << 10))
    for name, source in (("ended", ended), ("hole", hole)):
        index = PageIndex(tmp_path / name)
        ingest.begin_index(index, wal.start_lsn, [])
        with built(build, 3000):
            own = ingest.Ingest(index, source, 18, SEGMENT, None)
            if name == "hole":
                with pytest.raises(RecordError):
                    while own.read_lsn < source.end_lsn:
                        own.advance(source.end_lsn)
            else:
                while own.read_lsn < source.end_lsn:
                    own.advance(source.end_lsn)
                assert own.end_of_wal is not None
        assert own.last_record_end == wal.records[0].end_lsn
        index.close()


def test_a_restore_point_of_a_clock_before_2000_is_not_in_the_future(tmp_path: Path) -> None:
    wal = WalWriter(18, SEGMENT, SEGMENT)
    time_us = (-5_000_000).to_bytes(8, "little", signed=True)
    wal.add(0, 0x70, 0, record_body(18, (), time_us + b"name".ljust(64, b"\0")))
    index = PageIndex(tmp_path / "index")
    ingest.begin_index(index, SEGMENT, ())
    assert run(index, Memory(SEGMENT, bytes(wal.data)), 18, SEGMENT, wal.lsn) is None
    assert [(point.name, point.time_us) for point in restore_points(index)] == [(b"name", 0)]
    index.close()
