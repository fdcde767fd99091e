"""What PostgreSQL's own tools say about WAL, in the same words as what walstream says.

An :class:`Entry` is one record reduced to what ``pg_waldump --bkp-details`` prints of it, and so is
what ``pg_walinspect`` returns; :func:`entry_of` makes one from a decoded record.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import PostgresServer
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.segments.names import segment_file_name, segment_number
from walstream.wal.layout import COMPRESSION_NAMES
from walstream.wal.model import (
    BLCKSZ,
    FORK_NAMES,
    BlockRef,
    BufferTag,
    RawRecord,
    XLogRecord,
    format_lsn,
    parse_lsn,
)
from walstream.wal.stream import WalStreamDecoder


class EntryImage(NamedTuple):
    """A full-page image as pg_waldump describes it."""

    hole_offset: int
    hole_length: int
    apply: bool
    saved: int  # bytes that compression saved
    method: str


class EntryBlock(NamedTuple):
    """A block reference as pg_waldump describes it."""

    id: int
    tag: BufferTag
    image: EntryImage | None


class Entry(NamedTuple):
    """A record as pg_waldump describes it, without its description."""

    start_lsn: int
    prev: int
    rmgr: str
    xid: int
    length: int  # without images
    total_length: int
    blocks: tuple[EntryBlock, ...]


_RECORD = re.compile(
    r"rmgr: (?P<rmgr>\S+) +len \(rec/tot\): *(?P<length>\d+)/ *(?P<total>\d+), tx: *(?P<xid>\d+), "
    r"lsn: (?P<lsn>\S+), prev (?P<prev>\S+), desc: (?P<description>.*)"
)
_BLOCK = re.compile(
    r"\tblkref #(?P<id>\d+): rel (?P<spc>\d+)/(?P<db>\d+)/(?P<rel>\d+) fork (?P<fork>\w+) "
    r"blk (?P<block>\d+)"
    r"(?: \(FPW(?P<check> for WAL verification)?\); hole: offset: (?P<hole_offset>\d+), "
    r"length: (?P<hole_length>\d+)"
    r"(?:, compression saved: (?P<saved>\d+), method: (?P<method>\w+))?)?"
)


def waldump_entries(
    program: Path, directory: Path, segment_size: int, end_lsn: int
) -> Iterator[tuple[Entry, str]]:
    """What pg_waldump prints from the oldest segment to an LSN, with the descriptions."""
    # Named by files: left to choose one, pg_waldump may learn the segment size from one that the
    # server has made but not used yet, and fails.
    last = segment_file_name(1, (end_lsn - 1) // segment_size, segment_size)
    segments = [str(directory / first_segment(directory)), str(directory / last)]
    command = [str(program), "-b", "-e", format_lsn(end_lsn), *segments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        head: re.Match[str] | None = None
        blocks: list[EntryBlock] = []
        for line in process.stdout:
            if line.startswith("\t") and (block := _BLOCK.match(line)) is not None:
                blocks.append(_block(block))
            elif (match := _RECORD.match(line)) is not None:
                if head is not None:
                    yield _entry(head, blocks), head["description"]
                head, blocks = match, []
            elif line.strip() and not line.startswith("first record is after"):
                raise ValueError(f"pg_waldump: expected a record or a block, got {line!r}")
        if head is not None:
            yield _entry(head, blocks), head["description"]
        last_words = process.stderr.read()
    if last_words:
        raise ValueError(f"pg_waldump: expected silence, got {last_words!r}")


def walinspect_entries(
    server: PostgresServer, start_lsn: int, end_lsn: int
) -> Iterator[tuple[Entry, int, str]]:
    """What pg_walinspect (of 16 on) says, with the end LSNs and the descriptions."""
    bounds = [format_lsn(start_lsn), format_lsn(end_lsn)]
    with server.connect(dbname="postgres") as session:
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        blocks: dict[int, list[EntryBlock]] = {}
        for row in session.execute(
            "SELECT start_lsn - '0/0', block_id, reltablespace, reldatabase, relfilenode,"
            " relforknumber, relblocknumber, block_fpi_info, block_fpi_length"
            " FROM pg_get_wal_block_info(%s, %s, false)",
            bounds,
        ):
            tag = BufferTag(*(int(column) for column in row[2:7]))
            blocks.setdefault(int(row[0]), []).append(EntryBlock(int(row[1]), tag, None))
        for row in session.execute(
            "SELECT start_lsn - '0/0', prev_lsn - '0/0', resource_manager, xid::text,"
            " record_length, fpi_length, end_lsn - '0/0', description"
            " FROM pg_get_wal_records_info(%s, %s)",
            bounds,
        ):
            start = int(row[0])
            length, images = int(row[4]), int(row[5])
            yield (
                Entry(
                    start,
                    int(row[1]),
                    row[2],
                    int(row[3]),
                    length - images,
                    length,
                    tuple(blocks.get(start, ())),
                ),
                int(row[6]),
                row[7],
            )


def entry_of(record: XLogRecord) -> Entry:
    """What pg_waldump should say about a decoded record."""
    images = sum(len(block.image.data) for block in record.blocks if block.image is not None)
    return Entry(
        record.start_lsn,
        record.prev_lsn,
        rmgr_name(record.rmgr_id),
        record.xid,
        record.total_length - images,
        record.total_length,
        tuple(_entry_block(block) for block in record.blocks),
    )


def wal_pieces(
    directory: Path, segment_size: int, end_lsn: int, piece: int
) -> Iterator[tuple[int, bytes]]:
    """The WAL of timeline 1 from the oldest segment to the segment of ``end_lsn``, in pieces."""
    number = segment_number(first_segment(directory), segment_size)
    assert number is not None
    while number * segment_size < end_lsn:
        data = (directory / segment_file_name(1, number, segment_size)).read_bytes()
        for at in range(0, len(data), piece):
            yield number * segment_size + at, data[at : at + piece]
        number += 1


def first_segment(directory: Path) -> str:
    """The name of the oldest segment of a directory."""
    return min(path.name for path in directory.iterdir() if re.fullmatch("[0-9A-F]{24}", path.name))


def decoded(
    directory: Path, segment_size: int, end_lsn: int, *, piece: int = 1 << 16
) -> Iterator[RawRecord]:
    """The records up to an LSN in a directory of WAL, as the decoder gives them, fed in pieces."""
    decoder: WalStreamDecoder | None = None
    for lsn, data in wal_pieces(directory, segment_size, end_lsn, piece):
        if decoder is None:
            decoder = WalStreamDecoder(None, segment_size, lsn, find_record=True)
        decoder.feed_bytes(lsn, data)
        while (raw := decoder.poll_decode()) is not None:
            if raw.end_lsn > end_lsn:
                return
            yield raw


def _entry(head: re.Match[str], blocks: list[EntryBlock]) -> Entry:
    return Entry(
        parse_lsn(head["lsn"]),
        parse_lsn(head["prev"]),
        head["rmgr"],
        int(head["xid"]),
        int(head["length"]),
        int(head["total"]),
        tuple(blocks),
    )


def _block(match: re.Match[str]) -> EntryBlock:
    tag = BufferTag(
        int(match["spc"]),
        int(match["db"]),
        int(match["rel"]),
        FORK_NAMES[match["fork"]],
        int(match["block"]),
    )
    image = None
    if match["hole_offset"] is not None:
        image = EntryImage(
            int(match["hole_offset"]),
            int(match["hole_length"]),
            match["check"] is None,
            int(match["saved"] or 0),
            match["method"] or "none",
        )
    return EntryBlock(int(match["id"]), tag, image)


def _entry_block(block: BlockRef) -> EntryBlock:
    image = None
    if block.image is not None:
        saved = BLCKSZ - block.image.hole_length - len(block.image.data)
        image = EntryImage(
            block.image.hole_offset,
            block.image.hole_length,
            block.image.apply,
            saved if block.image.compression else 0,
            COMPRESSION_NAMES[block.image.compression],
        )
    return EntryBlock(block.id, block.tag, image)
