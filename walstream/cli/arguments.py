"""Argument types that several commands share: LSNs, relations, forks, store directories."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from walstream import __version__
from walstream.wal.model import FORK_NAMES, BufferTag, RelFileLocator, parse_lsn
from walstream.wal.relpath import parse_relation

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from walstream.index.moment import MomentText

# MaxBlockNumber.
MAX_BLOCK = 0xFFFFFFFE


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


class RelationType(click.ParamType[tuple[RelFileLocator, int] | str]):
    """``SPC/DB/REL`` or a path such as ``base/5/16384`` -> (RelFileLocator, fork).

    A name, ``[db.]schema.table``, stays text: the catalogs of the store know it.
    """

    name = "relation"

    def convert(
        self,
        value: str | tuple[RelFileLocator, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[RelFileLocator, int] | str:
        if isinstance(value, tuple) or "/" not in value or value.startswith('"'):
            return value
        try:
            return parse_relation(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PostgresCommand(click.Command):
    """A command that takes what PostgreSQL's own takes: ``-V``, ``-?``, abbreviated long options.

    A long option may be cut where it stays the only one (getopt_long).
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = [
            name
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in (*param.opts, *param.secondary_opts)
            if name.startswith("--")
        ]
        whole = []
        rest = iter(args)
        for argument in rest:
            if argument == "--":
                whole += [argument, *rest]
                break
            whole.append(self._whole_name(argument, names))
        return super().parse_args(ctx, whole)

    @staticmethod
    def _whole_name(argument: str, names: list[str]) -> str:
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name in names:
            return argument
        found = [full for full in names if full.startswith(name)]
        if len(found) > 1:
            raise click.UsageError(f"option {name} is ambiguous: it may be {' or '.join(found)}")
        return found[0] + equals + value if found else argument


def print_command_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"walstream {ctx.info_name} {__version__}")
        ctx.exit()


# ``-V, --version`` and ``-?`` of PostgreSQL's programs.
POSTGRES = {"help_option_names": ["-?", "-h", "--help"]}
version_option = click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_command_version,
    help="Show the version.",
)


class MomentType(click.ParamType["MomentText"]):
    """An LSN, ``latest``, a time with its zone and the other forms of ``index/moment.py``."""

    name = "moment"

    def convert(
        self, value: str | MomentText, param: click.Parameter | None, ctx: click.Context | None
    ) -> MomentText:
        # Not for every command: the index comes with it.
        from walstream.index.moment import MomentText, parse_moment

        if isinstance(value, MomentText):
            return value
        try:
            return parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class BytesType(click.ParamType[int]):
    """``50MB`` -> bytes; units are powers of 1024, as in PostgreSQL's settings."""

    name = "bytes"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,11}) ?([kKMGT]?)i?B?", value, re.ASCII)
        if match is None:
            self.fail(f"expected a number of bytes such as 50MB, got {value!r}", param, ctx)
        return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


class ListenType(click.ParamType[str]):
    """``HOST:PORT`` to listen on; without HOST the loopback."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        port = value.rpartition(":")[2]
        if not (port.isascii() and port.isdecimal() and int(port) < 65536):
            self.fail(f"expected HOST:PORT, got {value!r}", param, ctx)
        return value


class BlocksType(click.ParamType[int | range]):
    """``N`` -> N, ``FIRST-LAST`` -> a range, LAST included; ``FIRST-`` goes as far as it can."""

    name = "block"

    def convert(
        self, value: str | int | range, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | range:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"([0-9]+)(?:(-)([0-9]*))?", value, re.ASCII)
        if found is None:
            self.fail(f"expected N or FIRST-LAST, got {value!r}", param, ctx)
        first, last = int(found[1]), int(found[3] or MAX_BLOCK)
        if found[2] is None:
            last = first
        if last > MAX_BLOCK or first > last:
            self.fail(f"expected numbers from 0 to {MAX_BLOCK}, ascending: {value!r}", param, ctx)
        return first if found[2] is None else range(first, last + 1)


class ZoneType(click.ParamType["ZoneInfo"]):
    """A time zone by its name, such as ``Europe/Berlin``."""

    name = "zone"

    def convert(
        self, value: str | ZoneInfo, param: click.Parameter | None, ctx: click.Context | None
    ) -> ZoneInfo:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # not for every command

        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"there is no time zone {value!r}", param, ctx)


class DurationType(click.ParamType[float]):
    """``7d``, ``36h``, ``90min`` -> seconds."""

    name = "time"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from walstream.config import parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


LSN = LsnType()
TIMELINE = click.IntRange(1, 0xFFFFFFFF)
MOMENT = MomentType()
DURATION = DurationType()
ZONE = ZoneType()
RELATION = RelationType()
LISTEN = ListenType()
BYTES = BytesType()
STORE = click.Path(exists=True, file_okay=False, path_type=Path)
FORK = click.Choice(list(FORK_NAMES))
BLOCK = click.IntRange(0, MAX_BLOCK)
BLOCKS = BlocksType()


def buffer_tag(relation: tuple[RelFileLocator, int], fork: str | None, block: int) -> BufferTag:
    """Returns the block that REL, ``--fork`` and BLOCK name; ``--fork`` wins over the path."""
    locator, path_fork = relation
    return BufferTag(*locator, path_fork if fork is None else FORK_NAMES[fork], block)


class TablespaceMappingType(click.ParamType[tuple[str, Path]]):
    """``OLD=NEW`` -> (OLD, NEW); ``\\=`` is an equals sign within a path, as in pg_basebackup."""

    name = "mapping"

    def convert(
        self,
        value: str | tuple[str, Path],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        parts = [part.replace("\\=", "=") for part in re.split(r"(?<!\\)=", value)]
        if len(parts) != 2 or not all(part.startswith("/") for part in parts):
            self.fail(f"expected OLD=NEW, both absolute paths, got {value!r}", param, ctx)
        return parts[0], Path(parts[1])


TABLESPACE_MAPPING = TablespaceMappingType()
