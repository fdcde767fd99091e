"""Compares a materialized directory with one that PostgreSQL recovered: every file, every byte.

What may differ is listed here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from walstream.rmgr.xlog.records import parse_checkpoint
from walstream.state.control import ControlFile

# Written by a server that ran: its own WAL, statistics, caches, what is left of the backup.
_RAN = re.compile(
    r"pg_wal/.*|pg_subtrans/.*|pg_notify/.*|pg_serial/.*|pg_stat/.*|pg_stat_tmp/.*|pg_dynshmem/.*"
    r"|pg_logical/(?:snapshots|mappings)/.*|pg_replslot/.*|(?:.*/)?pg_internal\.init"
    r"|backup_label(?:\.old)?|tablespace_map(?:\.old)?|backup_manifest|postmaster\.(?:opts|pid)"
    r"|recovery\.(?:signal|done)|current_logfiles"
)
# Ours is another on purpose: configuration is neutral, the control file is compared by field.
_OURS = re.compile(r"[^/]*\.conf|global/pg_control")
# WAL does not tell of free space.
_FREE_SPACE = re.compile(r".*/\d+_fsm(?:\.\d+)?")


def files_of(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and not (
            _RAN.fullmatch(name) or _OURS.fullmatch(name) or _FREE_SPACE.fullmatch(name)
        ):
            yield name


def differences(ours: Path, theirs: Path) -> list[str]:
    """Returns what is not the same, one line each."""
    mine, other = set(files_of(ours)), set(files_of(theirs))
    found = [f"only ours: {name}" for name in sorted(mine - other)]
    for name in sorted(other - mine):
        # Unlogged relations: a server makes their contents of the init fork when it starts.
        stem = re.sub(r"(?:_vm)?(?:\.\d+)?$", "", name)
        if f"{stem}_init" not in mine:
            found.append(f"only theirs: {name}")
    for name in sorted(mine & other):
        a, b = (ours / name).read_bytes(), (theirs / name).read_bytes()
        if a != b:
            found.append(f"{name}: {first_difference(a, b)}")
    return found


def first_difference(a: bytes, b: bytes) -> str:
    if len(a) != len(b):
        return f"{len(a)} bytes, expected {len(b)}"
    places = [i for i in range(len(a)) if a[i] != b[i]]
    pages = sorted({i // 8192 for i in places})
    first = places[0]
    return (
        f"{len(places)} bytes in pages {pages[:8]}, first at {first} (page offset {first % 8192}): "
        f"{a[first : first + 8].hex()}, expected {b[first : first + 8].hex()}"
    )


def counters(directory: Path) -> dict[str, int | bool | None]:
    """Returns what a control file says of the cluster's next and oldest ids, and parameters."""
    control = ControlFile.parse((directory / "global/pg_control").read_bytes())
    point = parse_checkpoint(control.checkpoint_body, control.version)
    names = (
        "next_xid", "next_oid", "next_multi", "next_multi_offset", "oldest_xid", "oldest_xid_db",
        "oldest_multi", "oldest_multi_db", "oldest_commit_ts_xid", "newest_commit_ts_xid",
    )  # fmt: skip
    return {name: getattr(point, name) for name in names}
