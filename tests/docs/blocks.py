"""The code blocks of the documentation: where they are, which language they say they are of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Where a reader is told to stop what was started in another terminal.
_STOP = "<!-- services stop -->"
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Block(NamedTuple):
    """One fenced block of a page. ``output``: what the block before it prints stands in it."""

    page: str
    line: int
    language: str
    text: str
    output: bool

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages(*patterns: str) -> list[str]:
    """Returns the pages that match, as paths below the top of the checkout."""
    return sorted(
        str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)
    )


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, in order.

    Where services are to be stopped before it there is one of the language ``stop``. A ``text``
    block with nothing between it and the ``sh`` block before it is that one's output.
    """
    text = (ROOT / page).read_text()
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        between = text[end : match.start()].strip()
        if _STOP in between:
            found.append(Block(page, text.count("\n", 0, end) + 2, "stop", "", output=False))
        follows = bool(found) and found[-1].language == "sh" and not between
        line = text.count("\n", 0, match.start()) + 1
        output = follows and match[1] == "text"
        found.append(Block(page, line, match[1], match[2], output))
        end = match.end()
    return found


def command_lines(page: str) -> list[tuple[str, str]]:
    """Returns (place, words) of each ``walstream ...`` on a page, in blocks and in the text."""
    text = (ROOT / page).read_text()
    found = []
    for block in blocks(page):
        if block.language == "{eval-rst}":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            found += [(block.name, command) for command in _commands(line)]
    for match in _INLINE.finditer(_FENCE.sub("", text)):
        words = " ".join(match[1].split())
        if words.startswith("walstream "):
            found.append((page, words))
    return found


def _commands(line: str) -> list[str]:
    """Returns the calls of walstream in a line of shell, or of a configuration file."""
    found = []
    for match in re.finditer(r"(?:^\s*|[(|&;]\s*|['\"=/])(?=walstream\s)", line):
        around = match[0][-1:] if match[0][-1:] in ("'", '"') else ""
        found.append(_up_to_its_end(line[match.end() :], around))
    return found


def _up_to_its_end(text: str, around: str) -> str:
    """Returns a command without what follows it; ``around``: the quote that it stands in."""
    quote = ""
    for at, sign in enumerate(text):
        if sign == around or (not quote and (sign in "|;&>)" or text[at : at + 2] == " #")):
            return text[:at]
        if sign in "'\"":
            quote = "" if sign == quote else quote or sign
    return text
