"""The redo requests of many pages: their records read from WAL, their messages made, in one go.

``add`` pages with their chains of records and what they start from, ``read`` all records, then take
the requests: one by one, or as the bytes that go to a redo child. No Python object a record.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cython

from walstream.index.chains import Chains
from walstream.redo.batch import RequestBatch
from walstream.redo.protocol import MAX_REQUEST, RedoRequest
from walstream.segments.reader import SegmentReader
from walstream.segments.stored_records import StoredRecords
from walstream.wal.model import BufferTag

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.protocol import put_tagged
    from walstream.redo.rules.messages import (
        APPLY,
        APPLY_LENGTH,
        BEGIN,
        BEGIN_LENGTH,
        GET,
        PUSH,
        PUSH_LENGTH,
    )
    from walstream.wal.buffer import (
        bytes_of,
        cut,
        move,
        put8,
        put32,
        put64,
        put_be32,
        release,
        resize,
        u32,
        u64,
        unset,
        writable_of,
    )
    from walstream.wal.bufpage import BLCKSZ

# A page: tablespace, database, relation, fork, block as u32, records u32, first record u64, where
# its base stands in the object that has it u64.
PAGE = 40
TAGGED = 22
APPLY_HEAD = 13


class Requests:
    """Requests by number, in the order of ``add``."""

    def __init__(self) -> None:
        self.records = StoredRecords()
        self.bases: list[bytes | None] = []
        self.count = self.room = 0
        if not cython.compiled:
            self.pages = bytearray()

    def __dealloc__(self) -> None:
        release(self.pages)

    def clear(self) -> None:
        """Forgets all pages; the memory is kept for the next."""
        self.count = 0
        self.bases = []
        self.records.clear()

    def memory(self) -> int:
        """Returns how many bytes are held for records, with and without page headers."""
        return self.records.memory()

    def add(
        self, tag: BufferTag, chains: Chains, chain: int, base: bytes | None, base_at: int
    ) -> int:
        """Adds the page of a chain; it starts from the 8192 bytes of ``base`` at ``base_at``."""
        if base is not None and (base_at < 0 or base_at + BLCKSZ > len(base)):
            raise ValueError(f"base page: expected {BLCKSZ} bytes at {base_at}, got {len(base)}")
        if self.count == self.room:
            room = 2 * self.room + 8
            grown = resize(self.pages, room * PAGE)
            if not grown:
                raise MemoryError
            self.pages = grown
            self.room = room
        spc, db, rel, fork, block = tag
        at = self.count * PAGE
        first, last = chains.first(chain), chains.first(chain + 1)
        put32(self.pages, at, spc)
        put32(self.pages, at + 4, db)
        put32(self.pages, at + 8, rel)
        put32(self.pages, at + 12, fork)
        put32(self.pages, at + 16, block)
        put32(self.pages, at + 20, last - first)
        put64(self.pages, at + 24, self.records.count)
        put64(self.pages, at + 32, base_at)
        for record in range(first, last):
            self.records.want(chains.start_lsn(record), chains.end_lsn(record))
        self.bases.append(base)
        self.count += 1
        return self.count - 1

    def read(self, archive: SegmentReader) -> None:
        """Reads all records. Blocks."""
        self.records.read(archive)

    def first(self, page: int) -> int:
        return u64(self.pages, page * PAGE + 24)

    def last(self, page: int) -> int:
        return u64(self.pages, page * PAGE + 24) + u32(self.pages, page * PAGE + 20)

    def size(self, page: int) -> int:
        """Returns the length of the messages of a page, 0 where a record could not be read."""
        size = 2 * TAGGED
        if self.bases[page] is not None:
            size += TAGGED + BLCKSZ
        for record in range(self.first(page), self.last(page)):
            length = self.records.length(record)
            if length == 0:
                return 0
            size += APPLY_HEAD + length
        return size

    def is_complete(self, page: int) -> bool:
        """Whether all records of a page could be read, and are not too many for one request."""
        return 0 < self.size(page) <= MAX_REQUEST

    def request(self, page: int) -> RedoRequest:
        """Returns the request for one page, which is complete."""
        at = page * PAGE
        tag = BufferTag(
            u32(self.pages, at),
            u32(self.pages, at + 4),
            u32(self.pages, at + 8),
            u32(self.pages, at + 12),
            u32(self.pages, at + 16),
        )
        base = self.bases[page]
        if base is not None:
            base_at = u64(self.pages, at + 32)
            base = base[base_at : base_at + BLCKSZ]
        records = []
        for record in range(self.first(page), self.last(page)):
            data = cut(self.records.data, self.records.at(record), self.records.length(record))
            records.append((self.records.end_lsn(record), data))
        return RedoRequest(tag, base, tuple(records))

    def encode(self, pages: Sequence[int]) -> RequestBatch:
        """Returns the requests for some pages, which are complete."""
        size = 0
        offsets = [0]
        for page in pages:
            size += self.size(page)
            offsets.append(size)
        data = unset(size)
        end_lsns = bytearray(8 * len(pages))
        p = writable_of(data)
        q = writable_of(end_lsns)
        at = count = 0
        for number in range(len(pages)):
            page = pages[number]
            put64(q, 8 * number, self.records.end_lsn(self.last(page) - 1))
            count += self.last(page) - self.first(page)
            at = self.put_request(p, at, page)
        return RequestBatch(data, offsets, bytes(end_lsns), count)

    def put_request(self, p: Writable, at: int, page: int) -> int:
        """Writes the messages B, P, A..., G of a page; returns where they end."""
        here = page * PAGE
        spc, db = u32(self.pages, here), u32(self.pages, here + 4)
        rel, fork = u32(self.pages, here + 8), u32(self.pages, here + 12)
        block = u32(self.pages, here + 16)
        put_tagged(p, at, BEGIN, BEGIN_LENGTH, spc, db, rel, fork, block)
        at += TAGGED
        base = self.bases[page]
        if base is not None:
            put_tagged(p, at, PUSH, PUSH_LENGTH, spc, db, rel, fork, block)
            b = bytes_of(base)
            move(p, at + TAGGED, b, u64(self.pages, here + 32), BLCKSZ)
            at += TAGGED + BLCKSZ
        for record in range(self.first(page), self.last(page)):
            length = self.records.length(record)
            end_lsn = self.records.end_lsn(record)
            put8(p, at, APPLY)
            put_be32(p, at + 1, APPLY_LENGTH + length)
            put_be32(p, at + 5, end_lsn >> 32)
            put_be32(p, at + 9, end_lsn & 0xFFFFFFFF)
            move(p, at + APPLY_HEAD, self.records.data, self.records.at(record), length)
            at += APPLY_HEAD + length
        put_tagged(p, at, GET, BEGIN_LENGTH, spc, db, rel, fork, block)
        return at + TAGGED


def block_numbers(blocks: Sequence[int]) -> bytes:
    """Returns numbers as ``stamp_pages`` takes them: u32 little-endian."""
    return array("I", blocks).tobytes()
