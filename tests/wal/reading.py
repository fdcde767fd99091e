"""Drives the decoders over WAL that may be damaged and writes down all that they say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from walstream.errors import WalError
from walstream.wal.columns import RecordColumns


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def said(error: WalError) -> tuple[Any, ...]:
    return (type(error).__name__, str(error), error.lsn, error.reason, error.expected, error.got)


def decode(
    stream: ModuleType,
    data: bytes,
    start_lsn: int,
    segment_size: int,
    cuts: Sequence[int] = (),
    *,
    resync: bool = True,
    **options: Any,
) -> list[Any]:
    """Returns records and errors in order, and last the state at the end."""
    decoder = stream.WalStreamDecoder(
        options.pop("version", None), segment_size, start_lsn, **options
    )
    events: list[Any] = []
    lsn = start_lsn
    for piece in pieces(data, cuts):
        decoder.feed_bytes(lsn, piece)
        lsn += len(piece)
        while True:
            try:
                raw = decoder.poll_decode()
            except WalError as error:
                events.append(said(error))
                # One error a page at most: less would be a loop.
                assert len(events) < 40 + len(data) // 8
                if not resync:
                    return events
                decoder.resync()
                continue
            if raw is None:
                break
            events.append(raw)
    end = decoder.end_of_wal
    events.append(
        (
            decoder.version,
            decoder.timeline,
            decoder.system_identifier,
            decoder.verified_end_lsn,
            said(end) if end else None,
            [(lost.start_lsn, lost.end_lsn, said(lost.error)) for lost in decoder.lost],
        )
    )
    return events


def scan_batches(
    scan: ModuleType,
    data: bytes,
    start_lsn: int,
    segment_size: int,
    cuts: Sequence[int] = (),
    **options: Any,
) -> tuple[list[Any], list[tuple[RecordColumns, bytes]]]:
    """Returns errors with the number of records before each, and batches with their pieces."""
    scanner = scan.WalScanner(options.pop("version", None), segment_size, start_lsn, **options)
    errors: list[Any] = []
    batches: list[tuple[RecordColumns, bytes]] = []
    lsn = start_lsn
    for piece in pieces(data, cuts):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        while True:
            try:
                columns = scanner.poll_columns()
            except WalError as error:
                errors.append((sum(batch.count for batch, _ in batches), *said(error)))
                assert len(errors) < 40 + len(data) // 8
                scanner.resync()
                continue
            if columns is None:
                break
            batches.append((columns, piece))
    return errors, batches


def scan_lines(
    scanner: Any,
    make_writer: Callable[[int], Any],
    data: bytes,
    start_lsn: int,
    cuts: Sequence[int] = (),
    rows: bool = False,
) -> tuple[list[Any], list[bytes], list[RecordColumns]]:
    """Returns errors with the number of records before each, what is written of each, columns.

    Args:
        scanner: what WAL is fed to.
        make_writer: makes a ``RecordWriter`` of a version, of the same build as the scanner.
        data, start_lsn, cuts: the WAL.
        rows: collect columns, too.
    """
    errors: list[Any] = []
    found: list[bytes] = []
    columns: list[RecordColumns] = []
    writer: Any = None
    lsn = start_lsn
    for piece in pieces(data, cuts):
        scanner.feed_bytes(lsn, piece)
        lsn += len(piece)
        while True:
            try:
                if not scanner.next_record():
                    break
            except WalError as error:
                errors.append((len(found), *said(error)))
                assert len(errors) < 40 + len(data) // 8
                scanner.resync()
                continue
            writer = writer or make_writer(scanner.version)
            count = writer.write_from(scanner, rows)
            text = writer.text.value()
            ends = writer.take_ends(count)
            assert ends[0] == 0
            assert ends[-1] == len(text)
            found += [text[begin:end] for begin, end in itertools.pairwise(ends)]
            if rows:
                columns.append(scanner.take())
                assert columns[-1].count == count
    return errors, found, columns
