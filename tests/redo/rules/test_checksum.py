"""Page checksums, against the files of a real server."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pure import pure
from tests.support.servers import PostgresServer
from walstream.redo.rules import checksum
from walstream.redo.rules.checksum import page_checksum, with_checksum

PURE = pure("walstream.redo.rules.checksum")


def test_every_page_of_a_cluster(pg_version: int) -> None:
    with PostgresServer(pg_version, checksums=True) as server:
        server.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 5000) i")
        server.execute("CREATE INDEX ON t (i)")
        server.execute("VACUUM t")
        server.stop()
        pages = 0
        for path in sorted(server.data_directory.glob("base/*/*")):
            if not path.name.split("_")[0].isdecimal():
                continue
            data = path.read_bytes()
            for block in range(len(data) // 8192):
                page = data[8192 * block : 8192 * (block + 1)]
                assert with_checksum(page, block) == page, f"{path} block {block}"
                pages += 1
        assert pages > 500


def test_a_new_page_has_none() -> None:
    assert with_checksum(bytes(8192), 3) == bytes(8192)


@settings(max_examples=25)
@given(st.integers(0, 2**64), st.integers(0, 2**32 - 1))
def test_compiled_equals_plain(seed: int, block: int) -> None:
    page = Random(seed).randbytes(8192)
    assert page_checksum(page, block) == PURE.page_checksum(page, block)


@settings(max_examples=25)
@given(st.integers(0, 2**64), st.integers(0, 2**32 - 10), st.integers(0, 5))
def test_many_pages_at_once(seed: int, first: int, count: int) -> None:
    chosen = Random(seed)
    pages = [chosen.randbytes(8192) for _ in range(count)]
    if count > 2:
        pages[1] = bytes(8192)  # PageIsNew
    blocks = b"".join((first + i).to_bytes(4, "little") for i in range(count))
    right = b"".join(with_checksum(page, first + i) for i, page in enumerate(pages))
    wrong = bytearray(right)
    if count > 3:
        wrong[3 * 8192 + chosen.randrange(16, 8192)] ^= 1 << chosen.randrange(8)
    expected = [i not in ((1, 3) if count > 3 else (1,) if count > 2 else ()) for i in range(count)]
    for build in (checksum, PURE):
        stamped = bytearray(b"".join(pages))
        assert build.stamp_pages(stamped, blocks) == count
        assert stamped == right
        proven = bytearray(b"\x07" * count)
        assert build.prove_pages(wrong, first, proven) == sum(expected)
        assert list(proven) == [int(one) for one in expected]


def test_too_few_pages_are_refused() -> None:
    for build in (checksum, PURE):
        with pytest.raises(ValueError, match="expected 16384 bytes, got 8192"):
            build.prove_pages(bytes(8192), 0, bytearray(2))
        with pytest.raises(ValueError, match="expected 16384 bytes, got 8192"):
            build.stamp_pages(bytearray(8192), bytes(8))
