"""Which server is gone on with: what passes, what does not, the next address, other histories."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_util import AsyncValue

from tests.support.fake_walsender import SILENT, FakeWalsender
from tests.support.walgen import SEGMENT, WalWriter, record_body
from walstream.errors import (
    ConnectionLost,
    ServerRefused,
    WalDivergedError,
    WalstreamError,
    WrongCluster,
)
from walstream.receive.receiver import Receiver
from walstream.replication.backup_stream import stream_base_backup
from walstream.replication.connecting import parse_failure
from walstream.replication.libpq import connect
from walstream.replication.refusals import RULES, rule_of
from walstream.store.compressed import parse_compression
from walstream.store.writer import Writer
from walstream.tasks.supervise import Backoff, single_error
from walstream.wal.model import format_lsn
from walstream.wal.segment import segment_file_name

PATIENCE_S = 60


def commit(wal: WalWriter, time: int) -> None:
    wal.add(1, 0, 7, record_body(wal.version, (), struct.pack("<q", time)))


def written(
    segments: int, *, clock: int = 1, past: WalWriter | None = None, timeline: int = 1
) -> WalWriter:
    """WAL of whole segments, each ended by a switch; ``clock`` is all that tells clones apart.

    ``past``: what was written before the clones parted.
    """
    wal = WalWriter(timeline=timeline)
    if past is not None:
        wal.data, wal.lsn, wal.prev = bytearray(past.data), past.lsn, past.prev
    for number in range(segments):
        for i in range(300):
            wal.add_of_length(400)
            if i % 100 == 0:
                commit(wal, clock * 1_000_000 + number * 1000 + i)
        wal.switch()
    return wal


def fake(wal: WalWriter, size: int | None = None, **options: Any) -> FakeWalsender:
    return FakeWalsender({wal.timeline: (wal.start_lsn, bytes(wal.data[:size]))}, **options)


@asynccontextmanager
async def serving(*servers: FakeWalsender) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for server in servers:
            await nursery.start(server.run)
        yield
        nursery.cancel_scope.cancel()


def hosts(*servers: FakeWalsender) -> str:
    names = ",".join("127.0.0.1" for _ in servers)
    ports = ",".join(str(server.port) for server in servers)
    return f"host={names} port={ports} user=u sslmode=disable"


async def receive(
    conninfo: str,
    directory: Path,
    until: int,
    *,
    compression: str = "none",
    synchronous: bool = False,
    verify: Any = None,
    start: Any = (1, SEGMENT),
    **options: Any,
) -> Receiver:
    """Receives until ``until`` is on disk; raises what the receiver raises."""
    writer = Writer(
        directory,
        start=start,
        compression=parse_compression(compression),
        synchronous=synchronous,
        verify=verify,
    )
    options.setdefault("backoff", Backoff(0.01, 0.05))
    receiver = Receiver(AsyncValue(conninfo), writer, end_lsn=until, **options)
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(writer.run)
                await receiver.run()
                writer.close()
    except ExceptionGroup as group:
        raise single_error(group) from group
    return receiver


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what the other side does; the test's own deadline bounds it."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# -- the table


def test_the_table_has_each_code_once_and_a_reason() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(len(rule.code) in (2, 5) and rule.reason for rule in RULES)


def test_the_page_lists_what_does_not_pass() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md").read_text()
    for rule in RULES:
        assert (f"| {rule.code} | {rule.reason} |" in page) == rule.permanent, rule


@pytest.mark.parametrize("code", [None, "57014", "57P01", "57P99", "XX000", "40001", "ZZZZZ"])
def test_what_is_not_known_to_be_permanent_passes(code: str | None) -> None:
    assert not rule_of(code).permanent


def test_the_state_of_a_failed_login_is_found_in_any_language() -> None:
    text = (
        'connection to server at "h" (1.2.3.4), port 5432 failed: SCHWERWIEGEND:  28P01: '
        "Passwort falsch\nORT:  auth_failed, auth.c:339\nconnection failed: FATAL:  57P03: the "
        "database system is starting up\nLOCATION:  ProcessStartupPacket, postmaster.c:2"
    )
    failure = parse_failure(text)
    assert failure.sqlstate == "57P03"
    assert failure.text.endswith("the database system is starting up")
    assert "auth.c" not in failure.text
    assert parse_failure("could not translate host name").sqlstate is None


PASSING = ["57014", "57P01", "57P02", "57P03", "57P05", "53300", "53100", "55006", "XX000", "08006"]
PERMANENT = ["28000", "28P01", "42501", "3D000", "0A000", "42704", "55000", "XX001"]
STEPS = ["login", "IDENTIFY_SYSTEM", "SHOW", "START_REPLICATION", "COPY"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("code", PASSING)
async def test_what_passes_is_tried_again(step: str, code: str, tmp_path: Path) -> None:
    wal = written(2)
    server = fake(wal, SEGMENT, faults={step: code}, times=1)
    async with serving(server):
        if step == "COPY":  # after all its WAL was sent, then there is more
            server.wal[1] = (wal.start_lsn, bytes(wal.data[:SEGMENT]))

            async def extend() -> None:
                await until(lambda: not server.times)
                server.wal[1] = (wal.start_lsn, bytes(wal.data))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(extend)
                await receive(server.conninfo, tmp_path, wal.lsn)
        else:
            server.wal[1] = (wal.start_lsn, bytes(wal.data))
            await receive(server.conninfo, tmp_path, wal.lsn)
    assert server.times == 0
    assert len(content(tmp_path)) == 2


@pytest.mark.parametrize("step", STEPS[:-1])
@pytest.mark.parametrize("code", PERMANENT)
async def test_what_needs_a_person_ends_it(step: str, code: str, tmp_path: Path) -> None:
    server = fake(written(1), faults={step: code})
    async with serving(server):
        with pytest.raises(ServerRefused) as caught:
            await receive(server.conninfo, tmp_path, 2 * SEGMENT)
    assert caught.value.sqlstate == code
    assert "etwas ist falsch" in str(caught.value)


@pytest.mark.parametrize("fault", ["28P01", "42501", "57P03", SILENT])
@pytest.mark.parametrize("step", ["login", "IDENTIFY_SYSTEM", "START_REPLICATION"])
async def test_the_next_address_is_tried(step: str, fault: str, tmp_path: Path) -> None:
    wal = written(1)
    bad, good = fake(wal, faults={step: fault}), fake(wal)
    async with serving(bad, good):
        receiver = await receive(hosts(bad, good), tmp_path, wal.lsn, receive_timeout_s=0.5)
    assert receiver.state.host.endswith(str(good.port))
    assert len(content(tmp_path)) == 1


async def test_where_one_address_may_pass_nothing_is_given_up(tmp_path: Path) -> None:
    wal = written(1)
    refusing = fake(wal, faults={"login": "28P01"})
    starting = fake(wal, faults={"login": "57P03"}, times=3)
    async with serving(refusing, starting):
        await receive(hosts(refusing, starting), tmp_path, wal.lsn)
        with pytest.raises(ServerRefused, match="falsch"):
            await connect(hosts(refusing, refusing))
        starting.times = 9
        with pytest.raises(ConnectionLost, match=f"{refusing.port}.*; .*{starting.port}"):
            await connect(hosts(refusing, starting))


async def test_another_cluster_at_one_address_is_passed_by(tmp_path: Path) -> None:
    wal = written(2)
    right, other = fake(wal, SEGMENT), fake(wal, system_identifier=9)
    async with serving(right, other):
        await receive(right.conninfo, tmp_path, 2 * SEGMENT)
        right.wal[1] = (wal.start_lsn, bytes(wal.data))
        await receive(hosts(other, right), tmp_path, wal.lsn)
        before = content(tmp_path)
        with pytest.raises(WrongCluster):
            await receive(hosts(other, other), tmp_path, wal.lsn + 1)
    assert content(tmp_path) == before


# -- a server that is behind


@pytest.mark.parametrize("cut", [SEGMENT, SEGMENT + 30_000])
async def test_a_standby_that_is_behind_is_waited_for(cut: int, tmp_path: Path) -> None:
    wal = written(3)
    ahead, standby = fake(wal, cut + 20_000), fake(wal, cut - 10_000, standby=True)
    async with serving(ahead, standby):
        await receive(ahead.conninfo, tmp_path, wal.start_lsn + cut + 20_000)

        async def catch_up() -> None:
            await until(lambda: standby.connections >= 3)
            standby.wal[1] = (wal.start_lsn, bytes(wal.data))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch_up)
            await receive(standby.conninfo, tmp_path, wal.lsn)
        assert not [c for c in standby.commands if c.startswith("START") and "0/0 " in c]
    assert content(tmp_path) == {
        segment_file_name(1, n, SEGMENT): bytes(wal.data[(n - 1) * SEGMENT : n * SEGMENT])
        for n in (1, 2, 3)
    }


async def test_a_primary_that_is_behind_was_reset(tmp_path: Path) -> None:
    wal = written(2)
    server = fake(wal)
    async with serving(server):
        await receive(server.conninfo, tmp_path, wal.lsn)
        server.wal[1] = (wal.start_lsn, bytes(wal.data[:-SEGMENT]))
        with pytest.raises(ServerRefused, match="behind"):
            await receive(server.conninfo, tmp_path, wal.lsn + 1)


# -- another history


@pytest.mark.parametrize("verify", ["records", "headers", "off"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_clone_is_refused_before_a_byte_is_written(
    synchronous: bool, compression: str, verify: str, tmp_path: Path
) -> None:
    """The directory ends at a segment boundary, behind zeros; all records have equal sizes."""
    past = written(1)
    ours, clone = written(2, past=past), written(4, past=past, clock=2)
    assert ours.lsn == clone.lsn - 2 * SEGMENT
    one, two = fake(ours), fake(clone)
    async with serving(one, two):
        how: dict[str, Any] = {
            "compression": compression, "synchronous": synchronous, "verify": verify
        }  # fmt: skip
        await receive(one.conninfo, tmp_path, ours.lsn, **how)
        before = content(tmp_path)
        with pytest.raises(WalDivergedError, match="another history") as caught:
            await receive(two.conninfo, tmp_path, clone.lsn, **how)
        assert ours.start_lsn + SEGMENT < (caught.value.lsn or 0) < ours.lsn
        assert content(tmp_path) == before
        # Where the right one is among the addresses, it is gone on with.
        one.wal[1] = (ours.start_lsn, bytes(written(3, past=past).data))
        await receive(hosts(two, one), tmp_path, ours.lsn + SEGMENT, **how)


@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_a_clone_is_refused_within_a_segment(compression: str, tmp_path: Path) -> None:
    past = written(1)
    ours, clone = written(1, past=past), written(2, past=past, clock=2)
    one, two = fake(ours, SEGMENT + 120_000), fake(clone)
    async with serving(one, two):
        await receive(
            one.conninfo, tmp_path, ours.start_lsn + SEGMENT + 120_000, compression=compression
        )
        before = content(tmp_path)
        assert any(name.endswith(".partial") for name in before)
        with pytest.raises(WalDivergedError, match="another history"):
            await receive(two.conninfo, tmp_path, clone.lsn, compression=compression)
    assert content(tmp_path) == before


@pytest.mark.parametrize("slot", [None, "s"])
@pytest.mark.parametrize("size", [2 * SEGMENT, 2 * SEGMENT - 900_000])
@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_clone_that_takes_the_place_of_the_server_is_refused(
    synchronous: bool, size: int, slot: str | None, tmp_path: Path
) -> None:
    """Live: the connection is lost, and at the same address something else answers."""
    past = written(1)
    ours, clone = written(2, past=past), written(4, past=past, clock=2)
    server = fake(ours, size)
    async with serving(server):

        async def replace() -> None:
            await until(lambda: any(tmp_path.iterdir()))
            server.wal[1] = (clone.start_lsn, bytes(clone.data))

        server.faults, server.times = {"COPY": "57P01"}, 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replace)
            with pytest.raises(WalDivergedError, match="another history"):
                await receive(
                    server.conninfo, tmp_path, clone.lsn, slot=slot, synchronous=synchronous
                )
    stored = b"".join(content(tmp_path).values())
    assert stored.rstrip(b"\0") == bytes(ours.data[:size]).rstrip(b"\0")


async def test_clones_that_agree_for_long_are_told_apart_by_time(tmp_path: Path) -> None:
    """After they parted, both did the same in one transaction: a segment of equal bytes."""
    histories = []
    for clock in (1, 2):
        wal = written(1, clock=clock)
        for _ in range(2 if clock == 1 else 3):
            for _ in range(2500):
                wal.add_of_length(400)
            wal.switch()
        histories.append(wal)
    ours, clone = histories
    assert ours.data[SEGMENT:] == clone.data[SEGMENT : len(ours.data)]
    one, two = fake(ours), fake(clone)
    async with serving(one, two):
        await receive(one.conninfo, tmp_path, ours.lsn)
        with pytest.raises(WalDivergedError) as caught:
            await receive(two.conninfo, tmp_path, clone.lsn)
    assert (caught.value.lsn or 0) < ours.start_lsn + SEGMENT


async def test_what_the_server_has_removed_is_said_not_to_be_proven(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wal = written(3)
    server = fake(wal, 2 * SEGMENT)
    async with serving(server):
        await receive(server.conninfo, tmp_path, 3 * SEGMENT)
        server.wal[1] = (3 * SEGMENT, bytes(wal.data[2 * SEGMENT :]))
        await receive(server.conninfo, tmp_path, wal.lsn)
    assert "cannot be compared" in caplog.text
    assert len(content(tmp_path)) == 3


# -- nothing but a dead branch


def branches(switches: int) -> tuple[WalWriter, dict[int, tuple[int, bytes]], dict[int, str]]:
    """A dead end of timeline 1, and the server's path: 1 to 2 to 3, switched within segment 2."""
    dead = written(1)
    path = written(1)
    served: dict[int, tuple[int, bytes]] = {}
    histories = {}
    lines = ""
    for timeline in range(1, switches + 2):
        for _ in range(20):
            path.add_of_length(400)
        if timeline <= switches:
            served[timeline] = (path.start_lsn, bytes(path.data))
            lines += f"{timeline}\t{format_lsn(path.lsn)}\tno recovery target specified\n"
            histories[timeline + 1] = lines
            path.timeline = timeline + 1
            path.fill_page(0)
    for _ in range(200):
        path.add_of_length(400)
        commit(path, 5)
    path.switch()
    served[switches + 1] = (path.start_lsn, bytes(path.data))
    for _ in range(400):
        dead.add_of_length(400)
    dead.switch()
    return dead, served, histories


