"""Ends of transactions by LSN, xid and time, against a plain list of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.test_ingest import Memory
from tests.support.walgen import SEGMENT, WalWriter, record_body
from walstream.index import ingest
from walstream.index.ends import (
    End,
    decode_ends,
    encode_ends,
    end_events,
    end_of_xid,
    end_runs,
    ends,
    first_end_after_time,
    last_commit,
    latest_time,
    restore_points,
)
from walstream.index.ingest import Ingest, begin_index
from walstream.index.page_index import Event, PageIndex

# Commits and aborts, plain and prepared.
INFOS = (0x00, 0x20, 0x80, 0xA0, 0xB0, 0xC0)
XIDS = (3, 4, 255, 256, 700, 2**32 - 1)


@st.composite
def transactions(draw: st.DrawFn) -> tuple[WalWriter, list[tuple[End, tuple[int, ...]]]]:
    """Returns WAL of ends, on a clock that jumps, and what they are, with subtransactions."""
    wal = WalWriter(18, SEGMENT, SEGMENT)
    found = []
    for _ in range(draw(st.integers(1, 40))):
        info, xid = draw(st.sampled_from(INFOS)), draw(st.sampled_from(XIDS))
        time_us = draw(st.integers(0, 12))
        body = time_us.to_bytes(8, "little")
        subxids: tuple[int, ...] = ()
        if info & 0x80:
            prepared = info & 0x70 in (0x30, 0x40)
            subxids = tuple(draw(st.lists(st.sampled_from(XIDS), max_size=3)))
            numbers = [0x02 | (0x10 if prepared else 0), len(subxids), *subxids]
            numbers += [xid] if prepared else []
            body += b"".join(number.to_bytes(4, "little") for number in numbers)
            header = 0 if prepared else xid
        else:
            header = xid
        record = wal.add(1, info, header, record_body(18, (), body))
        found.append((End(record.end_lsn, record.start_lsn, xid, time_us, info), subxids))
        if draw(st.integers(0, 3)) == 0:
            wal.add(8, 0x10, 0, record_body(18, (), bytes(24)))
    return wal, found


@given(made=transactions(), read_size=st.sampled_from([100, 300, 1 << 20]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_end_is_found_by_lsn_xid_and_time(
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[WalWriter, list[tuple[End, tuple[int, ...]]]],
    read_size: int,
    data: st.DataObject,
) -> None:
    wal, found = made
    model = [end for end, _ in found]
    index = PageIndex(tmp_path_factory.mktemp("index"))
    begin_index(index, SEGMENT, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "READ_SIZE", read_size)
        own = Ingest(index, Memory(SEGMENT, bytes(wal.data)), 18, SEGMENT, None)
        while own.read_lsn < wal.lsn:
            own.advance(wal.lsn)
    after, upto = sorted(data.draw(st.tuples(*[st.integers(SEGMENT, wal.lsn)] * 2)))
    expected = [end for end in model if after < end.end_lsn <= upto]
    assert list(ends(index, after, upto)) == expected
    events = list(end_events(index, after, upto))
    assert events == sorted(events)
    assert [event.end_lsn for event in events if event.rmgr_id == 1] == [e[0] for e in expected]
    in_runs: list[Event] = []
    for found_next in end_runs(index, after, upto):
        if isinstance(found_next, Event):
            in_runs.append(found_next)
        else:
            in_runs += [Event(row[0], row[1], 1, row[4], row[2]) for row in found_next]
            assert found_next == [e for e in expected if found_next[0] <= e <= found_next[-1]]
    assert in_runs == events
    commits = [end for end in model if end.end_lsn <= upto and end.committed]
    assert last_commit(index, upto) == (commits[-1] if commits else None)
    for xid in (*XIDS, 5):
        named = [end for end, subxids in found if xid in (end.xid, *subxids)]
        assert end_of_xid(index, xid) == (named[-1] if named else None)
    for time_us in range(14):
        later = [end for end in model if end.time_us > time_us]
        assert first_end_after_time(index, time_us) == (later[0] if later else None)
    assert latest_time(index) == max(end.time_us for end in model)
    index.close()


@given(st.lists(st.tuples(*[st.integers(1, 2**20)] * 2, st.integers(0, 2**32 - 1))))
def test_lists_come_back(steps: list[tuple[int, int, int]]) -> None:
    lsn, made = 2**40, []
    for number, (step, length, xid) in enumerate(steps):
        lsn += step
        made.append(End(lsn, lsn - length, xid, 2**63 - number * 7, 0x20))
    if made:
        assert list(decode_ends(made[0].end_lsn, encode_ends(made))) == made


def test_restore_points_by_name_are_those_of_that_name_only(tmp_path: Path) -> None:
    wal = WalWriter(18, SEGMENT, SEGMENT)
    names = (b"a", b"ab", b"a", b"", b"\xe9t\xe9")
    for number, name in enumerate(names):
        body = number.to_bytes(8, "little") + name.ljust(64, b"\0")
        wal.add(0, 0x70, 0, record_body(18, (), body))
    index = PageIndex(tmp_path / "index")
    begin_index(index, SEGMENT, ())
    own = Ingest(index, Memory(SEGMENT, bytes(wal.data)), 18, SEGMENT, None)
    own.advance(wal.lsn)
    assert sorted(point.name for point in restore_points(index)) == sorted(names)
    assert [point.time_us for point in restore_points(index, b"a")] == [0, 2]
    assert [point.time_us for point in restore_points(index, b"\xe9t\xe9")] == [4]
    assert [point.time_us for point in restore_points(index, b"")] == [3]
    index.close()
