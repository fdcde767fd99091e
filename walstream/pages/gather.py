"""All that redo of pages needs, read from index, base backups and WAL. For threads.

Most pages are one of three: as in the newest base backup that fits, that with records, or made by
one of their records. Of these everything is read at once, by kernels. Whatever is otherwise, or
cannot be read, is planned and read page by page (``plan.py``), which also knows the errors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import outcome

from walstream.errors import PageDamaged, StorageError, StoreError, WalstreamError
from walstream.index.chains import Chains
from walstream.pages.cache import PageCache
from walstream.pages.plan import Base, Plan, Planner
from walstream.pages.requests import Requests
from walstream.redo.batch import RequestBatch
from walstream.redo.protocol import RedoRequest
from walstream.wal.model import BLCKSZ, BufferTag, RelFileLocator

# Of one chunk of many blocks: so many at most, and until their records have so much WAL.
CHUNK_BLOCKS = 512
CHUNK_WAL = 8 << 20
# Of one batch for a redo child.
BATCH_PAGES = 64
BATCH_BYTES = 768 << 10
# Base pages are read in runs; a gap of so many blocks is read, too.
RUN_BLOCKS = 128
RUN_GAP = 3
# What is used again of what was taken for records.
KEPT_MEMORY = 12 << 20

Question = tuple[BufferTag, int | None]


class Gathered(NamedTuple):
    """The bytes that a page needs: a page to start from, and what is redone on it, in order.

    More than one step where the page is one of a copied database. ``base`` is None where the first
    record of the first step makes the page. The page is right from ``first_lsn`` to ``last_lsn``,
    both inclusive, in an index of that ``generation``.
    """

    base: bytes | None
    steps: tuple[RedoRequest, ...]
    first_lsn: int
    last_lsn: int
    generation: int


class Chunk(NamedTuple):
    """Some blocks of a fork: pages that are there, and what the others need.

    ``pages``: one for each of ``blocks``, None where it is to be rebuilt. ``batches``: places in
    ``pages`` and their requests. ``single``: places of pages that are to be asked for one by one.
    """

    blocks: Sequence[int]
    pages: list[bytes | None]
    batches: list[tuple[list[int], RequestBatch]]
    single: list[int]


class Gatherer:
    """Gathers what pages of one store need. Any thread may call; every method blocks."""

    def __init__(self, planner: Planner, cache: PageCache) -> None:
        self.planner = planner
        self._cache = cache
        # Their memory is used again.
        self._requests: list[Requests] = []
        self._changed = threading.Condition()
        # What stands for each call that is under way.
        self._calls: set[object] = set()

    def settle(self) -> None:
        """Returns when each call that is under way now has ended."""
        with self._changed:
            calls = set(self._calls)
            while calls & self._calls:
                self._changed.wait()

    @contextmanager
    def _some_requests(self) -> Iterator[Requests]:
        call = object()
        with self._changed:
            self._calls.add(call)
        try:
            yield from self._lend_requests()
        finally:
            with self._changed:
                self._calls.remove(call)
                self._changed.notify_all()

    def _lend_requests(self) -> Iterator[Requests]:
        try:
            requests = self._requests.pop()
        except IndexError:
            requests = Requests()
        yield requests
        if requests.memory() <= KEPT_MEMORY:
            requests.clear()
            self._requests.append(requests)

    def gather(self, questions: Sequence[Question]) -> list[outcome.Outcome[Gathered]]:
        """Returns what each of some pages needs, or why it cannot be had."""
        with self._some_requests() as requests:
            return self._gather(questions, requests)

    def _gather(
        self, questions: Sequence[Question], requests: Requests
    ) -> list[outcome.Outcome[Gathered]]:
        planner = self.planner
        generation = planner.generation
        known = planner.known()
        chains = Chains()
        found: list[outcome.Outcome[Gathered] | None] = []
        # Which request is of which question.
        asked: list[tuple[int, int, int]] = []
        for tag, at_lsn in questions:
            try:
                lsn = known.check(at_lsn)
                quick = self._quick(tag, lsn, known.around(lsn), generation, chains, requests)
            except WalstreamError as error:
                found.append(outcome.Error(error))
                continue
            if isinstance(quick, Gathered):
                found.append(outcome.Value(quick))
                continue
            if quick is not None:
                asked.append((len(found), *quick))
            found.append(None)
        requests.read(planner.archive)
        for number, (place, first_lsn, last_lsn) in enumerate(asked):
            if requests.is_complete(number):
                step = requests.request(number)
                gathered = Gathered(None, (step,), first_lsn, last_lsn, generation)
                found[place] = outcome.Value(gathered)
        return [
            outcome.capture(self._single, *question, generation) if answer is None else answer
            for question, answer in zip(questions, found, strict=True)
        ]

    def _quick(
        self,
        tag: BufferTag,
        lsn: int,
        around: tuple[int, int],
        generation: int,
        chains: Chains,
        requests: Requests,
    ) -> Gathered | tuple[int, int] | None:
        """Returns a page that is there, or adds its request and returns where it will be right.

        None where it is to be planned by itself. ``around``: see ``Known.around``; no page is right
        beyond it, for records that changed it there may be gone.
        """
        planner = self.planner
        first_lsn, known_lsn = around
        fork = planner.fork_at(tag.locator, tag.fork, lsn, known_lsn)
        if fork.size is None or tag.block >= fork.size:
            return None
        base = planner.newest_base(lsn)
        enough = 0 if base is None else base.start_lsn
        floor = planner.floor(fork, tag, lsn, enough)
        chain = planner.index.find_chain(chains, tag, max(floor, enough), lsn, known_lsn > lsn)
        length = chains.length(chain)
        next_lsn = chains.next_of(chain)
        last_lsn = min(known_lsn, next_lsn - 1 if next_lsn else known_lsn, fork.last_lsn)
        last_lsn = max(lsn, last_lsn)
        if length:
            first_lsn = max(first_lsn, chains.end_lsn(chains.first(chain + 1) - 1))
        if chains.makes_page(chain):
            base = None
        elif base is None or floor > base.start_lsn:
            return None
        else:
            first_lsn = max(first_lsn, base.stop_lsn)
        page = self._cache.extend(tag, first_lsn, last_lsn, generation)
        if page is not None:
            return Gathered(page, (), first_lsn, last_lsn, generation)
        if base is not None:
            page = _base_page(base, tag)
            if page is None:
                return None
        if not length:
            return Gathered(page, (), first_lsn, last_lsn, generation)
        requests.add(tag, chains, chain, page, 0)
        return first_lsn, last_lsn

    def _single(self, tag: BufferTag, at_lsn: int | None, generation: int) -> Gathered:
        """Returns what a page needs, planned by itself; raises as ``Planner.plan``."""
        steps: list[RedoRequest] = []
        lsn = self.planner.check_lsn(at_lsn)
        plan: bytes | Plan | None = self.planner.plan(tag, lsn)
        while isinstance(plan, Plan):
            base = plan.base if isinstance(plan.base, bytes) else None
            if plan.entries:
                records = self.planner.records(plan.entries)
                steps.append(RedoRequest(plan.tag, base, records))
            plan = plan.base
        return Gathered(plan, tuple(reversed(steps)), lsn, lsn, generation)

    def chunk(self, locator: RelFileLocator, fork: int, blocks: Sequence[int], lsn: int) -> Chunk:
        """Returns what the first of some blocks need; ``Chunk.blocks`` says how many these are.

        ``blocks`` are ascending and none is there twice.

        Raises:
            LsnNotAvailable: see ``Planner.check_lsn``; what was there may have been taken back.
            StorageError: the index cannot be read.
        """
        self.planner.check_lsn(lsn)
        with self._some_requests() as requests:
            return self._chunk(locator, fork, blocks, lsn, requests)

    def _chunk(
        self,
        locator: RelFileLocator,
        fork: int,
        blocks: Sequence[int],
        lsn: int,
        requests: Requests,
    ) -> Chunk:
        planner = self.planner
        blocks = blocks[:CHUNK_BLOCKS]
        at = planner.fork_at(locator, fork, lsn, lsn)
        base = planner.newest_base(lsn)
        enough = 0 if base is None else base.start_lsn
        if at.void is None or at.void.end_lsn <= max(at.made_lsn, enough):
            floors: Sequence[int] = [max(at.made_lsn, enough)] * len(blocks)
        else:
            tags = (BufferTag(*locator, fork, block) for block in blocks)
            floors = [max(planner.floor(at, tag, lsn, enough), enough) for tag in tags]
        chains = Chains()
        done = planner.index.find_chains(chains, locator, fork, blocks, floors, lsn, CHUNK_WAL)
        blocks = blocks[:done]
        pages: list[bytes | None] = [None] * done
        single: list[int] = []
        based: list[int] = []
        asked: list[int] = []
        size = 0 if at.size is None else at.size
        for place in range(done):
            if blocks[place] >= size:
                single.append(place)
            elif chains.makes_page(place):
                requests.add(BufferTag(*locator, fork, blocks[place]), chains, place, None, 0)
                asked.append(place)
            elif base is None or floors[place] > base.start_lsn:
                single.append(place)
            else:
                based.append(place)
        if base is not None:
            for first, last in _runs(blocks, based):
                run = based[first:last]
                block = blocks[run[0]]
                count = blocks[run[-1]] - block + 1
                data, proven = _base_run(base, locator, fork, block, count)
                for place in run:
                    i = blocks[place] - block
                    if i >= len(proven) or not proven[i]:
                        single.append(place)
                    elif chains.length(place):
                        tag = BufferTag(*locator, fork, blocks[place])
                        requests.add(tag, chains, place, data, i * BLCKSZ)
                        asked.append(place)
                    else:
                        pages[place] = data[i * BLCKSZ : (i + 1) * BLCKSZ]
        requests.read(planner.archive)
        batches = [
            ([asked[number] for number in numbers], requests.encode(numbers))
            for numbers in _batches(requests, single, asked)
        ]
        return Chunk(blocks, pages, batches, single)


def _base_page(base: Base, tag: BufferTag) -> bytes | None:
    try:
        return base.pages.read(tag)
    except PageDamaged:
        return None


def _base_run(
    base: Base, locator: RelFileLocator, fork: int, block: int, count: int
) -> tuple[bytes, bytes]:
    try:
        return base.pages.read_run(locator, fork, block, count)
    except (StorageError, StoreError):
        return b"", b""


def _runs(blocks: Sequence[int], places: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the parts of ``places`` whose blocks are read together."""
    runs = []
    first = 0
    for i in range(1, len(places) + 1):
        if (
            i == len(places)
            or blocks[places[i]] > blocks[places[i - 1]] + 1 + RUN_GAP
            or blocks[places[i]] - blocks[places[first]] >= RUN_BLOCKS
        ):
            runs.append((first, i))
            first = i
    return runs


def _batches(requests: Requests, single: list[int], asked: Sequence[int]) -> list[list[int]]:
    """Returns the numbers of requests by batch; the places of those without all records go to
    ``single``.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    size = 0
    for number, place in enumerate(asked):
        length = requests.size(number)
        if not length or length > BATCH_BYTES:
            single.append(place)
            continue
        if batch and (len(batch) == BATCH_PAGES or size + length > BATCH_BYTES):
            batches.append(batch)
            batch, size = [], 0
        batch.append(number)
        size += length
    if batch:
        batches.append(batch)
    return batches
