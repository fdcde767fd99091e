"""The scanner: the same records as the stream decoder and record reader, as columns."""

from __future__ import annotations

import mmap
import struct
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.strategies import cuts, written_wal
from tests.support.walgen import SEGMENT, Block, WalWriter, record_body
from tests.wal.builds import IDS, SCANS, STREAMS
from tests.wal.reading import decode, pieces, scan_batches
from walstream.errors import WalError
from walstream.wal.columns import RecordColumns
from walstream.wal.match import RecordMatch
from walstream.wal.model import BufferTag, RawRecord, XLogRecord
from walstream.wal.reason import Reason
from walstream.wal.record import decode_wal_record
from walstream.wal.scan import WalScanner
from walstream.wal.totals import RecordTotals

builds = pytest.mark.parametrize("scan", SCANS, ids=IDS)


def check(batch: RecordColumns, piece: bytes, records: list[RawRecord], version: int) -> None:
    """Compares a batch with the records that it must hold."""
    row = 0
    for i, raw in enumerate(records):
        decoded = decode_wal_record(raw, version)
        assert batch.start_lsn[i] == raw.start_lsn
        assert batch.end_lsn[i] == raw.end_lsn
        assert batch.prev_lsn[i] == decoded.prev_lsn
        assert batch.total_length[i] == len(raw.data)
        assert (batch.xid[i], batch.rmgr[i], batch.info[i]) == (
            decoded.xid,
            decoded.rmgr_id,
            decoded.info,
        )
        at = batch.record_at[i]
        source, at = (piece, at) if at >= 0 else (batch.side, ~at)
        assert bytes(source[at : at + len(raw.data)]) == raw.data
        at = batch.main_at[i]
        source, at = (piece, at) if at >= 0 else (batch.side, ~at)
        assert bytes(source[at : at + batch.main_length[i]]) == decoded.main_data
        assert batch.block_begin[i] == row
        assert batch.blocks[i] == len(decoded.blocks)
        fpi = 0
        for block in decoded.blocks:
            assert batch.block_record[row] == i
            assert batch.block_id[row] == block.id
            assert (
                batch.spc[row],
                batch.db[row],
                batch.rel[row],
                batch.fork[row],
                batch.block[row],
            ) == block.tag
            assert batch.flags[row] == block.flags
            assert batch.data_length[row] == len(block.data)
            if block.image is None:
                assert batch.image[row] == batch.image_length[row] == 0
                assert batch.hole_length[row] == batch.hole_offset[row] == 0
            else:
                fpi += len(block.image.data)
                assert batch.image_length[row] == len(block.image.data)
                assert batch.hole_offset[row] == block.image.hole_offset
                assert batch.hole_length[row] == block.image.hole_length
                assert batch.image[row] == (
                    1
                    | (2 if block.image.apply else 0)
                    | (4 if block.image.hole_offset else 0)
                    | block.image.compression << 4
                )
            row += 1
        assert batch.fpi_length[i] == fpi
    assert batch.block_count == row == len(batch.image)


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_columns_are_the_records(scan: ModuleType, wal: WalWriter, data: st.DataObject) -> None:
    written = bytes(wal.data)
    errors, batches = scan_batches(
        scan,
        written,
        wal.start_lsn,
        wal.segment_size,
        data.draw(cuts(len(written))),
        batch=data.draw(st.integers(1, 20)),
        keep_records=True,
    )
    assert errors == []
    done = 0
    for batch, piece in batches:
        check(batch, piece, wal.records[done : done + batch.count], wal.version)
        done += batch.count
    assert done == len(wal.records)


@given(wal=written_wal(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_damage_is_the_decoders_damage(wal: WalWriter, data: st.DataObject) -> None:
    written = bytearray(wal.data)
    assume(written)
    if not written:
        return
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(0, len(written) - 1))] ^= data.draw(st.integers(1, 255))
    args = (bytes(written), wal.start_lsn, wal.segment_size)
    results = []
    for scan in SCANS:
        errors, batches = scan_batches(scan, *args, data.draw(cuts(len(written))))
        records = [lsn for batch, _ in batches for lsn in batch.start_lsn]
        results.append((errors, records))
    assert results[0] == results[1]
    events = decode(STREAMS[0], *args)
    assert results[0][1] == [event.start_lsn for event in events if isinstance(event, RawRecord)]
    assert [error[1:] for error in results[0][0]] == [
        event for event in events[:-1] if not isinstance(event, RawRecord)
    ]


