"""Text that came as bytes of no known encoding, made fit for people and for JSON.

Names, labels and messages of servers and file systems are bytes. Where they are kept as ``str``,
each byte that is not UTF-8 is a lone surrogate (PEP 383), which gives the byte back but can be
neither printed nor put into JSON.
"""

from __future__ import annotations

import codecs
from typing import Any

ERRORS = "walstream.readable"
"""Error handler of a stream: what it cannot write is written as an escape, bytes as ``\\xe9``."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escapes = []
    for char in error.object[error.start : error.end]:
        if "\udc80" <= char <= "\udcff":
            escapes.append(f"\\x{ord(char) - 0xDC00:02x}")
        else:
            escapes.append(char.encode("ascii", "backslashreplace").decode())
    return "".join(escapes), error.end


codecs.register_error(ERRORS, _escaped)


def decode(data: bytes) -> str:
    """Returns bytes as text that gives them back."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Returns the bytes that ``decode`` was given."""
    return text.encode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """Returns ``text`` with every byte that is not UTF-8 written as ``\\xe9``."""
    return encode(text).decode("utf-8", "backslashreplace")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON in ASCII; of strings and names in it what ``readable`` makes of them."""
    import json  # here: most commands start without it

    return json.dumps(_readable(value), indent=indent)


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_readable(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return value
