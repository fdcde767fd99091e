"""What is lazy in an opening is made in the background, until nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from walstream.mount.filesystem import MomentFilesystem
from walstream.mount.lower import Lower, LowerFile
from walstream.tasks.rate_limit import RateLimit
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.model import BLCKSZ

# Pages that are made at a time: a reader waits behind so many at most.
PAGES = 64
# After so many files it is looked again which are read most.
FILES = 64
FILES_AT_A_TIME = 8


@dataclass(slots=True)
class Hydrated:
    """How far it is, in pages of 8 kB: ``done`` of ``pages``; ``made``: those not there before.

    ``complete``: nothing is lazy any more; ``plain``: the branch opens without a mount from now on.
    """

    pages: int = 0
    done: int = 0
    made: int = 0
    complete: bool = False
    plain: bool = False


async def hydrate(
    filesystem: MomentFilesystem,
    lower: Lower,
    rate: RateLimit,
    hydrated: Hydrated,
    *,
    durable: bool = True,
) -> None:
    """Makes every page of the moment that is not there yet.

    Files that are read most come first. With ``durable`` all are on disk when it returns.

    Raises:
        OSError: they cannot be written.
        WalstreamError: a page cannot be rebuilt.

    Cancellation: what was made stays; it can be called again.
    """
    left = dict(_files(lower))
    hydrated.pages = sum(file.blocks for file in left.values())
    slots = trio.CapacityLimiter(FILES_AT_A_TIME)

    async def hydrate_file(path: str, file: LowerFile) -> None:
        async with slots:
            made = await _fill(filesystem, path, file, rate, hydrated)
            if made and durable:
                await filesystem.sync_pages(path)

    while left:
        heat = filesystem.heat()
        hottest = sorted(left, key=lambda path: (-heat.get(path, 0), path))[:FILES]
        async with open_bare_nursery() as nursery:
            for path in hottest:
                nursery.start_soon(hydrate_file, path, left.pop(path))


def _files(lower: Lower) -> Iterator[tuple[str, LowerFile]]:
    for directory, files in lower.directories.items():
        for name, file in files.items():
            yield f"{directory}/{name}", file


async def _fill(
    filesystem: MomentFilesystem, path: str, file: LowerFile, rate: RateLimit, hydrated: Hydrated
) -> bool:
    """Makes the pages of one file; returns whether there is anything to sync."""
    gone = False
    done = 0
    # At least once, for a file without pages must be there too.
    for first in range(0, max(file.blocks, 1), PAGES):
        end = min(first + PAGES, file.blocks)
        made = await filesystem.fill(path, first, end)
        gone = made is None
        if made is None:
            break
        hydrated.made += made
        hydrated.done += end - first
        done = end
        await rate.take(made * BLCKSZ)
    hydrated.done += file.blocks - done
    return not gone
