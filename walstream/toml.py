"""TOML files: what a store says of itself, and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from walstream.errors import ConfigError


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Returns the table that the text of a file holds.

    Raises:
        ConfigError: it is not TOML.
    """
    import tomllib  # a plain directory has no such file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: {exc}", str(path)) from exc
