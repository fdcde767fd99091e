"""A store whose segments were compressed is read as before: page, history, rows, dump, reindex."""

from __future__ import annotations

import gzip
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from tests.support.running import Running, walstream
from tests.support.servers import PostgresServer
from walstream.segments import reader as segment_reader
from walstream.segments.files import read_file
from walstream.segments.reader import SegmentReader
from walstream.wal.model import format_lsn, parse_lsn

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".lz4": lz4.frame.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def compress_wal(wal: Path, suffixes: list[str]) -> None:
    """Compresses all segments, with one suffix after the other; an unfinished one stays so."""
    files = sorted(path for path in wal.iterdir() if len(path.name.split(".")[0]) == 24)
    for number, path in enumerate(files):
        suffix = suffixes[number % len(suffixes)]
        if suffix:
            stem, partial, _ = path.name.partition(".partial")
            new = path.with_name(stem + suffix + partial)
            new.write_bytes(COMPRESS[suffix](path.read_bytes()))
            path.unlink()


@pytest.mark.pg_versions(15, 18)
def test_all_that_reads_a_store_reads_compressed_segments(
    pg_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(pg_server.replication_dsn, tmp_path / "store", "--slot", "packed")
    try:
        running.wait_until_indexed(0)
        pg_server.execute("CREATE TABLE packed AS SELECT g, 0 AS n FROM generate_series(1, 100) g")
        (path,) = pg_server.execute("SELECT pg_relation_filepath('packed')")[0]
        pg_server.execute("CHECKPOINT")
        lsns = []
        for turn in range(4):
            pg_server.execute(f"UPDATE packed SET n = {turn} WHERE g % 10 = {turn}")
            lsns.append(pg_server.insert_lsn())
            pg_server.switch_wal()
        pg_server.execute("DELETE FROM packed WHERE g > 95")
        lsns.append(pg_server.insert_lsn())
        running.wait_until_indexed(lsns[-1])
        assert running.end(signal.SIGTERM) == 0
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()
        pg_server.execute("SELECT pg_drop_replication_slot('packed')")
    store = running.store

    def told() -> list[str]:
        words: list[tuple[object, ...]] = [
            *(("page", store, path, 0, "--at", format_lsn(lsn)) for lsn in (lsns[0], lsns[-1])),
            ("history", store, path, 0),
            ("rows", store, "packed", "--at", format_lsn(lsns[2])),
            ("dump", "-r", "Heap", store),
        ]
        found = []
        for each in words:
            done = walstream(*each)
            assert done.returncode == 0, done.stderr
            assert done.stdout
            found.append(done.stdout)
        return found

    expected = told()
    plain = tmp_path / "plain"
    (store / "wal").rename(plain)
    for suffixes in ([".gz"], [".lz4"], [".zst"], ["", ".gz", ".lz4", ".zst"]):
        shutil.rmtree(store / "wal", ignore_errors=True)
        shutil.copytree(plain, store / "wal")
        compress_wal(store / "wal", suffixes)
        shutil.rmtree(store / "index")
        again = walstream("reindex", store)
        assert again.returncode == 0, again.stderr
        assert told() == expected, suffixes

    # A record at random unpacks no file a second time.
    unpacked: list[str] = []

    def counted(file: Path, offset: int = 0) -> Iterator[bytes]:
        unpacked.append(file.name)
        return read_file(file, offset)

    monkeypatch.setattr(segment_reader, "read_file", counted)
    identity = tomllib.loads((store / "walstream.toml").read_text())
    archive = SegmentReader(store / "wal", identity["segment_size"])
    starts = [parse_lsn(line.split("lsn: ")[1].split(",")[0]) for line in expected[-1].splitlines()]
    for start in [*starts, *reversed(starts)]:
        archive.read_record(start)
    archive.close()
    assert len(unpacked) == len(set(unpacked))
