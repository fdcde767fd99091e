"""Chains of records against what the entries of each block say, found one by one and in a scan."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.index.stored import posting_list
from tests.support.pure import load
from walstream.errors import ReadError
from walstream.index import chains as compiled
from walstream.index.page_index import Batch, Entry, EntryFlag, PageIndex
from walstream.wal.model import BufferTag, RelFileLocator

PURE = load("walstream.index.chains", {})
BUILDS = pytest.mark.parametrize("build", [compiled, PURE], ids=["compiled", "plain"])
REL = RelFileLocator(1663, 5, 16384)
BLOCKS = 40

Record = tuple[int, int]


def filled(path: Path, chosen: random.Random) -> PageIndex:
    """An index with many short lists, of blocks with few and many entries, and of other forks."""
    index = PageIndex(path)
    lsn = 2**33
    for _ in range(chosen.randrange(1, 40)):
        batch = Batch()
        for block in sorted(chosen.sample(range(BLOCKS), chosen.randrange(BLOCKS // 2))):
            for fork in (0, 1):
                entries = []
                for _ in range(chosen.randrange(1, 4)):
                    length = chosen.randrange(32, 5000)
                    flags = EntryFlag.INIT if chosen.random() < 0.2 else 0
                    entries.append(Entry(lsn + length, lsn, flags))
                    lsn += length
                batch.pairs.append(posting_list((*REL, fork, block), entries))
        index.write(batch)
    return index


def expected(
    index: PageIndex, tag: BufferTag, floor: int, upto: int
) -> tuple[list[Record], bool, int]:
    """The records of a chain, whether the first makes the page, and the next one's end."""
    later = [entry.end_lsn for entry in index.entries(tag) if entry.end_lsn > upto]
    found: list[Record] = []
    for entry in index.entries(tag, upto):
        if entry.end_lsn <= floor:
            break
        found.append((entry.start_lsn, entry.end_lsn))
        if entry.flags & EntryFlag.INIT:
            return found[::-1], True, min(later, default=0)
    return found[::-1], False, min(later, default=0)


def chain(chains: Any, number: int) -> tuple[list[Record], bool, int]:
    first, last = chains.first(number), chains.first(number + 1)
    assert chains.length(number) == last - first
    records = [(chains.start_lsn(i), chains.end_lsn(i)) for i in range(first, last)]
    return records, chains.makes_page(number), chains.next_of(number)


def moments(index: PageIndex, chosen: random.Random) -> list[int]:
    ends = [
        entry.end_lsn
        for block in range(BLOCKS)
        for entry in index.entries(BufferTag(*REL, 0, block))
    ] or [2**33]
    return [0, 2**33, max(ends), max(ends) + 10] + [
        chosen.choice(ends) + chosen.choice((-1, 0, 1)) for _ in range(6)
    ]


@BUILDS
@pytest.mark.parametrize("seed", range(5))
def test_chains_are_what_the_entries_say(build: ModuleType, seed: int, tmp_path: Path) -> None:
    chosen = random.Random(seed)
    index = filled(tmp_path / "index", chosen)
    lsns = moments(index, chosen)
    for upto in lsns:
        floors = [chosen.choice(lsns) for _ in range(BLOCKS + 3)]
        one_by_one = build.Chains()
        for block in range(BLOCKS + 3):
            tag = BufferTag(*REL, 0, block)
            wanted = expected(index, tag, floors[block], upto)
            assert index.find_chain(one_by_one, tag, floors[block], upto, True) == block
            assert chain(one_by_one, block) == wanted
        blocks = sorted(chosen.sample(range(BLOCKS + 3), chosen.randrange(1, BLOCKS)))
        scanned = build.Chains()
        some = [floors[block] for block in blocks]
        assert index.find_chains(scanned, REL, 0, blocks, some, upto, 1 << 40) == len(blocks)
        size = 0
        for number, block in enumerate(blocks):
            records, makes, _ = chain(scanned, number)
            tag = BufferTag(*REL, 0, block)
            assert (records, makes) == expected(index, tag, floors[block], upto)[:2]
            assert scanned.block(number) == block
            size += sum(end - start for start, end in records)
        assert scanned.wal_bytes == size
    index.close()


@BUILDS
def test_a_scan_stops_when_it_has_enough_wal(build: ModuleType, tmp_path: Path) -> None:
    index = filled(tmp_path / "index", random.Random(3))
    blocks, floors = range(BLOCKS), [0] * BLOCKS
    at, steps = 0, 0
    while at < BLOCKS:
        chains = build.Chains()
        done = index.find_chains(chains, REL, 0, blocks[at:], floors[at:], 2**50, 4000)
        assert done >= 1
        last = sum(end - start for start, end in chain(chains, done - 1)[0])
        assert chains.wal_bytes - last < 4000
        for number in range(done):
            tag = BufferTag(*REL, 0, at + number)
            assert chain(chains, number)[0] == expected(index, tag, 0, 2**50)[0]
        at += done
        steps += 1
    assert steps > 2
    index.close()


def test_damage_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(tmp_path / "index", random.Random(1))

    class Damaged:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def valid(self) -> bool:
            return False

        def status(self) -> None:
            raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002 (as rocksdict)

    class Database:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def iter(self) -> Damaged:
            return Damaged(self.inner.iter())

    database = index._db
    monkeypatch.setattr(index, "_db", Database(database))
    tag = BufferTag(*REL, 0, 0)
    with pytest.raises(ReadError, match="Corruption"):
        index.find_chain(compiled.Chains(), tag, 0, 2**50, False)
    with pytest.raises(ReadError, match="Corruption"):
        index.find_chains(compiled.Chains(), REL, 0, range(3), [0] * 3, 2**50, 1 << 40)
    monkeypatch.undo()
    index.close()
