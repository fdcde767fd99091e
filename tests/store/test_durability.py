"""No LSN is called flushed that a power cut would take back: every system call fails in turn."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.store.memory_files import MemoryFiles, PowerCut
from tests.store.stepwise import Stepwise
from walstream.errors import NoSpace, StorageError, WalDivergedError, WalGapError
from walstream.segments.compression import parse_compression
from walstream.segments.names import segment_file_name, segment_number
from walstream.store.wal_files import WalFiles
from walstream.wal.model import WalChunk

SIZE = 64
STREAM = random.Random(1).randbytes(SIZE * 40)
HOME = Path("/wal")


def same_prefix(left: bytes, right: bytes) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def durable_end(files: MemoryFiles) -> int:
    """The first LSN that a power cut now would lose."""
    for number in count():
        name = segment_file_name(1, number, SIZE)
        best = 0
        for path in (HOME / name, HOME / (name + ".partial")):
            inode = files.durable_entries.get(path)
            if inode is None:
                continue
            expected = STREAM[number * SIZE : (number + 1) * SIZE]
            best = max(best, same_prefix(inode.durable, expected))
        if best < SIZE:
            return number * SIZE + best
    raise AssertionError


def check_what_is_seen(disk: MemoryFiles) -> None:
    """Complete segments without a gap, at most one ``.partial`` and that behind them."""
    for seen in (disk.entries, disk.durable_entries):
        names = sorted(path.name for path in seen if not path.name.endswith(".tmp"))
        numbers = [segment_number(name, SIZE) for name in names]
        assert numbers == list(range(len(names)))
        assert not any(name.endswith(".partial") for name in names[:-1])


class DurableStore(RuleBasedStateMachine):
    """A writer whose disk fails, is full, writes short, or loses power, at any call.

    ``overlapped``: full segments are completed by a second thread, which gets on by one system call
    at a time, when the machine says so or when the writer waits for it.
    """

    @initialize(sync=st.just(True), zero_fill=st.booleans(), overlapped=st.booleans())
    def begin(self, sync: bool, zero_fill: bool, overlapped: bool) -> None:
        self.faults: list[str | None] = []
        self.later_faults: list[str | None] = []
        self.told = 0
        self.zero_fill = zero_fill
        self.completer = Stepwise() if overlapped else None
        self.disk = MemoryFiles(self.fault)
        self.open(0)

    def fault(self, call: str) -> str | None:
        if self.completer is not None and self.completer.is_inside():
            self.completer.pause()
            return self.later_faults.pop() if self.later_faults else None
        return self.faults.pop() if self.faults else None

    def open(self, lsn: int) -> None:
        self.files = WalFiles(
            self.disk, HOME, SIZE, 1, lsn, zero_fill=self.zero_fill, completer=self.completer
        )

    def restart(self) -> None:
        """A new process takes up what is told to be flushed; that must be there."""
        if self.completer is not None:
            self.completer.kill(PowerCut("the process is gone"))
        self.faults.clear()
        self.later_faults.clear()
        assert self.told <= durable_end(self.disk)
        start = self.told
        if self.disk.exists(HOME / segment_file_name(1, start // SIZE, SIZE)):
            start += SIZE - start % SIZE  # died behind the rename: the segment is complete
        self.open(start)

    def work(self, length: int, flush: bool, faults: list[str | None]) -> None:
        start = self.files.next_lsn
        data = STREAM[start : start + length]
        self.faults[:] = faults

        def write() -> None:
            self.files.feed([WalChunk(start, data, start, 0)])
            for _ in range(len(faults) + 1):
                try:
                    self.files.write()
                    break
                except NoSpace:
                    continue
            if flush:
                self.files.flush()

        self.attempt(write)

    def attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except PowerCut:
            self.disk.power_off()
            self.restart()
            return
        except NoSpace:
            pass
        except StorageError:
            # Fatal: the process ends, what the kernel has stays.
            self.disk.process_died()
            self.restart()
            return
        self.faults.clear()
        self.told = max(self.told, self.files.flushed_lsn)

    @rule(
        length=st.integers(0, 3 * SIZE),
        flush=st.booleans(),
        faults=st.lists(
            st.sampled_from([None, None, None, "eio", "enospc", "short", "cut"]), max_size=12
        ),
    )
    def write_with_faults(self, length: int, flush: bool, faults: list[str | None]) -> None:
        self.work(length, flush, faults)

    @rule(
        steps=st.integers(1, 6),
        faults=st.lists(st.sampled_from([None, None, "eio", "cut"]), max_size=4),
    )
    def complete_meanwhile(self, steps: int, faults: list[str | None]) -> None:
        """The other thread gets on; then the writer looks what became of it."""
        if self.completer is not None:
            self.later_faults[:] = faults
            self.completer.step(steps)
            self.flushed_is_on_disk()
            self.attempt(self.files.settle)

    @rule()
    def process_is_killed(self) -> None:
        if self.completer is not None:
            self.completer.kill(PowerCut("the process is gone"))
        self.disk.process_died()
        self.restart()

    @rule()
    def power_cut(self) -> None:
        self.disk.power_off()
        self.restart()

    @rule(back=st.integers(1, SIZE))
    def send_again(self, back: int) -> None:
        end = self.files.next_lsn
        start = max(end - back, end - end % SIZE)
        self.attempt(lambda: self.files.feed([WalChunk(start, STREAM[start:end], end, 0)]))
        assert self.files.next_lsn <= end

    @invariant()
    def flushed_is_on_disk(self) -> None:
        if hasattr(self, "files"):
            assert self.told <= durable_end(self.disk)
            assert self.files.flushed_lsn <= durable_end(self.disk)
            assert self.files.flushed_lsn <= self.files.written_lsn <= self.files.next_lsn

    @invariant()
    def complete_segments_are_whole(self) -> None:
        if hasattr(self, "files"):
            for path, inode in self.disk.durable_entries.items():
                if path.suffix == "":
                    number = int(path.name[16:], 16) + (int(path.name[8:16], 16) << 32) // SIZE
                    assert inode.durable == STREAM[number * SIZE : (number + 1) * SIZE]

    @invariant()
    def no_segment_is_seen_before_the_one_before_it(self) -> None:
        """As pg_receivewal leaves a directory: complete segments, one ``.partial`` behind them."""
        if hasattr(self, "files"):
            check_what_is_seen(self.disk)

    def teardown(self) -> None:
        if getattr(self, "completer", None) is not None:
            assert self.completer is not None
            self.completer.kill(PowerCut("the end"))


DurableStore.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestDurableStore = DurableStore.TestCase


CALLS = 60


@pytest.mark.parametrize("kind", ["eio", "enospc", "short", "cut"])
@pytest.mark.parametrize("at", range(CALLS))
@pytest.mark.parametrize("steps", [None, 0, 1, 3])
def test_each_system_call_fails_once(kind: str, at: int, steps: int | None) -> None:
    """``steps``: how far a completion gets meanwhile with each write; None: there is no other."""
    calls = count()
    completer = None if steps is None else Stepwise()

    def fault(_: str) -> str | None:
        if completer is not None and completer.is_inside():
            completer.pause()
        return kind if next(calls) == at else None

    disk = MemoryFiles(fault)
    told = 0
    try:
        files = WalFiles(disk, HOME, SIZE, 1, 0, completer=completer)
        for start in range(0, SIZE * 5, 50):
            files.feed([WalChunk(start, STREAM[start : start + 50], start, 0)])
            try:
                files.write()
            except NoSpace:
                files.write()
            if completer is not None and steps:
                completer.step(steps)
            assert files.flushed_lsn <= durable_end(disk)
            if start % 3:
                files.flush()
            told = files.flushed_lsn
            assert told <= durable_end(disk)
        files.close()
        assert files.flushed_lsn == files.written_lsn <= durable_end(disk)
    except (PowerCut, StorageError):
        disk.power_off()
    assert told <= durable_end(disk)
    if completer is not None:
        completer.kill(PowerCut("the end"))


@pytest.mark.parametrize("method", ["none", "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize("piece", [16, 50, SIZE, 3 * SIZE])
def test_no_segment_is_seen_before_the_one_before_it(method: str, steps: int, piece: int) -> None:
    """At no system call, however far the completion of the one before got meanwhile."""
    completer = Stepwise()

    def look(_: str) -> None:
        check_what_is_seen(disk)
        if completer.is_inside():
            completer.pause()

    disk = MemoryFiles(look)
    compression = parse_compression(method)
    files = WalFiles(disk, HOME, SIZE, 1, 0, compression=compression, completer=completer)
    for start in range(0, SIZE * 6, piece):
        files.feed([WalChunk(start, STREAM[start : start + piece], start, 0)])
        files.write()
        completer.step(steps)
        files.settle()
        check_what_is_seen(disk)
    files.close()
    check_what_is_seen(disk)
    assert len(disk.durable_entries) >= 6


def test_gaps_and_differences_are_refused() -> None:
    disk = MemoryFiles(lambda _: None)
    files = WalFiles(disk, HOME, SIZE, 1, 0)
    files.feed([WalChunk(0, STREAM[:100], 0, 0)])
    with pytest.raises(WalGapError):
        files.feed([WalChunk(101, STREAM[101:120], 0, 0)])
    with pytest.raises(WalDivergedError, match="0/46"):
        files.feed([WalChunk(40, STREAM[40:70] + b"\0\0" + STREAM[72:100], 0, 0)])
    assert files.next_lsn == 100
