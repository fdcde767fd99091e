"""Rebuilds the pages of a moment and checks each, as ``verify --deep`` does.

Beside what must hold of a page (``pages/soundness.py``) it must equal the images that WAL has of
it for comparison (``pages/images.py``). Which pages there are comes from the index alone, as for
``materialize``; unlogged relations and free space maps are left out.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import trio

from walstream.datadir.relations import RelationFork, RelationTable
from walstream.errors import BackupDamaged, PageError, RedoError, WalError, WalstreamError
from walstream.pages.compare import masked
from walstream.pages.images import PageImageAt, comparable_images
from walstream.pages.service import PageService
from walstream.pages.soundness import BtreeLinks, btree_links, page_faults, tree_faults
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.state.cluster import StateSource, cluster_state
from walstream.tasks.supervise import leaves
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, format_lsn
from walstream.wal.relpath import relation_file

_AT_ONCE = 64


class BadPage(NamedTuple):
    """A page that is not sound. ``path``: of its relation's first file, below a data directory."""

    path: str
    tag: BufferTag
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "block": self.tag.block, "faults": list(self.faults)}


@dataclass(slots=True)
class DeepReport:
    """What was checked as of ``lsn``. ``images``: so many images of WAL were compared with."""

    lsn: int
    relations: int = 0
    pages: int = 0
    pages_of: int = 0
    images: int = 0
    bad: list[BadPage] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "lsn": format_lsn(self.lsn),
            "relations": self.relations,
            "pages": self.pages,
            "pages_of": self.pages_of,
            "images": self.images,
            "bad": [page.as_json() for page in self.bad],
        }


class DeepCheck:
    """A check of the pages of one moment.

    Args:
        pages: rebuilds them.
        source: what the moment is made from; nobody else reads WAL through it meanwhile.
        at_lsn: the moment.
        sample: the share of all blocks that is checked, above 0 to 1; each run takes others.
        jobs: so many relations at a time.
        progress: called with the number of blocks that are done, and of how many.
    """

    def __init__(
        self,
        pages: PageService,
        source: StateSource,
        at_lsn: int,
        *,
        sample: float = 1.0,
        jobs: int = 2,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.report = DeepReport(at_lsn)
        self._pages = pages
        self._source = source
        self._sample = sample
        self._jobs = jobs
        self._progress = progress
        self._random = random.Random()
        # The archive of ``source`` serves one thread at a time.
        self._limiter = trio.CapacityLimiter(1)

    async def run(self) -> DeepReport:
        """Checks all pages; returns what was found.

        Raises:
            LsnNotAvailable: the moment cannot be had.
            StoreError, StorageError: base backup or index cannot be read.

        Cancellation: nothing is left behind.
        """
        forks = await trio.to_thread.run_sync(self._forks)
        self.report.relations = len({fork.locator for fork in forks})
        self.report.pages_of = sum(fork.blocks for fork in forks)
        waiting = iter(forks)

        async def check_forks() -> None:
            for fork in waiting:
                await self._check_fork(fork)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._jobs):
                    nursery.start_soon(check_forks)
        except ExceptionGroup as group:
            raise leaves(group)[0] from group
        self.report.bad.sort()
        return self.report

    def _forks(self) -> list[RelationFork]:
        source, lsn = self._source, self.report.lsn
        state = cluster_state(source, lsn)
        table = RelationTable(source.index, source.backup.start_lsn, lsn)
        return list(table.forks(state.directories))

    def _chosen(self, blocks: int) -> Sequence[int]:
        if self._sample >= 1:
            return range(blocks)
        chance = self._random.random
        return [block for block in range(blocks) if chance() < self._sample]

    async def _check_fork(self, fork: RelationFork) -> None:
        faults: dict[int, list[str]] = defaultdict(list)
        tree: dict[int, BtreeLinks] = {}
        changed = frozenset(fork.changed)
        blocks = self._chosen(fork.blocks)
        for at in range(0, len(blocks), _AT_ONCE):
            window = blocks[at : at + _AT_ONCE]
            found: dict[int, bytes] = {}

            async def check(block: int, found: dict[int, bytes] = found) -> None:
                tag = BufferTag(*fork.locator, fork.fork, block)
                try:
                    found[block] = await self._pages.get_page(tag, self.report.lsn)
                    if block in changed:
                        faults[block] += await self._differing_images(tag)
                except (PageError, RedoError, WalError, BackupDamaged) as error:
                    faults[block].append(one_line(error))

            async with trio.open_nursery() as nursery:
                for block in window:
                    nursery.start_soon(check, block)
            await trio.to_thread.run_sync(self._check_pages, fork, found, faults, tree)
            self.report.pages += len(window)
            self._progress(self.report.pages, int(self.report.pages_of * self._sample))
        for block, fault in tree_faults(tree, fork.blocks):
            faults[block].append(fault)
        path = relation_file(
            fork.locator, fork.fork, 0, VERSION_DIRECTORIES[self._pages.facts.version]
        )
        self.report.bad += [
            BadPage(path, BufferTag(*fork.locator, fork.fork, block), tuple(each))
            for block, each in faults.items()
            if each
        ]

    def _check_pages(
        self,
        fork: RelationFork,
        found: dict[int, bytes],
        faults: dict[int, list[str]],
        tree: dict[int, BtreeLinks],
    ) -> None:
        checksums = self._pages.facts.checksums
        for block, page in sorted(found.items()):
            wrong = page_faults(page, fork.fork, block, checksums=checksums)
            faults[block] += wrong
            # What hangs together is told of the pages that are sound by themselves.
            if not wrong and fork.fork == ForkNumber.MAIN:
                links = btree_links(page)
                if links is not None:
                    tree[block] = links

    async def _differing_images(self, tag: BufferTag) -> list[str]:
        images = await trio.to_thread.run_sync(self._images, tag, limiter=self._limiter)
        faults = []
        for image in images:
            rebuilt = await self._pages.get_page(tag, image.at_lsn)
            self.report.images += 1
            ours, theirs = masked(rebuilt, image.page, tag), masked(image.page, image.page, tag)
            if ours != theirs:
                at = next(i for i in range(BLCKSZ) if ours[i] != theirs[i])
                faults.append(
                    f"differs at byte {at} from its image in the record at {format_lsn(image.lsn)}"
                )
        return faults

    def _images(self, tag: BufferTag) -> list[PageImageAt]:
        source = self._source
        images = comparable_images(
            source.index, source.archive, tag, self.report.lsn, source.version
        )
        return [image for image in images if image.at_lsn >= self._pages.first_lsn]


def one_line(error: WalstreamError) -> str:
    """Returns an error's text without line ends."""
    return " ".join(str(error).split())
