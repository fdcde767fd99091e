"""Page checksums, against the files of a real server."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pure import pure
from tests.support.servers import PostgresServer
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