@pytest.mark.parametrize("slot", [None, "s"])
@pytest.mark.parametrize("switches", [1, 2])
@pytest.mark.parametrize("complete", [False, True])
async def test_a_dead_branch_alone_is_gone_on_from_the_switch(
    complete: bool, switches: int, slot: str | None, tmp_path: Path
) -> None:
    dead, served, histories = branches(switches)
    name = segment_file_name(1, 2, SEGMENT)
    old = bytes(dead.data[SEGMENT:])
    path = tmp_path / (name if complete else name + ".partial")
    path.write_bytes(old)
    server = FakeWalsender(served, histories=histories)
    newest = max(served)
    async with serving(server):
        await receive(server.conninfo, tmp_path, server.end(newest), slot=slot, start=None)
    found = content(tmp_path)
    assert found.pop(f"dead/{path.name}") == old
    assert found.pop(segment_file_name(newest, 2, SEGMENT)) == served[newest][1][SEGMENT:]
    assert found == {f"{t:08X}.history": text.encode() for t, text in histories.items()}


async def test_a_missing_history_file_on_the_way_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead, served, histories = branches(2)
    (tmp_path / (segment_file_name(1, 2, SEGMENT) + ".partial")).write_bytes(dead.data[SEGMENT:])
    server = FakeWalsender(served, histories={3: histories[3]})
    async with serving(server):
        await receive(server.conninfo, tmp_path, server.end(3), start=None)
    assert "no history file of timeline 2" in caplog.text
    assert segment_file_name(3, 2, SEGMENT) in content(tmp_path)


