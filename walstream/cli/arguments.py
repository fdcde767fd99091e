"""Argument types that several commands share: LSNs, relations, forks, store directories."""

from __future__ import annotations

from pathlib import Path

import click

from walstream.wal.model import FORK_NAMES, BufferTag, RelFileLocator, parse_lsn
from walstream.wal.relpath import parse_relation


class LsnType(click.ParamType[int]):
    """``0/16B3748`` -> int."""

    name = "lsn"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_lsn(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class RelationType(click.ParamType[tuple[RelFileLocator, int]]):
    """``SPC/DB/REL`` or a path such as ``base/5/16384`` -> (RelFileLocator, fork)."""

    name = "relation"

    def convert(
        self,
        value: str | tuple[RelFileLocator, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[RelFileLocator, int]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_relation(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


LSN = LsnType()
RELATION = RelationType()
STORE = click.Path(exists=True, file_okay=False, path_type=Path)
FORK = click.Choice(list(FORK_NAMES))
BLOCK = click.IntRange(0, 0xFFFFFFFE)


def buffer_tag(relation: tuple[RelFileLocator, int], fork: str | None, block: int) -> BufferTag:
    """Returns the block that REL, ``--fork`` and BLOCK name; ``--fork`` wins over the path."""
    locator, path_fork = relation
    return BufferTag(*locator, path_fork if fork is None else FORK_NAMES[fork], block)
