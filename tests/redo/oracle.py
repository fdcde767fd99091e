"""Checks redo against the images that wal_consistency_checking puts into records.

With ``wal_consistency_checking = all`` a record carries, for each block that it changes, an image
of that block after the change, not to be applied. So WAL alone says whether redo is right: the
record is redone on what the earlier records left of the block, and the result compared with its
image under PostgreSQL's mask, and where it is a heap page also under a narrower one. The LSN in an
image is the end of the last record that stamped the block, which checks our stamping too.

Two disagreements are the server's own; redo here does what PostgreSQL's redo does:

- Gist DELETE: redo sets F_TUPLES_DELETED, the primary does not, and gist_mask does not hide it.
- CREATE DATABASE ... STRATEGY wal_log writes visibility map pages as if they had a hole, so
  their bits are lost in WAL; the primary's copy keeps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from walstream.errors import WalstreamError
from walstream.redo.rules.engine import Engine
from walstream.redo.rules.mask import mask_page
from walstream.redo.rules.operations import operation_name
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.segments.names import segment_number
from walstream.wal.image import restore_image
from walstream.wal.model import BlockRef, BufferTag, XLogRecord, format_lsn
from walstream.wal.record import decode_wal_record
from walstream.wal.stream import WalStreamDecoder

_HEAP_RMGRS = (9, 10)
_GIST = 14
_VM_FORK = 2
_HEAP_BLOCKS_PER_MAP_PAGE = 32672


class Finding(NamedTuple):
    """One disagreement between redo and the server. ``kind`` is error, page, strict or lsn."""

    kind: str
    operation: str
    tag: BufferTag
    end_lsn: int
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.operation} {format_lsn(self.end_lsn)} {self.tag}: {self.detail}"


def page_lsn(page: bytes) -> int:
    return int.from_bytes(page[0:4], "little") << 32 | int.from_bytes(page[4:8], "little")


def with_lsn(page: bytes, lsn: int) -> bytes:
    return (lsn >> 32).to_bytes(4, "little") + (lsn & 0xFFFFFFFF).to_bytes(4, "little") + page[8:]


def with_tuples_deleted(page: bytes) -> bytes:
    """Returns a GiST page with F_TUPLES_DELETED set."""
    return page[:8188] + bytes((page[8188] | 0x04,)) + page[8189:]


def lost_its_content(block: BlockRef) -> bool:
    """Tells the image of a map page that was written without its bits."""
    assert block.image is not None
    return block.tag.fork == _VM_FORK and block.image.hole_length > 0


def differences(ours: bytes, theirs: bytes) -> str:
    """Returns where two pages differ, in a few words."""
    places = [i for i in range(8192) if ours[i] != theirs[i]]
    shown = ", ".join(f"{i}: {ours[i]:02x} expected {theirs[i]:02x}" for i in places[:12])
    return f"{len(places)} bytes differ ({shown})"


def operation_of(record: XLogRecord, version: int, block_id: int) -> str:
    name = operation_name(record.rmgr_id, record.info & 0xF0, version)
    return f"{rmgr_name(record.rmgr_id)} {name} block {block_id}"


def redo_block(
    previous_page: bytes | None, record: XLogRecord, tag: BufferTag, version: int, stamp_hints: bool
) -> bytes:
    """Returns what one record makes of one page."""
    engine = Engine(version, stamp_hints)
    engine.begin(tag)
    if previous_page is not None:
        engine.push_page(previous_page)
    engine.apply(record.end_lsn, record.data)
    return engine.get_page()


def check_record(
    previous_page: bytes | None,
    record: XLogRecord,
    block: BlockRef,
    version: int,
    stamp_hints: bool = False,
) -> tuple[bytes, list[Finding]]:
    """Redoes one block of a record; returns its new page and what disagrees with its image.

    Where they disagree the page returned is the server's, so that one failure stays one. The
    block's image must not be one that is applied.
    """
    assert block.image is not None
    expected = restore_image(block.image)
    operation = operation_of(record, version, block.id)
    findings = []

    def found(kind: str, detail: str) -> None:
        findings.append(Finding(kind, operation, block.tag, record.end_lsn, detail))

    after = with_lsn(expected, record.end_lsn)
    own_flag = (record.rmgr_id, record.info & 0xF0) == (_GIST, 0x10)
    if own_flag:
        expected = with_tuples_deleted(expected)
    try:
        page = redo_block(previous_page, record, block.tag, version, stamp_hints)
        ours = mask_page(page, record.rmgr_id, block.tag.block)
        theirs = mask_page(expected, record.rmgr_id, block.tag.block)
    except WalstreamError as error:
        found("error", str(error))
        return after, findings
    before = page_lsn(expected)
    if previous_page is not None and not block.will_init and page_lsn(previous_page) != before:
        had = format_lsn(page_lsn(previous_page))
        found("lsn", f"page had {had} before, the server's {format_lsn(before)}")
    if ours != theirs:
        found("page", differences(ours, theirs))
    elif record.rmgr_id in _HEAP_RMGRS:
        ours = mask_page(page, record.rmgr_id, block.tag.block, strict=True)
        theirs = mask_page(expected, record.rmgr_id, block.tag.block, strict=True)
        if ours != theirs:
            found("strict", differences(ours, theirs))
    return after if findings or own_flag else page, findings


@dataclass
class Oracle:
    """Follows all blocks of a stretch of WAL, record by record."""

    version: int
    stamp_hints: bool
    pages: dict[BufferTag, bytes] = field(default_factory=dict)
    checked: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def follow(self, records: Iterable[XLogRecord]) -> None:
        for record in records:
            self.add(record)

    def add(self, record: XLogRecord) -> None:
        """Redoes and checks every block that the record names, and map pages that it does not."""
        for block in record.blocks:
            operation = operation_of(record, self.version, block.id)
            previous = self.pages.get(block.tag)
            if block.image is None or block.image.apply:
                counter = self.unchecked if block.image is None else self.restored
                if block.image is not None and lost_its_content(block):
                    self.pages.pop(block.tag, None)
                elif previous is not None or block.image is not None or block.will_init:
                    counter[operation] += 1
                    self.redo(record, block.tag, operation)
                continue
            if previous is None and not block.will_init:
                # The first sight of this block: its image is where we start.
                self.pages[block.tag] = with_lsn(restore_image(block.image), record.end_lsn)
                continue
            page, findings = check_record(previous, record, block, self.version, self.stamp_hints)
            self.pages[block.tag] = page
            self.checked[operation] += 1
            self.findings += findings
        self.add_implicit(record)

    def redo(self, record: XLogRecord, tag: BufferTag, operation: str) -> None:
        try:
            self.pages[tag] = redo_block(
                self.pages.get(tag), record, tag, self.version, self.stamp_hints
            )
        except WalstreamError as error:
            self.findings.append(Finding("error", operation, tag, record.end_lsn, str(error)))

    def add_implicit(self, record: XLogRecord) -> None:
        """Changes map pages that are known, where the record says so without naming them."""
        op = record.info & 0x70
        if (record.rmgr_id, op) == (2, 0x20):
            self.truncate(record)
            return
        flags_at, mask = _CLEARING.get((record.rmgr_id, op), (0, 0))
        if not mask or not record.main_data[flags_at] & mask:
            return
        named = {block.tag for block in record.blocks}
        for tag in {
            block.tag._replace(fork=_VM_FORK, block=block.tag.block // _HEAP_BLOCKS_PER_MAP_PAGE)
            for block in record.blocks
            if block.tag.fork == 0
        }:
            if tag in self.pages and tag not in named:
                self.redo(record, tag, operation_of(record, self.version, -1))

    def truncate(self, record: XLogRecord) -> None:
        """Forgets blocks that were cut off, clears the tail of the last map page."""
        blocks, spc, db, rel, flags = _TRUNCATE.unpack(record.main_data)
        for tag in list(self.pages):
            if tag[:3] != (spc, db, rel):
                continue
            map_block, rest = divmod(blocks, _HEAP_BLOCKS_PER_MAP_PAGE)
            if tag.fork == 0 and flags & 1 and tag.block >= blocks:
                del self.pages[tag]
            elif tag.fork == _VM_FORK and flags & 2:
                if tag.block > map_block or (tag.block == map_block and rest == 0):
                    del self.pages[tag]
                elif tag.block == map_block:
                    self.redo(record, tag, operation_of(record, self.version, -1))


_TRUNCATE = Struct("<IIIII")
# Where the flags are in the main data of records that clear bits of the visibility map, and which.
_CLEARING = {
    (10, 0x00): (2, 1),
    (10, 0x10): (7, 1),
    (10, 0x20): (7, 3),
    (10, 0x40): (7, 3),
    (10, 0x60): (7, 1),
    (9, 0x50): (0, 1),
    (9, 0x60): (7, 1),
}


def records_of(wal_directory: Path, version: int, segment_size: int) -> Iterator[XLogRecord]:
    """Yields the records of the oldest segment in a pg_wal and of all that follow it."""
    paths = {}
    for path in wal_directory.iterdir():
        number = segment_number(path.name, segment_size)
        if number is not None and len(path.name) == 24:
            paths[number] = path
    first = min(paths)
    decoder = WalStreamDecoder(version, segment_size, first * segment_size, find_record=True)
    for number, path in sorted(paths.items()):
        decoder.feed_bytes(number * segment_size, path.read_bytes())
        while (raw := decoder.poll_decode()) is not None:
            yield decode_wal_record(raw, version)
        if decoder.end_of_wal is not None:
            break
