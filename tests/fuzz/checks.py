"""What must hold for any input: only WalError comes out, and all ways of reading agree.

A failed check is an exception of any other kind; the sanitizer, where there is one, ends the
process itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast
from zlib import crc32

from tests.fuzz.inputs import (
    FIND_RECORD,
    FROM_ZERO,
    PAGE,
    SIZE_KNOWN,
    SYSTEM_KNOWN,
    ImageCase,
    RecordCase,
    WalCase,
    exact,
    unpack,
)
from tests.rmgr.test_bodies import PARSERS
from tests.rmgr.test_describe import PURE_LINES
from tests.support.walgen import SYSTEM_IDENTIFIER, record_bytes
from tests.wal.builds import RECORDS, SCANS, STREAMS
from tests.wal.reading import decode, pieces, said, scan_batches, scan_lines
from tests.wal.test_image import BUILDS as IMAGES
from tests.wal.test_scan import check as check_columns
from tests.wal.test_scan import fits
from walstream import rmgr
from walstream.dump import text_lines
from walstream.errors import RecordError, WalError
from walstream.index.ingest import Ingest
from walstream.index.page_index import Batch, DatabaseChange, PageIndex, SizeChange
from walstream.rmgr.heap.effects import visibility_clears
from walstream.wal import scan, stream
from walstream.wal.columns import RecordColumns
from walstream.wal.image import pglz_decompress_bytes
from walstream.wal.match import RecordMatch
from walstream.wal.model import BLCKSZ, PageImage, RawRecord, RelFileLocator
from walstream.wal.reason import Reason
from walstream.wal.record import RecordReader, decode_wal_record
from walstream.wal.totals import RecordTotals

# The builds are compared on one input in so many: the uncompiled one takes most of the time.
PURE_SHARE = 16

_writers = {
    (module.__name__, version, details): module.LineWriter(version, details)
    for module in (text_lines, PURE_LINES)
    for version in range(14, 19)
    for details in (False, True)
}


def check(data: bytes) -> tuple[object, ...]:
    """Checks one input; returns what came out, in short."""
    case = unpack(data)
    with_pure = crc32(data) % PURE_SHARE == 0
    if isinstance(case, WalCase):
        return check_wal(case, with_pure)
    if isinstance(case, RecordCase):
        raw = record_bytes(0, case.rmgr, case.info, 700, case.body)
        return check_record(raw, case.version, with_pure)
    if isinstance(case, ImageCase):
        return check_image(PageImage(case.data, *case[1:3], case.compression, True), with_pure)
    return ()


# -- images


def check_image(image: PageImage, with_pure: bool) -> tuple[object, ...]:
    outcomes = []
    if image.compression == 1:
        with contextlib.suppress(RecordError):
            pglz_decompress_bytes(exact(image.data), max(BLCKSZ - image.hole_length, 0))
    for module in IMAGES if with_pure else IMAGES[:1]:
        try:
            page = module.restore_image(image)
        except RecordError as error:
            outcomes.append(str(error))
        else:
            assert len(page) == BLCKSZ
            outcomes.append(page)
    assert outcomes[0] == outcomes[-1]
    return ("image", image.compression, outcomes[0][:20] if isinstance(outcomes[0], str) else "")


# -- one record


def check_record(raw: bytes, version: int, with_pure: bool) -> tuple[object, ...]:
    """Checks the record reader and all that is printed of a record whose CRC may be wrong."""
    data = exact(raw)
    try:
        decoded = decode_wal_record(RawRecord(8, 64, data), version)
    except RecordError as error:
        assert "reason" in vars(error)
        if with_pure:
            pure = RECORDS[1].RecordReader(version)
            assert pure.read_bytes(raw) != 0
            assert pure.message() in str(error)
        return ("record", str(error)[:20])
    main_data = bytes(decoded.main_data)
    for parse in PARSERS:
        with contextlib.suppress(RecordError):
            parse(main_data, decoded.info, version)
    visibility_clears(decoded.rmgr_id, decoded.info, main_data)
    for block in decoded.blocks:
        if block.image is not None:
            check_image(block.image._replace(data=bytes(block.image.data)), with_pure)
    attempt(lambda: rmgr.describe(decoded, version).encode())
    described = attempt(lambda: rmgr.describer(version).describe_bytes(data))
    whole = decode_wal_record(RawRecord(8, 64, raw), version)
    attempt(lambda: repr(rmgr.fields(whole, version)).encode())
    for details in (False, True):
        text = line(text_lines, version, details, data)
        assert described in text
        if with_pure:
            assert text == line(PURE_LINES, version, details, raw)
    return ("record", version, decoded.rmgr_id, decoded.info & 0xF0, described[:12])


def attempt(make: Callable[[], bytes]) -> bytes:
    """Returns the text, or what a line says where there is none."""
    try:
        return make()
    except RecordError as error:
        return f"({error})".encode()


def line(module: Any, version: int, details: bool, data: bytes) -> bytes:
    writer = _writers[module.__name__, version, details]
    writer.text.clear()
    writer.write_record(RawRecord(0x2000058, 0x2000090, data))
    value = writer.text.value()
    assert isinstance(value, bytes)
    return value


# -- WAL


def cuts_of(seed: int, length: int) -> list[int]:
    """Where to cut: a few places, some with every byte around them alone."""
    random = Random(seed)
    found: set[int] = set()
    for _ in range(random.randrange(4)):
        at = random.randrange(length + 1)
        found.update(range(at, min(at + random.choice((1, 1, 2, 30)), length + 1)))
    return sorted(found)


def options_of(case: WalCase) -> dict[str, Any]:
    # In the middle of a page nothing says which version it is.
    unknown = case.start_lsn % PAGE != 0 and not case.flags & FIND_RECORD
    options: dict[str, Any] = {"version": case.version if case.announced or unknown else None}
    options["find_record"] = bool(case.flags & FIND_RECORD)
    if case.flags & SYSTEM_KNOWN:
        options["system_identifier"] = SYSTEM_IDENTIFIER
    if case.flags & SIZE_KNOWN:
        options["timeline"] = 1
    if case.flags & FROM_ZERO:
        options["prev_lsn"] = max(case.start_lsn - 64, 0)
    return options


def reader_of(kind: Any, case: WalCase, version: int | None, **options: Any) -> Any:
    """Returns a decoder or scanner for the case."""
    return kind(version, case.segment_size, case.start_lsn, **options)


def check_wal(case: WalCase, with_pure: bool) -> tuple[object, ...]:
    """Checks that every way of reading the WAL finds the same records and the same damage."""
    options = options_of(case)
    data = exact(case.data)
    args = (data, case.start_lsn, case.segment_size)
    cuts = cuts_of(case.seed, len(case.data))
    events = decode(stream, *args, **options)
    assert decode(stream, *args, cuts, **options) == events
    if with_pure:
        assert decode(STREAMS[1], *args, cuts, **options) == events
    first = next((event for event in events[:-1] if not isinstance(event, RawRecord)), None)
    check_verify(case, cuts, options, events, first)

    version = events[-1][0]
    expected = list(with_bad_blocks(events[:-1], version))
    whole = scan_batches(scan, *args, (), keep_records=True, batch=100, **options)
    check_scan(whole, expected, version)
    cut = scan_batches(scan, *args, cuts, keep_records=True, batch=case.seed % 20 + 1, **options)
    check_scan(cut, expected, version)
    if with_pure:
        pure = scan_batches(SCANS[1], *args, cuts, keep_records=True, batch=100, **options)
        check_scan(pure, expected, version)
    records = [event for event in expected if isinstance(event, RawRecord)]
    check_lines(case, cuts, options, cut[0], records, version)
    if case.seed % 2:
        check_choice(case, cuts, options, records, version)
    else:
        check_totals(case, cuts, options, expected)
    if case.announced and not case.flags:
        check_ingest(case)
    operations: Iterator[object] = ((raw.data[17], raw.data[16] & 0xF0) for raw in records)
    return ("wal", first and first[3], len(records), *operations)


def with_bad_blocks(events: list[Any], version: int) -> Iterator[Any]:
    """Yields the events of the stream decoder as a scanner has them.

    A scanner takes block headers apart too, and does not know what follows zeros when it meets
    them.
    """
    for event in events:
        if isinstance(event, RawRecord):
            try:
                decode_wal_record(event, version)
            except RecordError as error:
                reader = RecordReader(version)
                assert reader.read_bytes(event.data) != 0
                assert reader.message() in str(error)
                yield ("RecordError", event.start_lsn, Reason.INVALID_BLOCKS)
                continue
            yield event
        else:
            yield (event[0], event[2], event[3])


def check_scan(
    scanned: tuple[list[Any], list[tuple[RecordColumns, bytes]]], expected: list[Any], version: int
) -> None:
    errors, batches = scanned
    records = [event for event in expected if isinstance(event, RawRecord)]
    done = 0
    for batch, piece in batches:
        check_columns(batch, piece, records[done : done + batch.count], version)
        done += batch.count
    assert done == len(records)
    places = []
    before = 0
    for event in expected:
        if isinstance(event, RawRecord):
            before += 1
        else:
            places.append((before, *event))
    assert [(error[0], error[1], *error[3:5]) for error in errors] == places


def check_verify(
    case: WalCase, cuts: list[int], options: dict[str, Any], events: list[Any], first: Any
) -> None:
    """Checks that ``verify_bytes`` ends with the first error, or at the end of the last record.

    Whether the pieces are given one by one or all at once.
    """
    parts = pieces(exact(case.data), cuts)
    for groups in ([[part] for part in parts], [parts]):
        decoder = reader_of(stream.WalStreamDecoder, case, **options)
        lsn = case.start_lsn
        error = None
        for group in groups:
            try:
                verified = decoder.verify_bytes(lsn, group)
            except WalError as raised:
                error = said(raised)
                break
            lsn += sum(map(len, group))
            assert verified == decoder.verified_end_lsn
        end = events[-1]
        wanted = first or end[4]
        assert (error and (error[0], *error[2:])) == (wanted and (wanted[0], *wanted[2:]))
        if error is None:
            assert decoder.verified_end_lsn == end[3]


def check_lines(
    case: WalCase,
    cuts: list[int],
    options: dict[str, Any],
    errors: list[Any],
    records: list[RawRecord],
    version: int,
) -> None:
    """Checks that lines written where a scanner stands are those of single records."""
    if not records:
        return
    writer = _writers[text_lines.__name__, version, False]
    scanner = reader_of(scan.WalScanner, case, batch=100, **options)
    rows = case.seed % 2 == 1
    data = exact(case.data)
    found = scan_lines(scanner, lambda _version: writer, data, case.start_lsn, cuts, rows)
    expected = []
    for raw in records:
        writer.text.clear()
        writer.write_record(raw)
        expected.append(writer.text.value())
    assert found[0] == errors
    assert found[1] == expected
    if rows:
        starts = [lsn for columns in found[2] for lsn in columns.start_lsn]
        assert starts == [raw.start_lsn for raw in records]


def check_choice(
    case: WalCase,
    cuts: list[int],
    options: dict[str, Any],
    records: list[RawRecord],
    version: int,
) -> None:
    """Checks that a scanner that was told what is wanted gives just that, and all damage."""
    random = Random(case.seed)
    conditions: dict[str, Any] = {
        "rmgrs": random.choice(((), (10,), (0, 1, 9))),
        "xid": random.choice((None, None, 1)),
        "relation": random.choice((None, None, RelFileLocator(1663, 5, 16384))),
        "block": random.choice((None, None, 0)),
        "fork": random.choice((None, None, 1)),
        "fullpage": random.random() < 0.2,
    }
    start = random.choice([0, *(raw.start_lsn for raw in records)])
    wanted = {
        raw.start_lsn
        for raw in records
        if raw.start_lsn >= start and fits(decode_wal_record(raw, version), conditions)
    }
    found = []
    for narrow in (False, True):
        scanner = reader_of(scan.WalScanner, case, batch=100, **options)
        if narrow:
            scanner.choose(RecordMatch(**conditions), start)
        lsn = case.start_lsn
        rows: list[object] = []
        for piece in pieces(exact(case.data), cuts):
            scanner.feed_bytes(lsn, piece)
            lsn += len(piece)
            while True:
                try:
                    batch = scanner.poll_columns()
                except WalError as error:
                    rows.append(said(error))
                    scanner.resync()
                    continue
                if batch is None:
                    break
                rows += [lsn for lsn in batch.start_lsn if narrow or lsn in wanted]
        found.append((rows, scanner.verified_end_lsn, scanner.pending_lsn))
    assert found[0] == found[1]


def check_totals(
    case: WalCase, cuts: list[int], options: dict[str, Any], expected: list[Any]
) -> None:
    """Checks the sums of the records before the first damage."""
    totals = RecordTotals()
    scanner = reader_of(scan.WalScanner, case, batch=1, **options)
    lsn = case.start_lsn
    error = None
    for piece in pieces(exact(case.data), cuts):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        try:
            assert scanner.add_totals(totals)
        except WalError as raised:
            error = (type(raised).__name__, raised.lsn, raised.reason)
            break
    count = length = 0
    found = None
    for event in expected:
        if not isinstance(event, RawRecord):
            found = event
            break
        count += 1
        length += len(event.data)
    assert error == found
    assert totals.records == sum(totals.counts) == count
    assert sum(totals.record_bytes) + sum(totals.fpi_bytes) == length


class Memory:
    """WAL in memory, and an index that keeps nothing."""

    def __init__(self, case: WalCase) -> None:
        self.case = case
        self.batches: list[Batch] = []

    def read(self, lsn: int, length: int) -> bytes:
        at = lsn - self.case.start_lsn
        return self.case.data[at : at + length]

    def meta(self, name: str) -> bytes | None:
        return str(self.case.start_lsn).encode() if name == "last_record_end" else None

    def taken_back_to(self) -> int | None:
        return None

    def size_at(self, _locator: RelFileLocator, _fork: int, *_upto: int) -> int | None:
        return None

    def sizes(self, _locator: RelFileLocator, _fork: int, *_upto: int) -> Iterator[SizeChange]:
        return iter(())

    def forks(self, _locator: RelFileLocator) -> Iterator[int]:
        return iter(())

    def database_replaced(self, _spc: int, _db: int, *_upto: int) -> DatabaseChange | None:
        return None

    def scan(self, _prefix: bytes, _start: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def scan_down(self, _prefix: bytes, _last: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def scan_back(self, _prefix: bytes, _upto_lsn: int) -> Iterator[tuple[int, bytes]]:
        return iter(())

    def lists_from(self, _prefix: bytes, _lsn: int) -> Iterator[tuple[int, bytes]]:
        return iter(())

    def write(self, batch: Batch) -> None:
        assert all(isinstance(pair[0], bytes) for pair in batch.pairs)
        self.batches.append(batch)


def check_ingest(case: WalCase) -> None:
    """Checks that the index takes the records, or refuses them with a WalError."""
    memory = Memory(case)
    index = cast("PageIndex", memory)
    own = Ingest(index, memory, case.version, case.segment_size, None)
    end = case.start_lsn + len(case.data)
    with contextlib.suppress(WalError):
        while own.read_lsn < end:
            own.advance(end)
