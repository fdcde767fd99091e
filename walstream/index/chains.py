"""The records that pages are rebuilt from, page by page, in arrays: posting lists made use of.

One chain a page: its records in LSN order, from the last that makes the page by itself (or from a
floor, above which a base's page is known) up to the LSN that is asked for. No Python object a
record: a kernel reads them all (``pages/requests.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cython

if not cython.compiled:
    from walstream.wal.buffer import be32, be64, equal, put32, put64, release, resize, u8, u32, u64

# Of index/keys.py: the length of a block's key before its LSN, where its number stands, and of an
# entry. EntryFlag.INIT of page_index.py.
BLOCK_LENGTH, BLOCK_AT, ENTRY_LENGTH, INIT = 18, 14, 9, 1
STEPS_BEFORE_SEEK = 4
# A record: start LSN u64, end LSN u64. A chain: first record u64, next LSN u64, block u32, makes
# u32, bytes of WAL u64.
RECORD, CHAIN = 16, 32


class Chains:
    """Chains of records. Fill them with ``find`` or ``scan``.

    ``count`` chains have ``records`` records in all; those of chain k are ``first(k)`` up to, but
    not with, ``first(k + 1)``.
    """

    def __init__(self) -> None:
        self.count = self.records = 0
        self.chain_room = self.record_room = 0
        self.floor = self.upto = self.next_lsn = self.wal_bytes = 0
        self.makes = False
        if not cython.compiled:
            self.c = bytearray()
            self.r = bytearray()

    def __dealloc__(self) -> None:
        release(self.c)
        release(self.r)

    def first(self, chain: int) -> int:
        """Returns the number of a chain's first record."""
        return u64(self.c, chain * CHAIN) if chain < self.count else self.records

    def length(self, chain: int) -> int:
        """Returns how many records a chain has."""
        return self.first(chain + 1) - self.first(chain)

    def next_of(self, chain: int) -> int:
        """Returns the end LSN of the first known record of the page after the chain; 0 for none."""
        return u64(self.c, chain * CHAIN + 8)

    def block(self, chain: int) -> int:
        """Returns the block that a chain is of."""
        return u32(self.c, chain * CHAIN + 16)

    def makes_page(self, chain: int) -> bool:
        """Whether the first record of a chain makes the page: no base is needed."""
        return u32(self.c, chain * CHAIN + 20) != 0

    def start_lsn(self, record: int) -> int:
        return u64(self.r, record * RECORD)

    def end_lsn(self, record: int) -> int:
        return u64(self.r, record * RECORD + 8)

    def begin(self, block: int, floor: int, upto: int) -> int:
        """Begins a chain: records with ``floor < end_lsn <= upto``."""
        if self.count == self.chain_room:
            room = 2 * self.chain_room + 8
            grown = resize(self.c, room * CHAIN)
            if not grown:
                raise MemoryError
            self.c = grown
            self.chain_room = room
        self.floor = floor
        self.upto = upto
        self.next_lsn = 0
        self.makes = False
        put64(self.c, self.count * CHAIN, self.records)
        put32(self.c, self.count * CHAIN + 16, block)
        return 0

    def add(self, first_lsn: int, postings: bytes) -> int:
        """Adds a posting list to the chain that was begun; lists come in LSN order."""
        p = postings
        length = len(postings)
        at = 0
        while at + ENTRY_LENGTH <= length:
            end_lsn = first_lsn + be32(p, at)
            if end_lsn > self.upto:
                if self.next_lsn == 0:
                    self.next_lsn = end_lsn
                break
            if end_lsn > self.floor:
                if u8(p, at + 8) & INIT:
                    self.records = u64(self.c, self.count * CHAIN)
                    self.makes = True
                self.put_record(end_lsn - be32(p, at + 4), end_lsn)
            at += ENTRY_LENGTH
        return 0

    def put_record(self, start_lsn: int, end_lsn: int) -> int:
        if self.records == self.record_room:
            room = 2 * self.record_room + 32
            grown = resize(self.r, room * RECORD)
            if not grown:
                raise MemoryError
            self.r = grown
            self.record_room = room
        put64(self.r, self.records * RECORD, start_lsn)
        put64(self.r, self.records * RECORD + 8, end_lsn)
        self.records += 1
        return 0

    def end(self) -> int:
        """Ends the chain that was begun; ``wal_bytes`` grows by the WAL that its records take."""
        at = self.count * CHAIN
        put64(self.c, at + 8, self.next_lsn)
        put32(self.c, at + 20, 1 if self.makes else 0)
        for record in range(u64(self.c, at), self.records):
            self.wal_bytes += u64(self.r, record * RECORD + 8) - u64(self.r, record * RECORD)
        self.count += 1
        return 0

    def find(self, iterator: Any, prefix: bytes, floor: int, upto: int, look_on: bool) -> int:
        """Adds the chain of one block, looked for from new to old; returns its number.

        Args:
            iterator: over the index; it may have damage, which its ``status`` tells.
            prefix: of the block's keys.
            floor: records that end at or before it do not count.
            upto: nor do those that end after it.
            look_on: whether ``next_of`` is wanted where the newest list does not tell.
        """
        lists: list[tuple[int, bytes]] = []
        q = prefix
        self.begin(be32(q, BLOCK_AT), floor, upto)
        iterator.seek_for_prev(prefix + upto.to_bytes(8, "big"))
        while iterator.valid():
            key = iterator.key()
            if not self.is_of(key, prefix):
                break
            value = iterator.value()
            p = key
            first_lsn = be64(p, BLOCK_LENGTH)
            lists.append((first_lsn, value))
            if self.stops(first_lsn, value):
                break
            iterator.prev()
        for first_lsn, value in reversed(lists):
            self.add(first_lsn, value)
        if look_on and self.next_lsn == 0:
            iterator.seek(prefix + (upto + 1).to_bytes(8, "big"))
            if iterator.valid():
                key = iterator.key()
                if self.is_of(key, prefix):
                    p = key
                    self.next_lsn = be64(p, BLOCK_LENGTH)
        self.end()
        return self.count - 1

    def is_of(self, key: bytes, prefix: bytes) -> bool:
        p = key
        q = prefix
        return len(key) == BLOCK_LENGTH + 8 and equal(p, 0, q, 0, len(prefix))

    def stops(self, first_lsn: int, postings: bytes) -> bool:
        """Whether older lists add nothing to the chain that was begun."""
        p = postings
        length = len(postings)
        at = 0
        while at + ENTRY_LENGTH <= length:
            end_lsn = first_lsn + be32(p, at)
            if end_lsn > self.upto:
                return False
            if end_lsn <= self.floor or u8(p, at + 8) & INIT:
                return True
            at += ENTRY_LENGTH
        return False

    def scan(
        self,
        iterator: Any,
        prefix: bytes,
        blocks: Sequence[int],
        floors: Sequence[int],
        upto: int,
        limit: int,
    ) -> int:
        """Adds a chain for each block of one fork, in one pass over the index.

        Stops behind the block with which the chains have ``limit`` bytes of WAL.

        Args:
            iterator: see ``find``.
            prefix: of the keys of all blocks of the fork.
            blocks: ascending, none twice.
            floors: of each block; see ``find``.
            upto: see ``find``.
            limit: bytes.

        Returns:
            how many blocks were done.
        """
        key = b""
        at_block = -1
        done = 0
        while done < len(blocks) and (done == 0 or self.wal_bytes < limit):
            block = blocks[done]
            floor = floors[done]
            self.begin(block, floor, upto)
            if at_block < block:
                key = self.go_to(iterator, prefix, block, key)
                at_block = self.block_at(key)
            if at_block == block:
                key = self.skip_old(iterator, prefix, block, key)
            while len(key) != 0:
                p = key
                at_block = be32(p, BLOCK_AT)
                if at_block != block:
                    break
                first_lsn = be64(p, BLOCK_LENGTH)
                if first_lsn > upto:
                    if self.next_lsn == 0:
                        self.next_lsn = first_lsn
                    break
                self.add(first_lsn, iterator.value())
                iterator.next()
                key = self.key_of(iterator, prefix)
                at_block = self.block_at(key)
            self.end()
            done += 1
        return done

    def key_of(self, iterator: Any, prefix: bytes) -> bytes:
        """Returns the key that an iterator is at, empty behind those of the fork."""
        if not iterator.valid():
            return b""
        key: bytes = iterator.key()
        return key if self.is_of(key, prefix) else b""

    def block_at(self, key: bytes) -> int:
        p = key
        # No block has such a number: the fork has ended.
        return be32(p, BLOCK_AT) if len(key) != 0 else 1 << 33

    def go_to(self, iterator: Any, prefix: bytes, block: int, key: bytes) -> bytes:
        """Moves an iterator that is before a block to its first key or behind; returns the key."""
        for _ in range(STEPS_BEFORE_SEEK):
            # Most often the next key is it: stepping is cheaper than seeking.
            if len(key) == 0:
                break
            iterator.next()
            key = self.key_of(iterator, prefix)
            if self.block_at(key) >= block:
                return key
        iterator.seek(prefix + block.to_bytes(4, "big"))
        return self.key_of(iterator, prefix)

    def skip_old(self, iterator: Any, prefix: bytes, block: int, key: bytes) -> bytes:
        """Moves an iterator at a block's first key to its last one at or below the floor."""
        steps = 0
        while self.list_before_floor(iterator, key, block) and steps < STEPS_BEFORE_SEEK:
            iterator.next()
            key = self.key_of(iterator, prefix)
            steps += 1
        if steps == STEPS_BEFORE_SEEK and self.list_before_floor(iterator, key, block):
            iterator.seek_for_prev(
                prefix + block.to_bytes(4, "big") + self.floor.to_bytes(8, "big")
            )
            key = self.key_of(iterator, prefix)
        return key

    def list_before_floor(self, iterator: Any, key: bytes, block: int) -> bool:
        """Whether the list at ``key`` is of that block and ends at or before the floor."""
        if len(key) == 0 or self.block_at(key) != block:
            return False
        p = key
        first_lsn = be64(p, BLOCK_LENGTH)
        if first_lsn > self.floor:
            return False
        value: bytes = iterator.value()
        q = value
        return first_lsn + be32(q, len(value) - ENTRY_LENGTH) <= self.floor