@builds
def test_contradicting_block_headers(scan: ModuleType) -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    wrong = wal.add(10, 0, 1, struct.pack("<BBH", 0, 0x20, 0) + bytes(30))
    last = wal.add_of_length(100)
    errors, batches = scan_batches(scan, bytes(wal.data), SEGMENT, SEGMENT)
    ((before, kind, message, lsn, reason, *_),) = errors
    assert (before, kind, lsn) == (1, "RecordError", wrong.start_lsn)
    assert reason == Reason.INVALID_BLOCKS
    assert "BKPBLOCK_HAS_DATA set, but no data included in record at" in message
    assert [list(batch.start_lsn) for batch, _ in batches][-1] == [last.start_lsn]


@builds
def test_main_data_of_cut_records_without_keeping_them(scan: ModuleType) -> None:
    wal = WalWriter()
    wal.fill_page(96)
    main_data = bytes(range(200))
    wal.add(10, 0, 7, record_body(18, (), main_data))
    _, batches = scan_batches(scan, bytes(wal.data), SEGMENT, SEGMENT)
    batch, _ = batches[-1]
    assert batch.record_at[-1] == -1
    assert batch.main_at[-1] < 0
    at = ~batch.main_at[-1]
    assert batch.side[at : at + batch.main_length[-1]] == main_data


@builds
def test_a_piece_must_be_done_before_the_next(scan: ModuleType) -> None:
    wal = WalWriter()
    wal.add_of_length(100)
    scanner = scan.WalScanner(18, SEGMENT, SEGMENT)
    scanner.feed_bytes(SEGMENT, bytes(wal.data))
    with pytest.raises(ValueError, match="not done yet"):
        scanner.feed_bytes(wal.lsn, b"x")
    assert scanner.poll_columns() is not None
    assert scanner.poll_columns() is None
    scanner.feed_bytes(wal.lsn, b"x")


def test_threads_scan_a_mapped_file(tmp_path: Path) -> None:
    wal = WalWriter()
    for _ in range(3000):
        wal.add_of_length(120)
    path = tmp_path / "segment"
    path.write_bytes(wal.close())
    counts = []

    def count() -> None:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            scanner = WalScanner(None, SEGMENT, SEGMENT)
            scanner.feed_bytes(SEGMENT, mapped)
            found = 0
            while (batch := scanner.poll_columns()) is not None:
                found += batch.count
            counts.append((found, scanner.end_of_wal is not None))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [(3000, True)] * 3


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_totals_are_the_sums_of_the_columns(
    scan: ModuleType, wal: WalWriter, data: st.DataObject
) -> None:
    written = bytes(wal.data)
    starts = [record.start_lsn for record in wal.records] or [wal.start_lsn]
    low = data.draw(st.sampled_from([0, *starts]))
    high = data.draw(st.sampled_from([*starts, wal.lsn]))
    totals = totals_for(scan)
    scanner = scan.WalScanner(None, wal.segment_size, wal.start_lsn)
    scanner.choose(match_for(scan), low, high)
    lsn = wal.start_lsn
    for piece in pieces(written, data.draw(cuts(len(written)))):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        if not scanner.add_totals(totals):
            break
    expected: Counter[tuple[str, int]] = Counter()
    counted = []
    for raw in wal.records:
        if not low <= raw.start_lsn < high:
            continue
        decoded = decode_wal_record(raw, wal.version)
        fpi = sum(len(block.image.data) for block in decoded.blocks if block.image)
        op = decoded.info >> 4 & (7 if decoded.rmgr_id == 1 else 15)
        place = decoded.rmgr_id * 16 + op
        expected["counts", place] += 1
        expected["record_bytes", place] += len(raw.data) - fpi
        expected["fpi_bytes", place] += fpi
        counted.append(raw)
    for name in ("counts", "record_bytes", "fpi_bytes"):
        for place, value in enumerate(getattr(totals, name)):
            assert value == expected[name, place]
    assert totals.records == len(counted)
    assert totals.first_lsn == (counted[0].start_lsn if counted else 0)
    assert totals.last_lsn == (counted[-1].start_lsn if counted else 0)
    assert totals.end_lsn == (counted[-1].end_lsn if counted else 0)


def test_columns_from_a_row_on() -> None:
    wal = WalWriter()
    for number in range(6):
        tag = BufferTag(1, 2, 3, 0, number)
        blocks = [Block(block_id, tag) for block_id in range(number % 3)]
        wal.add(10, 0, number, record_body(18, blocks, b"x"))
    _, ((whole, piece),) = scan_batches(SCANS[0], bytes(wal.data), SEGMENT, SEGMENT)
    for row in range(7):
        part = whole.from_row(row)
        assert part.count == 6 - row
        check(part, piece, wal.records[row:], 18)


