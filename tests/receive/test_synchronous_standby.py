"""Socket and files are handed over while all is quick, and taken back in good order."""

from __future__ import annotations

import random
from pathlib import Path

import trio

from tests.support.fake_walsender import FakeWalsender
from tests.support.walgen import SEGMENT
from walstream.receive.synchronous_standby import SynchronousStandby
from walstream.replication.copy_stream import CopyStream
from walstream.replication.libpq import connect
from walstream.replication.status import Report, StatusSender
from walstream.store.file_layer import FileLayer
from walstream.store.wal_files import WalFiles
from walstream.store.write_queue import WriteQueue

WAL = random.Random(1).randbytes(100_000)


async def test_it_takes_what_arrives_to_the_disk_and_gives_everything_back(tmp_path: Path) -> None:
    server = FakeWalsender({1: (SEGMENT, WAL)})
    queue = WriteQueue(synchronous=True, sync=True)
    told: list[Report] = []

    def report(written_lsn: int, flushed_lsn: int) -> Report:
        told.append(Report(written_lsn, flushed_lsn))
        return told[-1]

    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await nursery.start(queue.run)
        queue.use(WalFiles(FileLayer(), tmp_path, SEGMENT, 1, SEGMENT, zero_fill=True))
        with await connect(server.conninfo) as connection:
            assert await connection.start_replication(None, SEGMENT, 1) is None
            copy = CopyStream(connection, watched=True)
            standby = SynchronousStandby(
                copy,
                queue,
                StatusSender(connection),
                report=report,
                tells_flush=True,
                heard=lambda message: None,
            )
            assert standby.state.name == "SESSION"
            with trio.fail_after(60):
                async with trio.open_nursery() as running:
                    running.start_soon(standby.run)
                    await queue.flushed.wait_for(SEGMENT + len(WAL))
                    assert standby.state.name == "THREAD"
                    # Nobody else gets the thread, or may hand over again.
                    assert not await standby.run()
                    running.cancel_scope.cancel()
                assert standby.state.name != "THREAD"
                await queue.until_idle()
            assert standby.state.name == "SESSION"
            assert told[-1] == Report(SEGMENT + len(WAL), SEGMENT + len(WAL))
            await copy.close()  # the connection is the session's
        queue.close()
        await queue.until_idle()
        nursery.cancel_scope.cancel()
    stored = (tmp_path / "000000010000000000000001.partial").read_bytes()
    assert stored[: len(WAL)] == WAL


async def test_the_end_of_wal_ends_it(tmp_path: Path) -> None:
    server = FakeWalsender({1: (SEGMENT, WAL[:100]), 2: (SEGMENT + 100, b"")})
    queue = WriteQueue(synchronous=True, sync=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await nursery.start(queue.run)
        queue.use(WalFiles(FileLayer(), tmp_path, SEGMENT, 1, SEGMENT, zero_fill=True))
        with await connect(server.conninfo) as connection, trio.fail_after(60):
            assert await connection.start_replication(None, SEGMENT, 1) is None
            copy = CopyStream(connection, watched=True)
            standby = SynchronousStandby(
                copy,
                queue,
                StatusSender(connection),
                report=Report,
                tells_flush=True,
                heard=lambda message: None,
            )
            assert await standby.run()
            assert copy.ended
            assert queue.flushed.value == SEGMENT + 100
            await queue.until_idle()
            assert standby.state.name == "SESSION"
            following = await copy.finish()
            assert following is not None
            assert following.timeline == 2
        nursery.cancel_scope.cancel()