async def test_wal_at_the_switch_that_was_removed_is_a_named_gap(tmp_path: Path) -> None:
    dead, served, histories = branches(1)
    path = tmp_path / (segment_file_name(1, 2, SEGMENT) + ".partial")
    path.write_bytes(dead.data[SEGMENT:])
    start, data = served[2]
    served = {2: (start + 2 * SEGMENT, data)}
    server = FakeWalsender(served, histories=histories)
    async with serving(server):
        for _ in range(2):  # also where the first time has set it aside already
            with pytest.raises(ServerRefused, match="WAL is missing from 0/200000 to"):
                await receive(server.conninfo, tmp_path, server.end(2), start=None)


# -- silence


@pytest.mark.parametrize(
    "step",
    ["login", "IDENTIFY_SYSTEM", "SHOW", "TIMELINE_HISTORY", "READ_REPLICATION_SLOT",
     "START_REPLICATION PHYSICAL", "START_REPLICATION SLOT", "COPY"],
)  # fmt: skip
async def test_silence_is_not_waited_for_for_ever(step: str, tmp_path: Path) -> None:
    _, served, histories = branches(1)
    newest = served[2][1]
    start = (2, 2 * SEGMENT)
    server = FakeWalsender(
        {2: (SEGMENT, newest[: SEGMENT + 60_000])}, histories=histories
    )  # fmt: skip
    async with serving(server):
        # So that there is something to compare.
        await receive(server.conninfo, tmp_path, 2 * SEGMENT + 60_000, slot="s", start=start)
        server.faults, server.times = {step: SILENT}, 1
        server.wal[2] = (SEGMENT, newest)
        if step == "COPY":
            server.wal[2] = (SEGMENT, newest[: SEGMENT + 90_000])

            async def extend() -> None:
                await until(lambda: not server.times)
                server.wal[2] = (SEGMENT, newest)

        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            if step == "COPY":
                nursery.start_soon(extend)
            receiver = await receive(
                server.conninfo, tmp_path, SEGMENT + len(newest), slot="s", receive_timeout_s=0.5
            )
    assert server.times == 0
    assert "for 0.5 s" in receiver.state.last_error or "within 0.5 s" in receiver.state.last_error


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.create_physical_slot("s"),
        lambda c: c.timeline_history(2),
        lambda c: c.drop_slot("s"),
    ],
)
async def test_no_command_waits_for_ever(ask: Callable[[Any], Any]) -> None:
    server = fake(
        written(1),
        faults={"CREATE": SILENT, "TIMELINE": SILENT, "DROP": SILENT},
    )
    async with serving(server):
        with (
            await connect(server.conninfo, receive_timeout_s=0.3) as connection,
            pytest.raises(WalstreamError, match="no message from the server for"),
        ):
            await ask(connection)


@pytest.mark.parametrize("step", ["BASE_BACKUP", "TAR"])
async def test_no_base_backup_waits_for_ever(step: str) -> None:
    """Before its first answer the server makes a checkpoint: ten times as long."""
    server = fake(written(1), faults={step: SILENT})
    events: list[object] = []

    async def take(event: object) -> None:
        events.append(event)
        await trio.lowlevel.checkpoint()

    async with serving(server):
        with (
            trio.fail_after(PATIENCE_S),
            await connect(server.conninfo, receive_timeout_s=0.2) as connection,
            pytest.raises(ConnectionLost, match=r"no message from the server for (0\.2|2) s"),
        ):
            await stream_base_backup(connection, take, "label")
    assert len(events) == (0 if step == "BASE_BACKUP" else 2)
