"""Names, labels and lists of other tools: what each says, and what is none."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.errors import StoreError
from walstream.importing.barman import listed_wal, parse_backup_info
from walstream.importing.label import (
    backup_history_name,
    parse_label,
    parse_tablespace_map,
    stop_of_history,
)
from walstream.importing.names import PACKINGS, ArchivedName, parse_archived_name
from walstream.importing.packing import packing_of

SEGMENT = "000000010000000A000000FF"
SHA1 = "0123456789abcdef0123456789abcdef01234567"
LABEL = (
    "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"
    "CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n"
    "START TIME: 2026-01-01 00:00:00 UTC\nLABEL: x\nSTART TIMELINE: 3\n"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (SEGMENT, ArchivedName(SEGMENT, False, "", None)),
        (f"{SEGMENT}-{SHA1}", ArchivedName(SEGMENT, False, "", SHA1)),
        (f"{SEGMENT}-{SHA1}.zst", ArchivedName(SEGMENT, False, ".zst", SHA1)),
        (f"{SEGMENT}.partial", ArchivedName(SEGMENT, True, "", None)),
        (f"{SEGMENT}.partial.gz", ArchivedName(SEGMENT, True, ".gz", None)),
        (f"{SEGMENT}.gz.partial", ArchivedName(SEGMENT, True, ".gz", None)),
        (f"{SEGMENT}.partial-{SHA1}.lz4", ArchivedName(SEGMENT, True, ".lz4", SHA1)),
        ("00000002.history", ArchivedName("00000002.history", False, "", None)),
        ("00000002.history.lz4", ArchivedName("00000002.history", False, ".lz4", None)),
        (
            f"{SEGMENT}.00000028.backup",
            ArchivedName(f"{SEGMENT}.00000028.backup", False, "", None),
        ),
        *((f"{SEGMENT}{each}", ArchivedName(SEGMENT, False, each, None)) for each in PACKINGS),
    ],
)
def test_names(name: str, expected: ArchivedName) -> None:
    assert parse_archived_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "", "xlog.db", "archive.info", SEGMENT.lower(), SEGMENT[:-1], f"{SEGMENT}0",
        f"{SEGMENT}.tmp", f"{SEGMENT}.pgbackrest.tmp", f"{SEGMENT}-{SHA1[:-1]}", f"{SEGMENT}.gz.gz",
        f"{SEGMENT}.gz.tmp", f"{SEGMENT}.partial.partial", "00000002.history.partial",
        f"{SEGMENT}.br~", f"{SEGMENT}\n",
    ],
)  # fmt: skip
def test_other_names(name: str) -> None:
    assert parse_archived_name(name) is None


def test_labels() -> None:
    label = parse_label(LABEL.encode(), "here")
    assert (label.start_lsn, label.checkpoint_lsn, label.timeline) == (0x2000028, 0x2000060, 3)
    assert not label.from_standby
    standby = LABEL.replace("primary", "standby")
    assert parse_label(standby.encode(), "here").from_standby
    with pytest.raises(StoreError, match="here: no start"):
        parse_label(b"START WAL LOCATION: 0/0\n", "here")
    with pytest.raises(StoreError, match="pg_combinebackup"):
        parse_label(LABEL.encode() + b"INCREMENTAL FROM LSN: 0/1000028\n", "here")
    history = LABEL.replace("CHECKPOINT", "STOP WAL LOCATION: 0/2000120 (file x)\nCHECKPOINT")
    assert stop_of_history(history.encode(), 0x2000028) == 0x2000120
    assert stop_of_history(history.encode(), 0x2000030) is None
    assert stop_of_history(LABEL.encode(), 0x2000028) is None
    assert backup_history_name(1, 0xA_FF000028, 1 << 24) == f"{SEGMENT}.00000028.backup"


def test_tablespace_maps() -> None:
    text = b"16384 /srv/a b\n16385 /srv/with\\\nline\\\\end\n"
    assert parse_tablespace_map(text, "map") == {16384: "/srv/a b", 16385: "/srv/with\nline\\end"}
    with pytest.raises(StoreError, match="map: expected an oid"):
        parse_tablespace_map(b"/srv/a\n", "map")


def test_barman() -> None:
    text = (
        "backup_label='START WAL LOCATION: 0/2000028\\nLABEL: x\\n'\nbegin_xlog=0/2000028\n"
        "end_xlog=0/2000120\nstatus=DONE\nserver_name=db1\n"
        "tablespaces=[('space', 16384, '/srv/space')]\n"
    )
    info = parse_backup_info(text, "info")
    assert (info.status, info.start_lsn, info.stop_lsn) == ("DONE", 0x2000028, 0x2000120)
    assert info.tablespaces == {16384: "/srv/space"}
    assert info.label == b"START WAL LOCATION: 0/2000028\nLABEL: x\n"
    for wrong in ("", "status=DONE\nbegin_xlog=x\n", text.replace("'space', ", "__import__")):
        with pytest.raises(StoreError, match="info: missing or malformed"):
            parse_backup_info(wrong, "info")
    lines = f"{SEGMENT}\t16777216\t1700000000.0\tgzip\n00000002.history\t40\t1.0\tNone\nrubbish\n\n"
    assert list(listed_wal(lines)) == [SEGMENT]


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Nothing but what is told as wrong comes of bytes that are no such thing."""
    packing_of(data)
    stop_of_history(data, 1)
    text = data.decode("latin-1")
    parse_archived_name(text)
    list(listed_wal(text))
    for parse in (parse_label, parse_tablespace_map):
        with contextlib.suppress(StoreError):
            parse(data, "x")
    with contextlib.suppress(StoreError):
        parse_backup_info(text, "x")


def test_packings() -> None:
    assert packing_of(gzip.compress(b"x")) == ".gz"
    assert packing_of(bytes(100)) == ""
