"""Messages and answers of the replication protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walstream.errors import ReplicationProtocolError, WalError
from walstream.replication.messages import (
    PrimaryKeepAlive,
    XLogData,
    base_backup_command,
    create_slot_command,
    decode_copy_message,
    decode_status_update,
    decode_text,
    encode_keepalive,
    encode_status_update,
    encode_xlog_data,
    parse_identify_system,
    parse_next_timeline,
    parse_read_replication_slot,
    parse_size,
    parse_timeline_history,
    start_replication_command,
)
from walstream.wal.timeline import INFINITY, TimelinePart, parse_history

LSNS = st.integers(0, (1 << 64) - 1)
TIMES = st.integers(-(1 << 63), (1 << 63) - 1)
CELLS = st.one_of(st.none(), st.text(max_size=20))


@given(LSNS, LSNS, TIMES, st.binary(max_size=300))
def test_wal_data_round_trip(start: int, end: int, sent: int, data: bytes) -> None:
    message = decode_copy_message(encode_xlog_data(start, end, sent, data))
    assert isinstance(message, XLogData)
    assert (message[:3], bytes(message.data)) == ((start, end, sent), data)


@given(LSNS, TIMES, st.booleans())
def test_keepalive_round_trip(end: int, sent: int, reply: bool) -> None:
    message = decode_copy_message(encode_keepalive(end, sent, reply))
    assert message == PrimaryKeepAlive(end, sent, reply)


@given(LSNS, LSNS, LSNS, TIMES, st.booleans())
def test_status_round_trip(write: int, flush: int, apply: int, now: int, reply: bool) -> None:
    message = encode_status_update(write, flush, apply, now, reply)
    assert len(message) == 34
    assert decode_status_update(message) == (write, flush, apply, now, reply)


@given(st.binary(max_size=60))
def test_arbitrary_messages_raise_only_ours(data: bytes) -> None:
    try:
        decode_copy_message(data)
    except ReplicationProtocolError:
        assert data[:1] not in (b"w", b"k") or len(data) < 25


def test_identify_system() -> None:
    found = parse_identify_system([("7710731274479800934", "3", "1/F0", None)])
    assert found == (7710731274479800934, 3, 0x1_0000_00F0, None)
    assert parse_identify_system([("1", "1", "0/1", "walstream")]).database == "walstream"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("1", "1")],
        [("x", "1", "0/1", None)],
        [("1", None, "0/1", None)],
        [("1", "1", "zero", None)],
        [("0", "1", "0/1", None)],
        [("1", "1", "0/1", None)] * 2,
    ],
)
def test_malformed_identity_is_named(rows: list[tuple[str | None, ...]]) -> None:
    with pytest.raises(ReplicationProtocolError, match="IDENTIFY_SYSTEM"):
        parse_identify_system(rows)


@given(st.lists(st.lists(CELLS, max_size=5).map(tuple), max_size=3))
def test_arbitrary_rows_raise_only_ours(rows: list[tuple[str | None, ...]]) -> None:
    for parse in (parse_identify_system, parse_read_replication_slot, parse_next_timeline):
        try:
            parse(rows)
        except ReplicationProtocolError as exc:
            assert str(exc)


def test_a_missing_slot_is_a_row_of_nulls() -> None:
    assert parse_read_replication_slot([(None, None, None)]) is None
    assert parse_read_replication_slot([("physical", None, None)]) == ("physical", 0, 0)
    assert parse_read_replication_slot([("physical", "0/10", "2")]) == ("physical", 16, 2)


def test_history_of_another_timeline_is_refused() -> None:
    assert parse_timeline_history(2, [("00000002.history", "1\t0/50\tx\n")]) == b"1\t0/50\tx\n"
    with pytest.raises(ReplicationProtocolError, match=r"00000002\.history"):
        parse_timeline_history(2, [("00000003.history", "")])


@pytest.mark.parametrize(
    ("text", "size"), [("16MB", 16 << 20), ("1GB", 1 << 30), ("8192", 8192), ("512kB", 512 << 10)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("x", text) == size


@pytest.mark.parametrize("text", ["", "MB", "16 MB", "16Mb", "-1", None, "1.5GB"])
def test_malformed_sizes(text: str | None) -> None:
    with pytest.raises(ReplicationProtocolError):
        parse_size("wal_segment_size", text)


def test_commands_of_old_and_new_servers() -> None:
    assert (
        start_replication_command('we"ird', 0x1_0000_0000, 2)
        == 'START_REPLICATION SLOT "we""ird" PHYSICAL 1/0 TIMELINE 2'
    )
    assert start_replication_command(None, 0, 1) == "START_REPLICATION PHYSICAL 0/0 TIMELINE 1"
    old, new = (
        create_slot_command("s", version, reserve_wal=True, temporary=False) for version in (14, 15)
    )
    assert old == 'CREATE_REPLICATION_SLOT "s" PHYSICAL RESERVE_WAL'
    assert new == 'CREATE_REPLICATION_SLOT "s" PHYSICAL (RESERVE_WAL)'
    assert "LABEL 'it''s'" in base_backup_command("it's", 14, checksum="CRC32C", fast=True)
    assert base_backup_command("x", 15, checksum="SHA256", fast=False).endswith(
        "CHECKPOINT 'spread')"
    )


def test_history() -> None:
    history = parse_history(4, b"# comment\n\n1\t0/50\tno recovery target\n3  1/0  why\n")
    assert history.parts == (
        TimelinePart(1, 0, 0x50),
        TimelinePart(3, 0x50, 1 << 32),
        TimelinePart(4, 1 << 32, INFINITY),
    )
    assert [history.part_at(lsn).timeline for lsn in (0, 0x4F, 0x50, 1 << 32, 1 << 40)] == [
        1,
        1,
        3,
        4,
        4,
    ]
    assert history.part_of(2) is None
    assert history.current == 4


@pytest.mark.parametrize(
    "text", ["1", "1 x", "x 0/1", "2 0/1\n1 0/2", "4 0/1", "1 0/5\n2 0/4", "1 0/1\n1 0/2"]
)
def test_malformed_history(text: str) -> None:
    with pytest.raises(WalError):
        parse_history(4, text.encode())


@pytest.mark.parametrize(
    "inside",
    [
        b"\xe9",
        b"\x00",
        b"\x0b",
        b"\x0c",
        b"\r",
        b"\x1c",
        b"\x85",
        "\u2028".encode(),
        "\u0085".encode(),
    ],
)
def test_only_a_line_feed_ends_a_line_of_a_history_in_any_encoding(inside: bytes) -> None:
    content = b'1\t0/50\tat restore point "avant' + inside + b"2\t9/0\tx" + inside + b'"\n'
    history = parse_history(3, content + b"\r\n" + b"2\t0/60\tlater" + inside)
    assert [part.end for part in history.parts] == [0x50, 0x60, INFINITY]
    row = ("00000003.history", decode_text(content))
    assert parse_timeline_history(3, [row]) == content


def test_digits_of_other_scripts_are_no_numbers() -> None:
    with pytest.raises(WalError, match="syntax error"):
        parse_history(4, "\u0661\t0/50\tx".encode())


@given(
    st.text(alphabet="0123456789/ABC \t\n#x", max_size=80).map(str.encode) | st.binary(max_size=80)
)
def test_arbitrary_history_raises_only_ours(content: bytes) -> None:
    try:
        history = parse_history(9, content)
    except WalError:
        return
    assert history.parts[0].begin == 0
    assert history.parts[-1].end == INFINITY
    for before, after in zip(history.parts, history.parts[1:], strict=False):
        assert before.end == after.begin
        assert before.timeline < after.timeline