def match_for(scan: ModuleType, **conditions: Any) -> Any:
    """Returns a match that is compiled if the scanner is."""
    return getattr(scan, "RecordMatch", RecordMatch)(**conditions)


def totals_for(scan: ModuleType) -> Any:
    """Returns totals that are compiled if the scanner is."""
    return getattr(scan, "RecordTotals", RecordTotals)()


def fits(record: XLogRecord, conditions: dict[str, Any]) -> bool:
    """Returns what ``RecordMatch`` should say."""
    relation, block, fork = (conditions[name] for name in ("relation", "block", "fork"))
    return (
        (not conditions["rmgrs"] or record.rmgr_id in conditions["rmgrs"])
        and conditions["xid"] in (None, record.xid)
        and (not conditions["fullpage"] or any(ref.image for ref in record.blocks))
        and (
            (relation, block, fork) == (None, None, None)
            or any(
                relation in (None, ref.tag[:3])
                and fork in (None, ref.tag.fork)
                and block in (None, ref.tag.block)
                for ref in record.blocks
            )
        )
    )


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_chosen_records_are_those_that_fit(
    scan: ModuleType, wal: WalWriter, data: st.DataObject
) -> None:
    decoded = [decode_wal_record(raw, wal.version) for raw in wal.records]
    starts = [record.start_lsn for record in decoded]
    low, high = sorted(data.draw(st.tuples(*[st.sampled_from([0, *starts, 1 << 62])] * 2)))
    tags = [block.tag for record in decoded for block in record.blocks]
    some_tag = st.sampled_from([BufferTag(1, 2, 3, 0, 0), *tags])
    conditions = {
        "rmgrs": data.draw(st.sets(st.sampled_from([0, 1, 10, 11]))),
        "xid": data.draw(st.none() | st.sampled_from([0, *(record.xid for record in decoded)])),
        "relation": data.draw(st.none() | some_tag.map(lambda tag: tag[:3])),
        "block": data.draw(st.none() | some_tag.map(lambda tag: tag.block)),
        "fork": data.draw(st.none() | some_tag.map(lambda tag: tag.fork)),
        "fullpage": data.draw(st.booleans()),
    }
    detached = data.draw(st.booleans())
    scanner = scan.WalScanner(
        None, wal.segment_size, wal.start_lsn, keep_records=True, detached=detached
    )
    scanner.choose(match_for(scan, **conditions), low, high)
    lsn = wal.start_lsn
    written = bytes(wal.data)
    batches = []
    for piece in pieces(written, data.draw(cuts(len(written)))):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        while (columns := scanner.poll_columns()) is not None:
            batches.append((columns, b"" if detached else piece))
        if scanner.next_lsn:
            break
    chosen = [
        raw
        for raw, record in zip(wal.records, decoded, strict=True)
        if low <= record.start_lsn < high and fits(record, conditions)
    ]
    assert [lsn for columns, _ in batches for lsn in columns.start_lsn] == [
        raw.start_lsn for raw in chosen
    ]
    for columns, piece in batches:
        check(columns, piece, chosen[: columns.count], wal.version)
        del chosen[: columns.count]
    assert scanner.first_lsn == next((start for start in starts if low <= start < high), 0)
    assert scanner.next_lsn == next((start for start in starts if start >= high), 0)


@builds
@given(wal=written_wal(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_sums_and_choices_find_the_damage_that_columns_find(
    scan: ModuleType, wal: WalWriter, data: st.DataObject
) -> None:
    written = bytearray(wal.data)
    assume(written)
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    ends: list[tuple[object, ...]] = []
    for how in ("columns", "sums", "choice"):
        scanner = scan.WalScanner(None, wal.segment_size, wal.start_lsn)
        if how == "choice":
            scanner.choose(match_for(scan, xid=0xFFFFFFF0))
        scanner.feed_bytes(wal.start_lsn, bytes(written))
        seen: object = None
        try:
            if how == "sums":
                scanner.add_totals(totals_for(scan))
            else:
                while scanner.poll_columns() is not None:
                    pass
        except WalError as error:
            seen = (str(error), error.lsn, error.reason)
        ends.append((seen, scanner.verified_end_lsn, scanner.pending_lsn))
    assert ends[0] == ends[1] == ends[2]
