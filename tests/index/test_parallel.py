"""An index that many processes made is that of one, key by key, whatever is in WAL."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.index.test_ingest import RELATIONS, contents
from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from walstream.errors import WalError
from walstream.index import parallel
from walstream.index.digest import Digest
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import PageIndex
from walstream.index.parallel import Part, WalFiles, digest_part, ingest_parts
from walstream.segments.reader import SegmentReader
from walstream.wal.model import BufferTag

LONG = 2_500_000
MEGABYTES = 12


def body_of(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def wal_of_all(seed: int) -> WalWriter:
    """Records of all that the index keeps, some of them over several parts."""
    chosen = random.Random(seed)
    wal = WalWriter()
    xid = 2**32 - 500
    while wal.lsn < SEGMENT + (MEGABYTES << 20):
        kind = chosen.randrange(100)
        tags = [
            BufferTag(1663, chosen.choice([5, 6]), rel, 0, chosen.randrange(2000))
            for rel in chosen.sample(range(100), chosen.randrange(1, 4))
        ]
        refs = [Block(i, tag) for i, tag in enumerate(tags)]
        if kind == 0:
            wal.add(4, 0x00, 0, record_body(18, (), body_of(6, 1663, 5, 1663)))
        elif kind == 1:
            wal.add(
                2, 0x20, 0, record_body(18, (), body_of(chosen.randrange(100), *tags[0][:3], 7))
            )
        elif kind < 20:
            numbers = [0x06, 1, (xid + 1) % 2**32, 1, *tags[0][:3]]
            body = chosen.randrange(1 << 50).to_bytes(8, "little")
            info = chosen.choice([0x00, 0x80])
            wal.add(1, info, xid, record_body(18, (), body + (body_of(*numbers) if info else b"")))
            xid = (xid + 2) % 2**32
        elif kind == 20 and chosen.randrange(20) == 0:
            wal.add(10, 0, xid, record_body(18, refs, bytes(LONG)))
        else:
            wal.add(11, 0, xid, record_body(18, refs, bytes(chosen.randrange(4000))))
    return wal


def written(directory: Path, wal: WalWriter) -> WalFiles:
    directory.mkdir()
    data = wal.close()
    for at in range(0, len(data), SEGMENT):
        name = f"00000001{0:08X}{(SEGMENT + at) // SEGMENT:08X}"
        (directory / name).write_bytes(data[at : at + SEGMENT])
    return WalFiles(directory, SEGMENT, 18, None)


def made(path: Path, files: WalFiles, workers: int) -> tuple[dict[bytes, bytes], str, int]:
    """Returns what is in an index, how it ended, and how many digests came from elsewhere."""
    index = PageIndex(path)
    begin_index(index, SEGMENT, [((RELATIONS[0], 0), 2)])
    archive = SegmentReader(files.path, SEGMENT)
    own = Ingest(index, archive, 18, SEGMENT, None)
    end_lsn = archive.end_lsn()
    ended = "done"
    foreign = 0
    write = own.write

    def counted(digest: Digest) -> None:
        nonlocal foreign
        foreign += digest.last_end > own.read_lsn
        write(digest)

    own.write = counted  # type: ignore[method-assign]
    try:
        ingest_parts(own, files, end_lsn, workers, lambda _: None)
        while own.read_lsn < end_lsn and own.end_of_wal is None:
            own.advance(end_lsn)
    except WalError as error:
        ended = str(error)
    found = contents(index)
    index.close()
    archive.close()
    return found, ended, foreign


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PART", 1 << 20)
    monkeypatch.setattr(parallel, "MIN_PARTS", 2)


@pytest.mark.parametrize("seed", range(2))
def test_it_is_the_index_of_one_process(tmp_path: Path, seed: int) -> None:
    files = written(tmp_path / "wal", wal_of_all(seed))
    alone, parallel_made = made(tmp_path / "a", files, 1), made(tmp_path / "b", files, 2)
    assert alone[:2] == parallel_made[:2]
    assert alone[2] == 0
    assert parallel_made[2] > MEGABYTES // 3


def test_damage_is_what_one_process_finds(tmp_path: Path) -> None:
    wal = wal_of_all(7)
    files = written(tmp_path / "wal", wal)
    broken = wal.records[len(wal.records) * 2 // 3]
    place = broken.start_lsn // SEGMENT
    path = files.path / f"0000000100000000{place:08X}"
    data = bytearray(path.read_bytes())
    data[broken.start_lsn % SEGMENT + 30] ^= 1
    path.write_bytes(data)
    alone, parallel_made = made(tmp_path / "a", files, 1), made(tmp_path / "b", files, 2)
    assert alone[:2] == parallel_made[:2]
    assert parallel_made[2] > 0
    assert alone[1] != "done"


def test_workers_that_die_are_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path / "wal", wal_of_all(9))
    alone = made(tmp_path / "a", files, 1)
    monkeypatch.setattr(parallel, "digest_part", dies)
    assert made(tmp_path / "b", files, 2)[:2] == alone[:2]


def dies(files: WalFiles, begin: int, end: int) -> Part:
    if begin >= SEGMENT + (6 << 20):
        os.kill(os.getpid(), signal.SIGKILL)
    return digest_part(files, begin, end)
