"""Own pages against a model: what is written stays, the rest is the moment's, a crash loses no more
than was not synced."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from walstream.mount.own_pages import OwnPages
from walstream.wal.model import BLCKSZ

BLOCKS = 20
MOMENT = None


class Machine(RuleBasedStateMachine):
    """``pages``: each is MOMENT, or a byte that fills it; ``synced``: as of the last sync."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "file"
        self.map = self.directory / "maps" / "file"
        self.own = OwnPages(self.path, self.map, BLOCKS)
        self.pages: list[int | None] = [MOMENT] * BLOCKS
        self.synced = list(self.pages)
        self.unsynced: set[int] = set()
        self.cut = False

    @rule(block=st.integers(0, BLOCKS + 5), count=st.integers(1, 4), byte=st.integers(1, 255))
    def write(self, block: int, count: int, byte: int) -> None:
        self.own.write(block * BLCKSZ, bytes([byte]) * BLCKSZ * count)
        self.pages += [0] * (block + count - len(self.pages))
        for number in range(block, block + count):
            self.pages[number] = byte
            self.unsynced.add(number)

    @rule(blocks=st.integers(0, BLOCKS + 5))
    def truncate(self, blocks: int) -> None:
        self.own.truncate(blocks * BLCKSZ)
        self.pages = self.pages[:blocks] + [0] * (blocks - len(self.pages))
        self.cut = True

    @rule()
    def rest(self) -> None:
        self.own.rest()

    @rule()
    def sync(self) -> None:
        self.own.sync()
        self.synced, self.unsynced, self.cut = list(self.pages), set(), False

    @rule()
    def close_and_open(self) -> None:
        self.own.close()
        self.own = OwnPages(self.path, self.map, BLOCKS)
        self.synced, self.unsynced, self.cut = list(self.pages), set(), False

    @precondition(lambda self: not self.cut)
    @rule()
    def crash(self) -> None:
        """The daemon is killed: what was synced is there; what was not is new, or as before."""
        self.own.rest()
        self.own = OwnPages(self.path, self.map, BLOCKS)
        for number in range(len(self.pages)):
            if number in self.unsynced and not self.own.has(number):
                before = self.synced[number] if number < len(self.synced) else MOMENT
                assert before is MOMENT
                self.pages[number] = MOMENT
        self.synced, self.unsynced = list(self.pages), set()

    @invariant()
    def every_page_is_as_it_should_be(self) -> None:
        assert self.own.size == len(self.pages) * BLCKSZ
        for number, byte in enumerate(self.pages):
            assert self.own.has(number) == (byte is not MOMENT)
            if byte is not MOMENT:
                assert self.own.read(number * BLCKSZ, BLCKSZ) == bytes([byte]) * BLCKSZ

    def teardown(self) -> None:
        try:
            self.own.close()
            if self.map.exists():
                own = sum(page is not MOMENT for page in self.pages)
                again = OwnPages(self.path, self.map, BLOCKS)
                assert sum(again.has(block) for block in range(len(self.pages))) == own
        finally:
            shutil.rmtree(self.directory)


TestOwnPages: Any = Machine.TestCase
TestOwnPages.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_a_removed_file_lives_on_for_who_has_it_open(tmp_path: Path) -> None:
    own = OwnPages(tmp_path / "file", tmp_path / "map", 3)
    own.write(0, b"x" * BLCKSZ)
    own.remove()
    assert own.read(0, 4) == b"xxxx"
    own.rest()
    own.write(BLCKSZ, b"y" * BLCKSZ)
    assert own.read(BLCKSZ, 4) == b"yyyy"
    own.close()
    assert not list(tmp_path.iterdir())


def test_a_removed_file_that_was_never_written_is_not_made_again(tmp_path: Path) -> None:
    own = OwnPages(tmp_path / "file", tmp_path / "map", 3)
    own.remove()
    with pytest.raises(OSError, match=r"[Ss]tale"):
        own.write(0, b"x" * BLCKSZ)
    assert not list(tmp_path.iterdir())
