"""How the documentation is built: ``sphinx-build -W docs build/docs`` (CONTRIBUTING.md).

Pages with a mark such as ``<!-- commands -->`` get there what the program itself knows.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import walstream
from walstream import errors
from walstream.cli.exit_codes import MEANINGS, exit_code
from walstream.cli.group import cli

project = "walstream"
author = project_copyright = "The walstream developers"
version = release = walstream.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Every heading can be linked to, as on the web sites that show Markdown.
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
smartquotes = False  # "--at" is an option
html_theme = "furo"
html_title = f"walstream {release}"
html_copy_source = False
html_show_sphinx = False


def commands() -> Iterator[str]:
    """Yields the command line as ``--help`` tells it, a heading for each command."""

    def tell(command: click.Command, words: str, parent: click.Context | None) -> Iterator[str]:
        settings = {**command.context_settings, "terminal_width": 98}
        context = click.Context(command, parent, info_name=words.split()[-1], **settings)
        yield f"## {words}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                if (below := command.get_command(context, name)) is not None:
                    yield from tell(below, f"{words} {name}", context)

    yield from tell(cli, "walstream", None)


def public_names() -> list[str]:
    names = getattr(walstream, "__all__", None) or dir(walstream)
    return sorted(name for name in names if not name.startswith("_"))


def api() -> Iterator[str]:
    """Yields the public names by kind, each with its docstring."""
    kinds: dict[str, list[str]] = {
        "Functions": [],
        "Classes": [],
        "Errors": [],
        "Types, values": [],
    }
    directives = {"Functions": "autofunction", "Classes": "autoclass", "Types, values": "autodata"}
    for name in public_names():
        value = getattr(walstream, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            kinds["Errors"].append(name)
        elif isinstance(value, type):
            kinds["Classes"].append(name)
        else:
            kinds["Functions" if callable(value) else "Types, values"].append(name)
    for kind, names in kinds.items():
        if not names:
            continue
        yield f"## {kind}\n"
        if kind == "Errors":
            yield "What each means, and its attributes: [errors](errors.md).\n"
            yield "\n".join(f"- `walstream.{name}`" for name in names) + "\n"
            continue
        yield "```{eval-rst}"
        for name in names:
            members = "   :members:\n" if kind == "Classes" else ""
            yield f".. {directives[kind]}:: walstream.{name}\n{members}"
        yield "```\n"


def error_codes() -> Iterator[str]:
    """Yields a table: each error of ours, and the exit code of a command that ends with it."""
    yield "| error | exit code | |\n| --- | ---: | --- |"
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.WalstreamError):
            code = exit_code(kind.__new__(kind))
            yield f"| `{name}` | {code} | {MEANINGS[code]} |"


def index_format() -> Iterator[str]:
    """Yields the table of the index's keys and values, which its module's docstring has."""
    text = importlib.import_module("walstream.index.keys").__doc__ or ""
    table = re.search(r"^(=+ +=+.*?^=[= ]+\n)\n", text, re.MULTILINE | re.DOTALL)
    if table is None:
        raise ExtensionError("the docstring of walstream.index.keys has no table")
    yield "```{eval-rst}"
    yield table[1]
    yield "```"


GENERATED = {
    "<!-- commands -->": commands,
    "<!-- api -->": api,
    "<!-- error codes -->": error_codes,
    "<!-- index format -->": index_format,
}


def generate(_app: Sphinx, _page: str, source: list[str]) -> None:
    for mark, lines in GENERATED.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, "\n".join(lines()))


def skip(_app: Sphinx, _what: str, _name: str, member: Any, skipped: bool, _options: Any) -> bool:
    # The fields of a NamedTuple stand in its signature, its docstring says what they are.
    return skipped or (getattr(member, "__doc__", "") or "").startswith("Alias for field number")


# What a browser would load from elsewhere; a link that a reader may follow is none of it.
LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc=["'](?:https?:)?//[^"']*"""
    r"""|<link(?![^>]*rel="(?:canonical|author)")[^>]*\shref=["'](?:https?:)?//[^"']*"""
    r"""|url\(["']?(?:https?:)?//[^)]*"""
)


def refuse_foreign_files(app: Sphinx, error: Exception | None) -> None:
    """Fails the build where a page would load something from the network."""
    if error is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := LOADED.search(path.read_text())):
            raise ExtensionError(f"{path} loads {found[0]}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", generate)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", refuse_foreign_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
