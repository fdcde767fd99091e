"""A site that has used other tools: a cluster that archived its WAL, and was backed up meanwhile.

One small cluster a version, with a tablespace, an unlogged table and a timeline of its own; its WAL
lies in a plain archive. Tests arrange the same bytes as Barman, pgBackRest and wal-g keep them.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import brotli  # type: ignore[import-untyped]
import lz4.frame
import trio
import zstandard

from tests.support.binaries import wheel_client
from tests.support.clusters import directory_for_server, roomy_directory
from tests.support.servers import PostgresServer
from walstream.app.open import open_pages
from walstream.pages.compare import Comparison, compare_with_directory

SEGMENT = 1 << 20

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".lz4": lz4.frame.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    ".br": lambda data: brotli.compress(data, quality=1),
}


class Site(NamedTuple):
    """``plain`` and ``tars`` are one moment's base backups; the server was shut down."""

    server: PostgresServer
    archive: Path
    plain: Path
    tars: Path

    @property
    def segments(self) -> list[Path]:
        """The archived segments, in order."""
        return sorted(path for path in self.archive.iterdir() if len(path.name) == 24)


def work(server: PostgresServer, number: int) -> None:
    """Some changes of every kind of page that matters here, in a few segments."""
    server.execute(
        f"INSERT INTO t SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 4000) i;"
        f"UPDATE t SET v = 'round {number}' WHERE i % 7 = 0;"
        f"DELETE FROM t WHERE i % 11 = {number};"
        f"INSERT INTO spaced SELECT i FROM generate_series(1, 1000) i;"
        f"INSERT INTO unlogged SELECT i FROM generate_series(1, 1000) i;"
        f"CREATE TABLE made{number} AS SELECT generate_series(1, 500) i"
    )
    server.switch_wal()


@contextlib.contextmanager
def made(version: int) -> Iterator[Site]:
    """A site whose server was shut down at the end."""
    with (
        directory_for_server(roomy_directory()) as archive,
        directory_for_server(roomy_directory()) as space,
        directory_for_server(roomy_directory()) as backups,
        PostgresServer(
            version,
            segment_size=SEGMENT,
            checksums=True,
            unique=True,
            config={
                "archive_mode": True,
                "archive_command": f"cp %p {archive}/%f",
                "wal_level": "replica",
            },
        ) as server,
    ):
        server.execute(f"CREATE TABLESPACE space LOCATION '{space}'")
        server.execute(
            "CREATE TABLE t (i int, v text); CREATE INDEX ON t (i);"
            "CREATE TABLE spaced (i int) TABLESPACE space; CREATE UNLOGGED TABLE unlogged (i int)"
        )
        work(server, 0)
        plain = server.base_backup(backups / "plain", "-T", f"{space}={backups / 'spaced'}")
        work(server, 1)
        tars = backups / "tars"
        command = [str(wheel_client("pg_basebackup")), "-d", server.dsn, "-D", str(tars)]
        command += ["-Ft", "-X", "stream", "-c", "fast", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True)
        for number in range(2, 5):
            work(server, number)
        server.stop()
        yield Site(server, archive, plain, tars)


def repacked(site: Site, place: Path, packing: str) -> Path:
    """The archive again, each segment packed, under names with a suffix."""
    place.mkdir(parents=True)
    for path in site.archive.iterdir():
        (place / (path.name + packing)).write_bytes(PACKERS[packing](path.read_bytes()))
    return place


def as_pgbackrest(site: Site, place: Path, packing: str = "") -> Path:
    """The archive as a pgBackRest repository's, with another cluster's beside it."""
    from walstream.state.control import ControlFile

    control = ControlFile.parse((site.server.data_directory / "global/pg_control").read_bytes())
    version = site.server.version
    ours, other = place / f"{version}-2", place / f"{version}-1"
    other.mkdir(parents=True)
    (other / "000000010000000000000001-").mkdir()
    (place / "archive.info").write_text(
        "[backrest]\nbackrest-format=5\n\n[db]\ndb-id=2\n\n[db:history]\n"
        f'1={{"db-id":1234,"db-system-id":1234,"db-version":"{version}"}}\n'
        f'2={{"db-id":{control.system_id},"db-system-id":{control.system_id},'
        f'"db-version":"{version}"}}\n'
    )
    for path in site.archive.iterdir():
        data = path.read_bytes()
        name = path.name
        target = ours / name[:16] if len(name) == 24 else ours
        target.mkdir(parents=True, exist_ok=True)
        if len(name) == 24:
            name += f"-{hashlib.sha1(data).hexdigest()}{packing}"
            data = PACKERS[packing](data) if packing else data
        (target / name).write_bytes(data)
    stranger = site.segments[0].read_bytes()
    (other / f"{'0' * 24}-{'0' * 40}").write_bytes(stranger)
    return place


def as_barman(site: Site, place: Path, packing: str = ".gz") -> Path:
    """The archive and the plain backup as a Barman server's directory."""
    from walstream.importing.label import parse_label

    wals = place / "wals"
    lines = []
    for path in site.archive.iterdir():
        name = path.name
        target = wals / name[:16] if len(name) == 24 else wals
        target.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        packed = PACKERS[packing](data) if packing and len(name) == 24 else data
        (target / name).write_bytes(packed)
        lines.append(f"{name}\t{len(packed)}\t1700000000.0\tgzip\n")
    (wals / "xlog.db").write_text("".join(sorted(lines)))
    backup = place / "base" / "20260101T000000"
    shutil.copytree(site.plain, backup / "data", symlinks=True)
    shutil.rmtree(backup / "data" / "pg_wal")
    spaces = backup / "data" / "pg_tblspc"
    (link,) = list(spaces.iterdir())
    shutil.copytree(link.resolve(), backup / link.name)
    oid, where = link.name, link.readlink()
    link.unlink()
    label = (site.plain / "backup_label").read_bytes()
    begun = parse_label(label, "")
    (backup / "data" / "backup_manifest").unlink()
    from walstream.store.manifest import parse_wal_ranges
    from walstream.wal.model import format_lsn

    (part,) = parse_wal_ranges((site.plain / "backup_manifest").read_bytes())
    (backup / "backup.info").write_text(
        f"backup_label=None\nbegin_xlog={format_lsn(begun.start_lsn)}\n"
        f"end_xlog={format_lsn(part.end)}\nstatus=DONE\ntimeline=1\n"
        f"tablespaces=[('space', {oid}, '{where}')]\n"
    )
    unfinished = place / "base" / "20260102T000000"
    unfinished.mkdir()
    (unfinished / "backup.info").write_text("begin_xlog=0/1000000\nstatus=FAILED\n")
    return place


def compared(store: Path, server: PostgresServer) -> Comparison:
    """Every page of the newest moment of a store against the files of a stopped server."""
    directory = server.data_directory
    paths = [
        path.relative_to(directory).as_posix()
        for part in ("base", "global", "pg_tblspc")
        for path in files_below(directory / part)
    ]

    async def compare() -> Comparison:
        async with open_pages(store) as pages:
            return await compare_with_directory(pages, directory, paths)

    return trio.run(compare)


def files_below(path: Path) -> Iterator[Path]:
    for each in sorted(path.iterdir()):
        if each.is_dir():
            yield from files_below(each)
        else:
            yield each
