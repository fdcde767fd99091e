"""Moments behind what cannot be replayed are refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.test_ingest import Memory
from tests.support.walgen import SEGMENT, WalWriter, record_body
from walstream.errors import LsnNotAvailable
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.segments.reader import SegmentReader
from walstream.state.cluster import StateSource, check_walls, cluster_state
from walstream.store.base_backup import BaseBackup
from walstream.wal.model import format_lsn


def parameters(wal_level: int) -> bytes:
    numbers = [100, 8, 10, 0, 64, wal_level, 0]
    return b"".join(number.to_bytes(4, "little") for number in numbers)


@pytest.mark.parametrize(
    ("rmgr", "info", "body", "said"),
    [
        (131, 0x00, b"x", "custom resource manager custom131"),
        (0, 0x60, parameters(0), "wal_level = minimal"),
    ],
    ids=["custom resource manager", "minimal"],
)
def test_a_moment_behind_a_wall_is_refused(
    tmp_path: Path, rmgr: int, info: int, body: bytes, said: str
) -> None:
    wal = WalWriter()
    first = wal.add(0, 0x60, 0, record_body(18, (), parameters(1)))
    walled = wal.add(rmgr, info, 0, record_body(18, (), body))
    wal.add(0, 0x60, 0, record_body(18, (), parameters(1)))
    index = PageIndex(tmp_path / "index")
    begin_index(index, SEGMENT, ())
    Ingest(index, Memory(SEGMENT, bytes(wal.data)), 18, SEGMENT, None).advance(wal.lsn)
    archive = SegmentReader(tmp_path, SEGMENT)

    def source(start_lsn: int) -> StateSource:
        backup = BaseBackup(tmp_path, start_lsn, start_lsn, start_lsn, 1)
        return StateSource(index, archive, backup, 18)

    check_walls(source(SEGMENT), first.end_lsn)
    check_walls(source(SEGMENT), walled.end_lsn - 1)
    start = format_lsn(walled.start_lsn)
    for lsn in (walled.end_lsn, wal.lsn):
        with pytest.raises(LsnNotAvailable, match=f"{said}.*latest moment .* is {start}"):
            cluster_state(source(SEGMENT), lsn)
    # A later backup has what the records before it did.
    check_walls(source(walled.end_lsn), wal.lsn)
    index.close()
    archive.close()
