"""What there is at an LSN: each fork, directory and tablespace, for what there is and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index.test_ingest import RELATIONS, Memory, wal_of_few_blocks
from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from walstream.errors import WalError
from walstream.index import changes, ingest
from walstream.index.forks import databases_at, forks_at, tablespaces_at
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import MAX_LSN, PageIndex
from walstream.wal.model import BufferTag, RelFileLocator

SPC, DB = 1663, 5
# A whole relation of 32 blocks in one record; as many relations as dropped in one commit.
BLOCKS_PER_RECORD, PER_COMMIT = 32, 1000
# Of WAL at once, so that there are many.
BATCH = 1 << 16


def indexed(index: PageIndex, wal: WalWriter) -> None:
    source = Memory(wal.start_lsn, bytes(wal.data))
    own = Ingest(index, source, wal.version, SEGMENT, None)
    try:
        while own.read_lsn < source.end_lsn:
            own.advance(source.end_lsn)
    except WalError:
        pass


@given(wal=wal_of_few_blocks(), every=st.sampled_from([1, 3, 256]), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_forks_at_any_lsn_are_those_that_have_a_size_there(
    tmp_path_factory: pytest.TempPathFactory, wal: WalWriter, every: int, data: st.DataObject
) -> None:
    index = PageIndex(tmp_path_factory.mktemp("forks") / "index")
    begin_index(index, wal.start_lsn, [((RELATIONS[0], 0), 2), ((RELATIONS[0], 3), 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "CHANGES_PER_LIST", every)
        patch.setattr(ingest, "READ_SIZE", data.draw(st.sampled_from([256, 4096, 1 << 20])))
        indexed(index, wal)
    names = {(locator.rel_number, fork) for locator, fork in index.relations()}
    for lsn in {wal.start_lsn, *(record.end_lsn for record in wal.records)}:
        for db in (5, 6, 7):
            expected = {}
            for rel_number, fork in names:
                size = index.size_at(RelFileLocator(SPC, db, rel_number), fork, lsn)
                if size is not None:
                    expected[rel_number, fork] = size
            assert forks_at(index, SPC, db, lsn) == expected, (db, lsn)
    index.close()


def body_of(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def commit_that_drops(relations: range) -> bytes:
    locators = [number for relation in relations for number in (SPC, DB, relation)]
    return bytes(8) + body_of(0x04, len(relations), *locators)


class Counted:
    """Counts what is read of an index, in keys and bytes of values."""

    def __init__(self, index: PageIndex, patch: pytest.MonkeyPatch) -> None:
        self.keys = self.bytes = 0
        for name in ("scan", "scan_down"):
            self._count(index, name, patch)

    def _count(self, index: PageIndex, name: str, patch: pytest.MonkeyPatch) -> None:
        scan = getattr(index, name)

        def counted(prefix: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
            for key, value in scan(prefix, place):
                self.keys += 1
                self.bytes += len(value)
                yield key, value

        patch.setattr(index, name, counted)


def test_a_hundred_thousand_drops_do_not_slow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the list of directories, which a new file could have added one to."""
    wal = WalWriter()
    kept = [BufferTag(SPC, DB, rel, 0, 0) for rel in range(20)]
    wal.add(11, 0, 7, record_body(18, [Block(i, tag) for i, tag in enumerate(kept)]))
    first = 1000
    for begin in range(first, first + 100_000, PER_COMMIT):
        for at in range(begin, begin + PER_COMMIT, BLOCKS_PER_RECORD):
            made = range(at, min(at + BLOCKS_PER_RECORD, begin + PER_COMMIT))
            refs = [Block(i, BufferTag(SPC, DB, rel, 0, 0)) for i, rel in enumerate(made)]
            wal.add(11, 0, 7, record_body(18, refs))
        dropped = commit_that_drops(range(begin, begin + PER_COMMIT))
        wal.add(1, 0x80, 7, record_body(18, (), dropped))
    index = PageIndex(tmp_path / "index")
    begin_index(index, SEGMENT, (), [SPC])
    monkeypatch.setattr(ingest, "READ_SIZE", BATCH)
    indexed(index, wal)
    expected = dict.fromkeys(((tag.rel_number, 0) for tag in kept), 1)
    read = Counted(index, monkeypatch)
    assert forks_at(index, SPC, DB) == expected
    # A list, and the changes of a batch or two, of the 2.8 MB that there are.
    assert read.keys <= 6
    assert read.bytes < 200_000
    read.keys = read.bytes = 0
    assert databases_at(index) == [(SPC, DB)]
    assert tablespaces_at(index) == [SPC]
    assert read.keys <= 12
    assert read.bytes < 1000
    index.close()


@pytest.mark.parametrize("deeper", [True, False], ids=["each deeper", "each less deep"])
def test_truncations_do_not_slow_it_however_they_lie_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deeper: bool
) -> None:
    count = 20_000
    wal = WalWriter()
    tag = BufferTag(SPC, DB, 16384, 0, 2 * count)
    for number in range(count):
        wal.add(11, 0, 7, record_body(18, [Block(0, tag)]))
        left = 2 * count - number if deeper else 1 + number
        wal.add(2, 0x20, 0, record_body(18, (), body_of(left, SPC, DB, 16384, 7)))
    index = PageIndex(tmp_path / "index")
    begin_index(index, SEGMENT, [((tag.locator, 0), 2 * count + 1)])
    monkeypatch.setattr(ingest, "READ_SIZE", BATCH)
    indexed(index, wal)
    read = Counted(index, monkeypatch)
    last = 2 * count - (count - 1) if deeper else count
    assert forks_at(index, SPC, DB) == {(16384, 0): last}
    assert read.keys <= 6
    assert read.bytes < 50_000
    read.keys = 0
    deepest = last if deeper else 1
    assert index.cuts(tag.locator, 0, SEGMENT, MAX_LSN) == (0, deepest)
    assert read.keys <= 40
    index.close()
