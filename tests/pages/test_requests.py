"""Records read together and requests made of them, against each record read and encoded alone."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.pure import load
from tests.support.walgen import SEGMENT, WalWriter
from walstream.errors import WalstreamError
from walstream.index.page_index import Entry, EntryFlag
from walstream.pages import requests as compiled
from walstream.redo.protocol import MAX_REQUEST, RedoRequest, encode_request
from walstream.segments import stored_records
from walstream.segments.names import segment_file_name
from walstream.segments.reader import SegmentReader
from walstream.wal.model import BLCKSZ, BufferTag, RawRecord

LOADED: dict[str, ModuleType] = {}
PURE = load("walstream.pages.requests", LOADED)
PURE_RECORDS = LOADED["walstream.segments.stored_records"]
IDS = ["compiled", "plain"]
TAG = BufferTag(1663, 5, 16384, 0, 0)


class Wal:
    """Segments with records of every kind of length; some damaged, some not there."""

    def __init__(self, path: Path, *, damaged: bool) -> None:
        chosen = random.Random(5)
        wal = WalWriter()
        lengths = [24, 26, 100, 281, 5000, 8192, 40000]
        while wal.lsn < 4 * SEGMENT:
            wal.add_of_length(chosen.choice(lengths) + chosen.choice((0, 5, 6, 7, 8)))
            if chosen.random() < 0.01:
                wal.add_of_length(300_000)
        wal.add_of_length((1 << 20) + 5000)
        wal.add_of_length(100)
        data = bytearray(wal.close())
        self.records: list[RawRecord] = wal.records
        if damaged:
            for record in chosen.sample(self.records, 30):
                data[record.start_lsn - SEGMENT + 20] ^= 1  # its checksum
            for record in chosen.sample(self.records, 5):
                at = record.start_lsn - SEGMENT
                data[at : at + 4] = b"\xff\xff\xff\x7f"
        for number in range(len(data) // SEGMENT):
            name = segment_file_name(1, 1 + number, SEGMENT)
            (path / name).write_bytes(data[number * SEGMENT : (number + 1) * SEGMENT])
        if damaged:
            (path / segment_file_name(1, 2, SEGMENT)).unlink()
            short = path / segment_file_name(1, 3, SEGMENT)
            short.write_bytes(short.read_bytes()[: SEGMENT // 2])
        self.archive = SegmentReader(path, SEGMENT)

    def read(self, record: RawRecord) -> bytes | None:
        try:
            return self.archive.read_record(record.start_lsn)
        except WalstreamError:
            return None


@pytest.mark.parametrize("build", [stored_records, PURE_RECORDS], ids=IDS)
@pytest.mark.parametrize("damaged", [False, True])
def test_every_record_that_can_be_read_is(build: ModuleType, damaged: bool, tmp_path: Path) -> None:
    wal = Wal(tmp_path, damaged=damaged)
    chosen = random.Random(2)
    stored = build.StoredRecords()
    everything = wal.records * 2
    chosen.shuffle(everything)
    for some in (everything, chosen.sample(wal.records, 20), wal.records[-2:], []):
        stored.clear()
        for number, record in enumerate(some):
            assert stored.want(record.start_lsn, record.end_lsn) == number
        stored.read(wal.archive)
        lost = 0
        for number, record in enumerate(some):
            expected = wal.read(record)
            assert stored.length(number) == (0 if expected is None else len(expected))
            assert stored.end_lsn(number) == record.end_lsn
            lost += expected is None
        if len(some) > 100:
            assert bool(lost) == damaged
            assert lost < len(some)


@pytest.mark.parametrize("build", [stored_records, PURE_RECORDS], ids=IDS)
def test_what_a_damaged_index_says_is_no_record(build: ModuleType, tmp_path: Path) -> None:
    wal = Wal(tmp_path, damaged=False)
    record = wal.records[3]
    stored = build.StoredRecords()
    for start_lsn, end_lsn in (
        (record.start_lsn + 8, record.end_lsn),
        (record.start_lsn, record.start_lsn + 8),
        (record.start_lsn, record.start_lsn),
        (2**40, 2**40 + 100),
        (record.start_lsn + 4, 2**62),
    ):
        stored.want(start_lsn, end_lsn)
    stored.want(record.start_lsn, record.end_lsn)
    stored.read(wal.archive)
    assert [stored.length(number) for number in range(6)] == [0] * 5 + [len(record.data)]


def requests_of(build: ModuleType, wal: Wal, pages: list[tuple[int, list[RawRecord]]]) -> Any:
    """Requests for pages: each starts from the base of that number, -1 for none."""
    chains_build = LOADED["walstream.index.chains"] if build is PURE else None
    if chains_build is None:
        from walstream.index import chains as chains_build
    assert chains_build is not None
    chains = chains_build.Chains()
    made = build.Requests()
    for number, (base, records) in enumerate(pages):
        chains.begin(number, 0, 2**63)
        for record in records:
            flags = EntryFlag.INIT if base < 0 and record is records[0] else 0
            entry = Entry(record.end_lsn, record.start_lsn, flags)
            length = entry.end_lsn - entry.start_lsn
            posting = bytes(4) + length.to_bytes(4, "big") + bytes((flags,))
            chains.add(entry.end_lsn, posting)
        chains.end()
        page = None if base < 0 else BASES
        tag = TAG._replace(block=number)
        assert made.add(tag, chains, number, page, max(base, 0) * BLCKSZ) == number
    made.read(wal.archive)
    return made


BASES = random.Random(1).randbytes(5 * BLCKSZ)


@pytest.mark.parametrize("build", [compiled, PURE], ids=IDS)
@pytest.mark.parametrize("damaged", [False, True])
def test_requests_are_those_of_the_protocol(
    build: ModuleType, damaged: bool, tmp_path: Path
) -> None:
    wal = Wal(tmp_path, damaged=damaged)
    chosen = random.Random(3)
    pages = []
    for _ in range(60):
        at = chosen.randrange(len(wal.records) - 9)
        pages.append((chosen.randrange(-1, 5), wal.records[at : at + chosen.randrange(1, 9)]))
    made = requests_of(build, wal, pages)
    whole, expected = [], []
    for number, (base, records) in enumerate(pages):
        found = [(record.end_lsn, wal.read(record)) for record in records]
        if any(data is None for _, data in found):
            assert not made.is_complete(number)
            assert made.size(number) == 0
            continue
        page = None if base < 0 else BASES[base * BLCKSZ : (base + 1) * BLCKSZ]
        request = RedoRequest(TAG._replace(block=number), page, tuple(found))  # type: ignore[arg-type]
        assert made.is_complete(number)
        assert made.request(number) == request
        assert made.size(number) == len(encode_request(request)) <= MAX_REQUEST
        whole.append(number)
        expected.append(request)
    assert whole
    assert (len(whole) < len(pages)) == damaged
    batch = made.encode(whole)
    assert bytes(batch.data) == b"".join(map(encode_request, expected))
    assert [batch.request(number) for number in range(batch.requests)] == expected
    assert batch.records == sum(len(request.records) for request in expected)
    ends = [request.records[-1][0].to_bytes(8, "little") for request in expected]
    assert batch.end_lsns == b"".join(ends)


@pytest.mark.parametrize("build", [compiled, PURE], ids=IDS)
def test_a_base_page_lies_within_its_bytes(build: ModuleType, tmp_path: Path) -> None:
    wal = Wal(tmp_path, damaged=False)
    with pytest.raises(ValueError, match="base page: expected 8192 bytes at 40960"):
        requests_of(build, wal, [(5, wal.records[:1])])
