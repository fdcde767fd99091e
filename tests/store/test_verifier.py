"""WAL is checked as it arrives, however it is cut; the first wrong byte is told."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.walgen import PAGE, SEGMENT, SYSTEM_IDENTIFIER, WalWriter
from walstream.errors import PageHeaderError, RecordError, WalError, WrongCluster
from walstream.segments.header import read_long_header
from walstream.store.verifier import Expected, VerifyLevel, make_verifier

EXPECTED = Expected(SYSTEM_IDENTIFIER, 18, SEGMENT, (1,))


def some_wal() -> bytes:
    wal = WalWriter()
    for length in range(60, 4000, 37):
        wal.add_of_length(length)
    wal.switch()
    wal.add_of_length(100)
    return bytes(wal.data)


WAL = some_wal()


def feed(level: VerifyLevel, data: bytes, cuts: list[int], expected: Expected = EXPECTED) -> None:
    verifier = make_verifier(level, expected, SEGMENT)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        if end > begin:
            verifier.feed(SEGMENT + begin, [data[begin:end]])


@pytest.mark.parametrize("level", ["headers", "records", "off"])
@given(cuts=st.lists(st.integers(0, len(WAL)), max_size=20))
def test_good_wal_passes_however_it_is_cut(level: VerifyLevel, cuts: list[int]) -> None:
    feed(level, WAL, cuts)


@pytest.mark.parametrize("level", ["headers", "records"])
@given(cuts=st.lists(st.integers(PAGE - 30, PAGE + 60), max_size=5))
def test_a_wrong_page_address_is_told_with_its_lsn(level: VerifyLevel, cuts: list[int]) -> None:
    data = bytearray(WAL)
    data[PAGE + 8] ^= 1
    with pytest.raises(PageHeaderError) as caught:
        feed(level, bytes(data), cuts)
    assert caught.value.lsn == SEGMENT + PAGE


@pytest.mark.parametrize("level", ["headers", "records"])
@pytest.mark.parametrize(
    "expected",
    [EXPECTED._replace(system_id=7), EXPECTED._replace(segment_size=2 * SEGMENT)],
    ids=["another cluster", "another segment size"],
)
def test_other_wal_is_refused(level: VerifyLevel, expected: Expected) -> None:
    with pytest.raises((WrongCluster, WalError)) as caught:
        feed(level, WAL, [], expected)
    if expected.system_id == 7:
        assert isinstance(caught.value, WrongCluster)


@pytest.mark.parametrize("level", ["headers", "records"])
def test_a_timeline_that_is_not_expected(level: VerifyLevel) -> None:
    with pytest.raises(PageHeaderError, match="timeline"):
        feed(level, WAL, [], EXPECTED._replace(timelines=(2,)))


def test_only_records_shows_a_flipped_bit_in_a_record() -> None:
    data = bytearray(WAL)
    data[300] ^= 0x10
    feed("headers", bytes(data), [])
    with pytest.raises(RecordError, match="checksum"):
        feed("records", bytes(data), [])


def test_the_long_header() -> None:
    header = read_long_header(WAL[:40])
    assert header is not None
    assert (header.system_id, header.page_lsn) == (SYSTEM_IDENTIFIER, SEGMENT)
    assert (header.version, header.segment_size, header.block_size) == (18, SEGMENT, PAGE)
    assert read_long_header(WAL[:39]) is None
    assert read_long_header(WAL[PAGE : PAGE + 40]) is None
    assert read_long_header(bytes(40)) is None
