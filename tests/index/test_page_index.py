"""The index against a plain list: every entry comes back, in order, cut at the LSN asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Options, Rdict

from tests.index.stored import posting_list
from walstream.errors import StorageError, StoreError
from walstream.index.page_index import (
    Batch,
    DatabaseChange,
    DatabaseKind,
    Entry,
    Event,
    PageIndex,
    SizeChange,
    SizeKind,
    stored_format,
)
from walstream.wal.model import BufferTag, RelFileLocator

REL = RelFileLocator(1663, 5, 16384)
TAGS = [BufferTag(*REL, 0, block) for block in (0, 1, 2**32 - 2)] + [BufferTag(*REL, 2, 0)]

steps = st.lists(
    st.lists(
        st.tuples(st.sampled_from(TAGS), st.integers(1, 2**20), st.integers(0, 3)), max_size=20
    ),
    max_size=5,
)


@settings(max_examples=30, deadline=None)
@given(batches=steps, cut=st.integers(0, 2**26))
def test_entries_come_back_newest_first(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[BufferTag, int, int]]],
    cut: int,
) -> None:
    index = PageIndex(tmp_path_factory.mktemp("index"))
    model: dict[BufferTag, list[Entry]] = {tag: [] for tag in TAGS}
    lsn = 2**40
    start = lsn
    for changes in batches:
        batch = Batch()
        fresh: dict[BufferTag, list[Entry]] = {}
        for tag, length, flags in changes:
            entry = Entry(lsn + length, lsn, flags)
            lsn += length
            fresh.setdefault(tag, []).append(entry)
            model[tag].append(entry)
        batch.pairs = [posting_list(tag, entries) for tag, entries in fresh.items()]
        index.write(batch)
    for tag, expected in model.items():
        assert list(index.entries(tag)) == expected[::-1]
        upto = start + cut
        assert list(index.entries(tag, upto)) == [
            entry for entry in reversed(expected) if entry.end_lsn <= upto
        ]
    index.close()


def test_everything_else_comes_back(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    batch = Batch()
    changes = [
        SizeChange(10, SizeKind.BASE, 3),
        SizeChange(30, SizeKind.EXTEND, 4),
        SizeChange(50, SizeKind.TRUNCATE, 1),
    ]
    batch.sizes = [(REL, 0, change) for change in changes]
    batch.events = [Event(20, 12, 1, 0, 700), Event(40, 32, 0, 0x10, 0)]
    batch.databases = [(1663, 6, DatabaseChange(60, DatabaseKind.COPY, 1663, 1))]
    batch.meta = {"ingested_lsn": b"60"}
    index.write(batch)

    assert list(index.sizes(REL, 0)) == changes[::-1]
    assert next(index.sizes(REL, 0, 49)).blocks == 4
    assert list(index.sizes(REL, 1)) == []
    block = BufferTag(*REL, 0, 1)
    assert (index.voided(block), index.voided(block, 49)) == (50, 0)
    assert index.voided(block._replace(block=0)) == 0
    assert [event.end_lsn for event in index.events()] == [20, 40]
    assert [event.end_lsn for event in index.events(after_lsn=20)] == [40]
    assert [change.source_db_oid for change in index.database_changes(1663, 6)] == [1]
    assert list(index.relations()) == [(REL, 0)]
    assert index.meta("ingested_lsn") == b"60"
    assert index.meta("nothing") is None


def test_readers_see_what_was_written_while_the_writer_goes_on(tmp_path: Path) -> None:
    writer = PageIndex(tmp_path / "index")
    batch = Batch()
    batch.pairs.append(posting_list(TAGS[0], [Entry(20, 10, 1)]))
    writer.write(batch)
    reader = PageIndex(tmp_path / "index", read_only=True)
    assert list(reader.entries(TAGS[0])) == [Entry(20, 10, 1)]
    with pytest.raises(StoreError, match="cannot open the index"):
        PageIndex(tmp_path / "index")


def test_another_format_is_refused(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    batch = Batch()
    batch.meta = {"format": b"0"}
    index.write(batch)
    index.close()
    # A second time: what was refused is closed, though the error is still at hand.
    errors = []
    for _ in range(2):
        with pytest.raises(StoreError, match=r"expected format 3, got b'0'.*reindex") as caught:
            PageIndex(tmp_path / "index")
        errors.append(caught.value)
    assert stored_format(tmp_path / "index") == 0
    assert stored_format(tmp_path) is stored_format(tmp_path / "none") is None


def test_a_database_copied_from_itself_again_and_again_has_its_first_sizes(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    batch = Batch()
    batch.sizes.append((REL, 0, SizeChange(10, SizeKind.BASE, 7)))
    copies = (DatabaseChange(20 + i, DatabaseKind.COPY, 1663, 5) for i in range(3000))
    batch.databases += [(1663, 5, copy) for copy in copies]
    index.write(batch)
    assert index.size_at(REL, 0) == 7
    assert index.size_at(REL, 1) is None


def test_a_reader_is_told_what_is_so(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with pytest.raises(StoreError, match=r"there is no index in .* yet: walstream run makes it"):
        PageIndex(path, read_only=True)
    path.mkdir()
    with pytest.raises(StoreError, match=r"there is no index in .* yet"):
        PageIndex(path, read_only=True)
    Rdict(str(path), Options(raw_mode=True)).close()
    with pytest.raises(StoreError, match="is being made: nothing is in it yet; try again"):
        PageIndex(path, read_only=True)
    writer = PageIndex(path)
    with pytest.raises(StoreError, match="another process writes to it"):
        PageIndex(path)
    PageIndex(path, read_only=True).close()
    batch = Batch()
    batch.meta = {"take_back": b"100"}
    writer.write(batch)
    with pytest.raises(StoreError, match=r"is being taken back to 0/64.*; try again"):
        PageIndex(path, read_only=True)
    writer.close()
    (path / "CURRENT").write_bytes(b"nonsense")
    with pytest.raises(StoreError, match=r"index .* is damaged: run walstream reindex"):
        PageIndex(path, read_only=True)


changes = st.lists(
    st.tuples(st.sampled_from([1, 3, 3, 3, 3, 3, 4]), st.integers(0, 40), st.booleans()),
    max_size=120,
)


@settings(max_examples=50, deadline=None)
@given(made=changes, at=st.lists(st.tuples(st.integers(0, 130), st.integers(0, 41)), max_size=40))
def test_the_change_that_voids_a_block_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[int, int, bool]],
    at: list[tuple[int, int]],
) -> None:
    index = PageIndex(tmp_path_factory.mktemp("index"))
    batch = Batch()
    model = []
    for lsn, (kind, blocks, write) in enumerate(made, start=1):
        change = SizeChange(lsn, SizeKind(kind), blocks if kind == SizeKind.TRUNCATE else 0)
        model.append(change)
        batch.sizes.append((REL, 0, change))
        if write:
            index.write(batch)
            batch = Batch()
    index.write(batch)
    for upto, block in at:
        expected = 0
        for change in model[:upto]:
            if change.kind != SizeKind.TRUNCATE or change.blocks <= block:
                expected = change.end_lsn
        assert index.voided(BufferTag(*REL, 0, block), upto) == expected
    index.close()


def test_a_block_below_many_truncations_is_found_in_few_steps(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    for cuts in (range(10_000), range(10_000, 0, -1)):
        batch = Batch()
        lsn = 20_000 - len(cuts) if cuts.step == 1 else 30_000
        for number, blocks in enumerate(cuts, start=1):
            batch.sizes.append((REL, 0, SizeChange(lsn + number, SizeKind.TRUNCATE, 1 + blocks)))
        index.write(batch)
        reads = 0
        scan_back = index.scan_back

        def counted(prefix: bytes, upto_lsn: int) -> Iterator[tuple[int, bytes]]:
            nonlocal reads
            reads += 1
            return scan_back(prefix, upto_lsn)  # noqa: B023 (called in this round only)

        index.scan_back = counted  # type: ignore[method-assign]
        assert index.voided(TAGS[0]) == 0
        assert index.voided(TAGS[1]._replace(block=5000)) > 0
        assert reads < 100
        index.scan_back = scan_back  # type: ignore[method-assign]
    index.close()


def test_relations_and_blocks_with_many_keys_come_once(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    expected = []
    for rel in range(16384, 16384 + 12):
        locator = RelFileLocator(1663, 5, rel)
        expected.append((locator, 0))
        for lsn in range(1, rel - 16384 + 2):
            batch = Batch()
            batch.sizes.append((locator, 0, SizeChange(lsn, SizeKind.EXTEND, lsn)))
            for block in range(3):
                batch.pairs.append(
                    posting_list(BufferTag(*locator, 0, block), [Entry(lsn, lsn - 1, 0)])
                )
            index.write(batch)
    assert list(index.relations()) == expected
    assert [list(index.blocks(*fork)) for fork in expected] == [[0, 1, 2]] * 12
    index.close()


def test_damage_is_told_from_the_end(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index")
    batch = Batch()
    for block in range(20_000):
        batch.pairs.append(posting_list(BufferTag(*REL, 0, block), [Entry(20, 10, 1)]))
        batch.events.append(Event(20 + block, 10, 1, 0, block))
    index.write(batch)
    index._db.flush()
    index.close()
    (table,) = (tmp_path / "index").glob("*.sst")
    data = bytearray(table.read_bytes())
    for at in range(100, len(data) // 2, 1000):
        data[at] ^= 1
    table.write_bytes(data)
    index = PageIndex(tmp_path / "index")
    for read in (
        lambda: index.entries(BufferTag(*REL, 0, 5)),
        lambda: index.blocks(REL, 0),
        lambda: index.events(),
    ):
        with pytest.raises(StorageError, match="block checksum mismatch"):
            list(read())
