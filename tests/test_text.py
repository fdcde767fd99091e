"""Bytes of no known encoding come out readable, in JSON and on any terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from walstream.text import ERRORS, decode, encode, readable, to_json


def test_bytes_that_are_not_utf8_become_escapes() -> None:
    kept = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    assert readable(kept) == "caf\\xe9 \u00e9"
    found = json.loads(to_json({kept: [kept, 1, None, ("x",)]}))
    assert found == {"caf\\xe9 \u00e9": ["caf\\xe9 \u00e9", 1, None, ["x"]]}


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_one_line(tmp_path: Path, encoding: str) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xe2\x82\xac"
    os.mkdir(name)  # noqa: PTH102 (bytes)
    for command in ("status", "reindex"):
        done = subprocess.run(
            [sys.executable, "-m", "walstream", command, name],
            env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"},
            capture_output=True,
            check=False,
        )
        assert done.returncode not in (0, 1), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"caf\\xe9" in done.stderr, done.stderr


def test_a_stream_writes_what_it_cannot_show_as_an_escape() -> None:
    kept = decode(b"caf\xe9 \xc3\xa9 \xe2\x82\xac")
    assert encode(kept) == b"caf\xe9 \xc3\xa9 \xe2\x82\xac"
    for encoding, expected in (
        ("utf-8", b"caf\\xe9 \xc3\xa9 \xe2\x82\xac"),
        ("ascii", b"caf\\xe9 \\xe9 \\u20ac"),
        ("latin-1", b"caf\\xe9 \xe9 \\u20ac"),
    ):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding, errors=ERRORS)
        stream.write(kept)
        stream.flush()
        assert written.getvalue() == expected
