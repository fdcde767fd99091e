"""A disk that is full at any write of a compressed segment, its end and its flushes included."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.store.memory_files import MemoryFiles
from tests.store.stepwise import Stepwise
from tests.store.test_durability import SIZE, STREAM
from walstream.errors import NoSpace
from walstream.segments.compression import parse_compression
from walstream.segments.files import read_file
from walstream.segments.names import segment_file_name
from walstream.store.wal_files import WalFiles
from walstream.wal.model import WalChunk

HOME = Path("/wal")


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("method", ["gzip", "lz4", "zstd"])
@pytest.mark.parametrize("at", range(20))
def test_it_goes_on_where_it_was(method: str, at: int, overlapped: bool, tmp_path: Path) -> None:
    writes = count()
    completer = Stepwise() if overlapped else None

    def fault(call: str) -> str | None:
        if completer is not None and completer.is_inside():
            completer.pause()
        return "enospc" if call == "write" and next(writes) == at else None

    disk = MemoryFiles(fault)
    files = WalFiles(
        disk, HOME, SIZE, 1, 0, compression=parse_compression(method), completer=completer
    )
    for start in range(0, SIZE * 4, 16):
        files.feed([WalChunk(start, STREAM[start : start + 16], start, 0)])
        for work in (files.write, files.flush) if start % 48 == 0 else (files.write,):
            try:
                work()
            except NoSpace:
                files.write()
                work()
    files.flush()
    assert files.flushed_lsn == files.written_lsn == SIZE * 4
    files.close()
    for number in range(4):
        name = segment_file_name(1, number, SIZE) + parse_compression(method).suffix
        found = HOME / name
        stored = tmp_path / found.name
        stored.write_bytes(disk.durable_entries[found].durable)
        assert b"".join(read_file(stored)) == STREAM[number * SIZE : (number + 1) * SIZE]
