"""What a branch has changed: the relation files that differ from the moment's, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import trio

from walstream.mount.branch import Branch
from walstream.mount.gone import Gone
from walstream.mount.lower import Lower, LowerFile, Places
from walstream.mount.own_pages import OwnPages
from walstream.segments.files import read_error
from walstream.wal.model import BLCKSZ
from walstream.wal.relpath import parse_relation_file

# Pages that are compared at a time.
PAGES = 256


class Difference(NamedTuple):
    """A relation file that is not as at the moment.

    ``kind`` is ``changed``, ``new`` or ``gone``; ``blocks``: the numbers of those that differ
    within the file, of a new one all.
    """

    name: str
    kind: str
    blocks: tuple[int, ...]


async def differences(branch: Branch, lower: Lower) -> list[Difference]:
    """Returns the relation files of a branch that differ from those of its moment, by name.

    What was written with the same bytes is no difference; a hint bit is one. What an open branch
    has not yet synced is not seen.

    Raises:
        ReadError: the branch cannot be read.
        WalstreamError: a page of the moment cannot be rebuilt.

    Cancellation: nothing is left behind.
    """
    found = []
    own = await trio.to_thread.run_sync(_written, branch, lower)
    for name in sorted(own):
        file = lower.find(*_split(name))
        path = branch.path / "upper" / name
        if file is None:
            size = (await trio.Path(path).stat()).st_size
            found.append(Difference(name, "new", tuple(range(size // BLCKSZ))))
        elif not own[name]:
            found.append(Difference(name, "gone", ()))
        else:
            blocks = await _changed(branch, name, file, lower)
            if blocks:
                found.append(Difference(name, "changed", tuple(blocks)))
    return found


def _split(name: str) -> tuple[str, str]:
    directory, _, last = name.rpartition("/")
    return directory, last


def _written(branch: Branch, lower: Lower) -> dict[str, bool]:
    """Returns the relation files that were written (True) or removed (False)."""
    upper, places = branch.path / "upper", Places(branch.tablespaces)
    try:
        gone = Gone(branch.path / "gone")
        gone.close()
        found = dict.fromkeys(gone, False)
        for path in upper.rglob("*"):
            name = str(path.relative_to(upper))
            if path.is_symlink() or not path.is_file():
                continue
            if parse_relation_file(places.origin(name)) is not None:
                found[name] = True
    except OSError as error:
        raise read_error("read", branch.path, error) from error
    if branch.hydrated:
        found.update((name, False) for name in _all(lower) if name not in found)
    return found


def _all(lower: Lower) -> Iterator[str]:
    for directory, files in lower.directories.items():
        yield from (f"{directory}/{name}" for name in files)


async def _changed(branch: Branch, name: str, file: LowerFile, lower: Lower) -> list[int]:
    changed: list[int] = []
    written = await trio.to_thread.run_sync(_open, branch, name, file)
    try:
        for first in range(0, written.blocks, PAGES):
            end = min(first + PAGES, written.blocks)
            some = [block for block in range(first, end) if written.has(block)]
            before = [block for block in some if block < file.blocks]
            made = await lower.read(file, before) if before else []
            then = dict(zip(before, made, strict=True))
            now = await trio.to_thread.run_sync(written.read, some)
            changed += [block for block in some if now[block] != then.get(block, b"")]
        # What was cut off differs too.
        changed += range(written.size // BLCKSZ, file.blocks)
    finally:
        os.close(written.fd)
    return sorted(set(changed))


class _Written(NamedTuple):
    """A file of the branch, open. ``own``: which pages are its own, None: all."""

    fd: int
    size: int
    own: OwnPages | None

    @property
    def blocks(self) -> int:
        return -(-self.size // BLCKSZ)

    def has(self, block: int) -> bool:
        return self.own is None or self.own.has(block)

    def read(self, blocks: list[int]) -> dict[int, bytes]:
        return {block: os.pread(self.fd, BLCKSZ, block * BLCKSZ) for block in blocks}


def _open(branch: Branch, name: str, file: LowerFile) -> _Written:
    path = branch.path / "upper" / name
    try:
        # A plain directory has no maps: all of its pages are its own.
        own = None if branch.hydrated else OwnPages(path, branch.path / "maps" / name, file.blocks)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _Written(fd, os.fstat(fd).st_size, own)
    except OSError as error:
        raise read_error("read", path, error) from error
