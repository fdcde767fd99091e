"""The stream decoder: any cut, round trip, mutated bytes, both builds, resync."""

from __future__ import annotations

import resource
import struct
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strategies import cuts, versions, written_wal
from tests.support.walgen import SEGMENT, SYSTEM_IDENTIFIER, WalWriter, record_bytes
from tests.wal.builds import IDS, STREAMS
from tests.wal.reading import decode, pieces
from walstream.errors import PageHeaderError, RecordError, WalError, WalGapError
from walstream.wal.model import RawRecord
from walstream.wal.reason import Reason
from walstream.wal.stream import WalStreamDecoder

builds = pytest.mark.parametrize("stream", STREAMS, ids=IDS)


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_round_trip_however_cut(stream: ModuleType, wal: WalWriter, data: st.DataObject) -> None:
    written = bytes(wal.data)
    events = decode(stream, written, wal.start_lsn, wal.segment_size, data.draw(cuts(len(written))))
    assert events[:-1] == wal.records
    if wal.records:
        version, timeline, _, verified, end, lost = events[-1]
        assert (version, timeline, verified) == (wal.version, 1, wal.lsn)
        assert (end, lost) == (None, [])


@given(wal=written_wal(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_mutated_bytes_give_the_same_events_in_both_builds_however_cut(
    wal: WalWriter, data: st.DataObject
) -> None:
    written = bytearray(wal.data)
    if not written:
        return
    for _ in range(data.draw(st.integers(1, 4))):
        near = data.draw(st.sampled_from([record.start_lsn for record in wal.records] or [0]))
        at = data.draw(
            st.one_of(
                st.integers(0, len(written) - 1),
                st.integers(0, len(written) // 8192 - 1 if len(written) > 8192 else 0).map(
                    lambda page: page * 8192
                ),
                st.just(max(near - wal.start_lsn, 0)),
            )
        )
        at = min(at + data.draw(st.integers(0, 40)), len(written) - 1)
        new = data.draw(st.binary(min_size=1, max_size=8))
        written[at : at + len(new)] = new
    args = (bytes(written), wal.start_lsn, wal.segment_size)
    whole = decode(STREAMS[0], *args)
    assert decode(STREAMS[1], *args) == whole
    where = data.draw(cuts(len(written)))
    assert decode(STREAMS[0], *args, where) == whole
    assert decode(STREAMS[1], *args, where) == whole
    assert set(whole[:-1]) & set(wal.records) == {
        event for event in whole[:-1] if isinstance(event, RawRecord)
    }


@given(st.binary(max_size=400), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_any_bytes(noise: bytes, header: bool, data: st.DataObject) -> None:
    wal = WalWriter()
    if header:
        wal.open_page()
        noise = bytes(wal.data) + noise
    where = data.draw(cuts(len(noise)))
    whole = decode(STREAMS[0], noise, SEGMENT, SEGMENT)
    assert decode(STREAMS[1], noise, SEGMENT, SEGMENT, where) == whole


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_verifying_reaches_the_same_end(
    stream: ModuleType, wal: WalWriter, data: st.DataObject
) -> None:
    decoder = stream.WalStreamDecoder(wal.version, wal.segment_size, wal.start_lsn)
    lsn = wal.start_lsn
    for piece in pieces(bytes(wal.data), data.draw(cuts(len(wal.data)))):
        verified = decoder.verify_bytes(lsn, [piece])
        lsn += len(piece)
        expected = [record.end_lsn for record in wal.records if record.end_lsn <= lsn]
        # A record counts as soon as its last byte is there, before its padding.
        assert verified >= (expected[-1] if expected else wal.start_lsn)
    assert decoder.verified_end_lsn == (wal.records[-1].end_lsn if wal.records else wal.start_lsn)
    at_once = stream.WalStreamDecoder(wal.version, wal.segment_size, wal.start_lsn)
    cut = list(pieces(bytes(wal.data), range(0, len(wal.data), 700)))
    assert at_once.verify_bytes(wal.start_lsn, cut) == decoder.verified_end_lsn
    assert at_once.feed_lsn == lsn


@builds
@given(version=versions, at=st.integers(0, 40000))
@settings(max_examples=25, deadline=None)
def test_start_anywhere_finds_the_next_record(stream: ModuleType, version: int, at: int) -> None:
    wal = WalWriter(version)
    for size in (300, 9000, 60, 20000, 100, 8120, 500, 700, 3000, 9000):
        wal.add_of_length(size)
    events = decode(stream, bytes(wal.data)[at:], SEGMENT + at, SEGMENT, find_record=True)
    page = SEGMENT + -(-at // 8192) * 8192
    assert (
        events[:-1]
        == [record for record in wal.records if record.start_lsn >= page][: len(events) - 1]
    )
    # Nothing but records that begin before that page is left out.
    if page < wal.lsn:
        expected = [record for record in wal.records if record.start_lsn >= page]
        assert len(events) - 1 == len(expected)


@builds
def test_zeros_end_wal_and_a_later_page_contradicts_them(stream: ModuleType) -> None:
    wal = WalWriter()
    first = wal.add_of_length(100)
    hole = wal.lsn
    wal.fill_page(0)
    second = wal.add_of_length(100)
    data = bytearray(wal.data)
    data[hole - SEGMENT : 8192] = bytes(8192 - (hole - SEGMENT))
    decoder = stream.WalStreamDecoder(18, SEGMENT, SEGMENT)
    decoder.feed_bytes(SEGMENT, bytes(data[:8192]))
    assert decoder.poll_decode() == first
    assert decoder.poll_decode() is None
    assert decoder.end_of_wal.reason == Reason.ZERO_LENGTH
    assert decoder.end_of_wal.lsn == hole
    decoder.feed_bytes(SEGMENT + 8192, bytes(data[8192:]))
    with pytest.raises(RecordError, match=r"got 0 in record at .*, but WAL goes on in page at"):
        decoder.poll_decode()
    decoder.resync()
    assert decoder.poll_decode() == second
    assert [lost[:2] for lost in decoder.lost] == [(hole, second.start_lsn)]


@builds
def test_zeros_and_old_pages_are_no_contradiction(stream: ModuleType) -> None:
    old = WalWriter(start_lsn=7 * SEGMENT)
    for _ in range(400):
        old.add_of_length(100)
    wal = WalWriter(start_lsn=8 * SEGMENT)
    wal.add_of_length(100)
    recycled = wal.close(8192) + bytes(old.data)[8192:]
    events = decode(stream, recycled, 8 * SEGMENT, SEGMENT)
    assert events[:-1] == wal.records
    assert events[-1][4][3] == Reason.ZERO_LENGTH


@builds
def test_zeros_are_damage_for_a_receiver(stream: ModuleType) -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    decoder = stream.WalStreamDecoder(18, SEGMENT, SEGMENT)
    for _ in range(2):
        with pytest.raises(RecordError, match="expected at least 24, got 0"):
            decoder.verify_bytes(SEGMENT, [wal.close(8192)])
    assert decoder.verified_end_lsn == wal.lsn


@builds
def test_gap_is_refused(stream: ModuleType) -> None:
    decoder = stream.WalStreamDecoder(18, SEGMENT, SEGMENT)
    with pytest.raises(WalGapError, match="expected bytes at 0/100000, got them at 0/100008"):
        decoder.feed_bytes(SEGMENT + 8, b"12345678")


@builds
def test_wrong_arguments(stream: ModuleType) -> None:
    with pytest.raises(ValueError, match="segment_size"):
        stream.WalStreamDecoder(18, 12345, 0)
    with pytest.raises(ValueError, match="version"):
        stream.WalStreamDecoder(13, SEGMENT, 0)


@builds
def test_first_prev_link_is_checked_when_known(stream: ModuleType) -> None:
    wal = WalWriter(prev=SEGMENT - 64)
    record = wal.add_of_length(100)
    args = (bytes(wal.data), SEGMENT, SEGMENT)
    assert decode(stream, *args, prev_lsn=SEGMENT - 64)[0] == record
    assert decode(stream, *args, prev_lsn=SEGMENT - 72)[0][3] == Reason.INCORRECT_PREV


@builds
def test_seek_reads_single_records_again(stream: ModuleType) -> None:
    wal = WalWriter()
    for size in (100, 9000, 60, 20000):
        wal.add_of_length(size)
    decoder = stream.WalStreamDecoder(18, SEGMENT, SEGMENT)
    data = bytes(wal.data)
    for record in reversed(wal.records):
        decoder.seek(record.start_lsn)
        decoder.feed_bytes(record.start_lsn, data[record.start_lsn - SEGMENT :])
        assert decoder.poll_decode() == record


def test_errors_stay_until_resync() -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    second = wal.add_of_length(100)
    data = bytearray(wal.data)
    data[100] ^= 1
    decoder = WalStreamDecoder(18, SEGMENT, SEGMENT)
    decoder.feed_bytes(SEGMENT, bytes(data))
    for _ in range(2):
        with pytest.raises(RecordError, match="incorrect resource manager data checksum"):
            decoder.poll_decode()
    decoder.resync()
    assert decoder.poll_decode() == second


def test_memory_follows_what_arrived_not_what_a_header_claims() -> None:
    wal = WalWriter()
    wal.open_page()
    header = bytearray(record_bytes(0, 10, 0, 1, b""))
    header[:4] = struct.pack("<I", 1_000_000_000)
    wal.raw(bytes(header) + bytes(8192 - wal.lsn % 8192 - 24))
    decoder = WalStreamDecoder(18, SEGMENT, SEGMENT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoder.feed_bytes(SEGMENT, bytes(wal.data))
    assert decoder.poll_decode() is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_a_record_of_many_segments() -> None:
    wal = WalWriter()
    big = wal.add_of_length(40 << 20)
    small = wal.add_of_length(64)
    events = decode(STREAMS[0], wal.close(), SEGMENT, SEGMENT, range(0, 40 << 20, 128 << 10))
    assert events[:2] == [big, small]


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_other_systems_wal_is_refused(version: int) -> None:
    wal = WalWriter(version)
    wal.add_of_length(100)
    data = bytes(wal.data)
    with pytest.raises(PageHeaderError, match="expected system identifier 5, got"):
        WalStreamDecoder(version, SEGMENT, SEGMENT, system_identifier=5).verify_bytes(
            SEGMENT, [data]
        )
    with pytest.raises(PageHeaderError, match="expected segment size 2097152, got 1048576"):
        WalStreamDecoder(version, 2 * SEGMENT, 2 * SEGMENT).verify_bytes(2 * SEGMENT, [data])
    other = 14 if version == 18 else 18
    with pytest.raises(PageHeaderError, match="invalid magic number"):
        WalStreamDecoder(other, SEGMENT, SEGMENT).verify_bytes(SEGMENT, [data])
    decoder = WalStreamDecoder(None, SEGMENT, SEGMENT)
    decoder.verify_bytes(SEGMENT, [data])
    assert decoder.version == version
    assert decoder.system_identifier == SYSTEM_IDENTIFIER


def test_errors_are_wal_errors() -> None:
    assert issubclass(PageHeaderError, WalError)
    assert issubclass(RecordError, WalError)
