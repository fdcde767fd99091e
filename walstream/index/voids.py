"""Which change of a fork's size last made the older versions of a block void.

A truncation to n blocks voids the blocks from n on; a creation or removal all. Looking for the
newest one that concerns a block, each change leads to its parent: the newest older one that cut
deeper. Along parents the cuts only get deeper, so each change also keeps a jump over many parents,
and a search takes logarithmic time (the jump pointers of skew-binary lists).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class SizeCut(Protocol):
    """What a ``page_index.SizeChange`` of a kind that voids has."""

    @property
    def end_lsn(self) -> int: ...

    @property
    def kind(self) -> int: ...

    @property
    def blocks(self) -> int: ...


TRUNCATE = 3


class Void(NamedTuple):
    """A change: the blocks from ``blocks`` on are void (-1: all, whatever their number).

    ``parent`` and ``jump`` are end LSNs of older changes, 0 for none; ``depth`` counts parents.
    """

    end_lsn: int
    blocks: int
    depth: int
    parent: int
    jump: int


# Finds the newest change up to an LSN (inclusive).
VoidReader = Callable[[int], Void | None]


def find_void(block: int, read: VoidReader, upto_lsn: int) -> int:
    """Returns the end LSN of the newest change up to ``upto_lsn`` that voids a block, 0: none."""
    void = read(upto_lsn)
    while void is not None and void.blocks > block:
        if not void.parent:
            return 0
        jump = read(void.jump) if void.jump else None
        void = jump if jump is not None and jump.blocks > block else read(void.parent)
    return 0 if void is None else void.end_lsn


def next_void(change: SizeCut, read: VoidReader) -> Void:
    """Returns what is to be kept of a change that is newer than all that ``read`` finds."""
    if change.kind != TRUNCATE:
        return Void(change.end_lsn, -1, 0, 0, 0)
    deeper = find_void(change.blocks - 1, read, change.end_lsn - 1)
    parent = read(deeper) if deeper else None
    if parent is None:
        return Void(change.end_lsn, change.blocks, 0, 0, 0)
    jump = parent.end_lsn
    middle = read(parent.jump) if parent.jump else None
    if middle is not None:
        far = read(middle.jump) if middle.jump else None
        if far is not None and parent.depth - middle.depth == middle.depth - far.depth:
            jump = far.end_lsn
    return Void(change.end_lsn, change.blocks, parent.depth + 1, parent.end_lsn, jump)
