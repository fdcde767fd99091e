"""Rebuilds pages: which child gets a request, and what happens when a child dies of one.

``redo`` encodes a request, gives it to the least loaded child of its kind, checks the page. When
a child dies, the requests behind the one it was at simply go to another child. Suspects (the one
it was at, or all in flight where nobody knows) are tried once more, each alone in a child of its
own: the innocent succeed, and one that kills a second time is quarantined, with its dump, and
refused for a while when it comes again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import trio

import walstream
from walstream.errors import (
    RedoError,
    RedoProcessDied,
    RedoQuarantined,
    StorageError,
    UnsupportedRecord,
    WrongResult,
)
from walstream.redo.batch import BatchReply, RequestBatch, doubtful_pages
from walstream.redo.dumps import write_dump
from walstream.redo.metrics import RedoMetrics
from walstream.redo.pool import Pool
from walstream.redo.process import ProcessLimits, RedoProcess
from walstream.redo.protocol import RedoRequest, encode_request
from walstream.redo.result import check_page
from walstream.tasks.supervise import open_bare_nursery
from walstream.wal.model import BufferTag
from walstream.wal.versions import VERSIONS

logger = logging.getLogger(__name__)

QUARANTINE_S = 300.0
QUARANTINE_SIZE = 1000
_MAX_MOVES = 50


@dataclass(frozen=True, slots=True)
class RedoConfig:
    """How redo children are run.

    ``command`` replaces our own child, for example by Neon's ``postgres --wal-redo``; in its words
    ``{version}`` stands for the major version; ``environment`` is all that it gets.
    ``pool_size`` is the most children of one kind, by default one for each CPU but one.
    """

    command: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = True
    pool_size: int | None = None
    warm_spare: bool = True
    idle_s: float = 180.0
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    dump_directory: Path | None = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One child, for the status output."""

    kind: str
    role: str
    pid: int | None
    load: int
    answered: int
    idle_s: float
    sandbox: str


class RedoManager:
    """Owns all redo children. ``run`` must be running while ``redo`` is called."""

    def __init__(self, config: RedoConfig | None = None) -> None:
        self.config = config or RedoConfig()
        self.metrics = RedoMetrics()
        self._pools: dict[tuple[int, bool], Pool] = {}
        self._quarantine: OrderedDict[tuple[BufferTag, int], tuple[bytes, float, str, str | None]]
        self._quarantine = OrderedDict()
        self._kept: OrderedDict[tuple[BufferTag, int], None] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._active = 0
        self._refusing = False
        self._shutdown = trio.Event()
        self._drained = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervises the children until ``shutdown`` was called and all of them are reaped.

        Cancellation: all children are killed and reaped; requests in flight fail.
        """
        try:
            async with open_bare_nursery() as nursery, open_bare_nursery() as background:
                self._nursery = nursery
                background.start_soon(self._quiesce_idle)
                task_status.started()
                await self._shutdown.wait()
                if self._active:
                    await self._drained.wait()
                for pool in self._pools.values():
                    pool.close()
                background.cancel_scope.cancel()
        finally:
            self._refusing = True
            self._nursery = None
            for pool in self._pools.values():
                pool.close()

    def shutdown(self) -> None:
        """Refuses new requests; ``run`` returns when the ones it has are answered."""
        self._refusing = True
        self._shutdown.set()

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        """Returns the page (8192 bytes) that ``request`` rebuilds.

        Raises:
            RedoError: the request cannot be redone, or the result is not the page asked for.
            RedoProtocolError: the request cannot be encoded.
            RedoQuarantined: the request killed two children, now or a short while ago.
            RedoTimeout: it waited too long for its turn.

        Cancellation: the request is forgotten; no other request is affected.
        """
        if self._refusing:
            raise RedoError("the redo manager is shut down")
        began = monotonic()
        page: bytes | None = None
        self._active += 1
        try:
            data = encode_request(request)
            pool = self._pools.get((version, stamp_hints)) or self._open_pool(version, stamp_hints)
            if self._quarantine:
                self._refuse_quarantined(request, data)
            process = pool.pick() or await pool.acquire()
            try:
                page = await process.request(data)
                check_page(page, request)
            except RedoProcessDied as exc:
                page = await self._again(pool, request, data, exc)
            except WrongResult as exc:
                process.distrust(str(exc))
                death = RedoProcessDied(str(exc), cause="protocol", suspect=True)
                page = await self._again(pool, request, data, death)
        except RedoError as exc:
            self.metrics.failed[type(exc).__name__] += 1
            if page is not None and not isinstance(exc, WrongResult):  # an error frame
                self._keep_failure(request, data, version, stamp_hints)
            raise
        finally:
            self._active -= 1
            if self._shutdown.is_set() and not self._active:
                self._drained.set()
        self.metrics.answered(monotonic() - began, len(request.records), len(data))
        return page

    async def redo_batch(
        self, batch: RequestBatch, *, version: int, stamp_hints: bool
    ) -> BatchReply:
        """Returns the pages that many requests rebuild, each as ``redo`` would give it.

        All go to one child. Where one cannot be redone, or the child dies, the others are given all
        the same: ``errors`` has what ``redo`` would raise.

        Raises:
            RedoError, RedoTimeout: none of the requests could be sent.

        Cancellation: the requests are forgotten; no other request is affected.
        """
        if self._refusing:
            raise RedoError("the redo manager is shut down")
        began = monotonic()
        reply = BatchReply(batch.requests)
        self._active += 1
        try:
            if self._quarantine:
                await self._one_by_one(batch, reply, version, stamp_hints)
                return reply
            pool = self._pools.get((version, stamp_hints)) or self._open_pool(version, stamp_hints)
            process = pool.pick() or await pool.acquire()
            try:
                await process.request_batch(batch, reply)
            except RedoProcessDied as exc:
                await self._after_death(pool, batch, reply, exc)
            else:
                reply.came = batch.requests
            await self._look_at(pool, process, batch, reply, version, stamp_hints)
        except RedoError as exc:
            self.metrics.failed[type(exc).__name__] += batch.requests
            raise
        finally:
            self._active -= 1
            if self._shutdown.is_set() and not self._active:
                self._drained.set()
        self.metrics.answered_batch(
            monotonic() - began, batch.requests - len(reply.errors), batch.records, len(batch.data)
        )
        return reply

    async def _one_by_one(
        self, batch: RequestBatch, reply: BatchReply, version: int, stamp_hints: bool
    ) -> None:
        """Redoes the requests of a batch as single ones, because some may be refused."""
        for number in range(batch.requests):
            try:
                page = await self.redo(
                    batch.request(number), version=version, stamp_hints=stamp_hints
                )
                reply.put(number, page)
            except RedoError as exc:
                reply.errors[number] = exc

    async def _after_death(
        self, pool: Pool, batch: RequestBatch, reply: BatchReply, death: RedoProcessDied
    ) -> None:
        """Redoes what had not come when the child died."""
        innocent = RedoProcessDied(str(death), cause=death.cause, dump=death.dump)
        for number in range(reply.came, batch.requests):
            suspect = death.suspect and number < reply.came + reply.suspects
            await self._retry(pool, batch, reply, number, death if suspect else innocent)

    async def _retry(
        self, pool: Pool, batch: RequestBatch, reply: BatchReply, number: int, why: RedoProcessDied
    ) -> None:
        try:
            page = await self._again(pool, batch.request(number), batch.encoded(number), why)
            reply.put(number, page)
        except RedoError as exc:
            self.metrics.failed[type(exc).__name__] += 1
            reply.errors[number] = exc

    async def _look_at(
        self,
        pool: Pool,
        process: RedoProcess,
        batch: RequestBatch,
        reply: BatchReply,
        version: int,
        stamp_hints: bool,
    ) -> None:
        """Checks the pages of a batch: those that came from ``process``."""
        for number in doubtful_pages(reply.pages, reply.came, batch.end_lsns):
            request = batch.request(number)
            try:
                check_page(reply.page(number), request)
            except WrongResult as exc:
                process.distrust(str(exc))
                death = RedoProcessDied(str(exc), cause="protocol", suspect=True)
                await self._retry(pool, batch, reply, number, death)
            except RedoError as exc:  # an error frame
                self.metrics.failed[type(exc).__name__] += 1
                self._keep_failure(request, batch.encoded(number), version, stamp_hints)
                reply.errors[number] = exc

    def status(self) -> list[ProcessStatus]:
        """Returns one line for every child."""
        now = monotonic()
        lines = []
        for pool in self._pools.values():
            for process in pool.everyone:
                role = {id(pool.spare): "spare", id(pool.alone): "alone"}.get(id(process), "worker")
                lines.append(
                    ProcessStatus(
                        pool.name,
                        role,
                        process.pid,
                        process.load,
                        process.answered,
                        now - process.last_used,
                        process.sandbox,
                    )
                )
        return lines

    def depth(self) -> tuple[int, int]:
        """Returns how many requests are queued or in flight, and how many children there are.

        May be called in any thread.
        """
        pools = list(self._pools.values())
        children = [process for pool in pools for process in list(pool.everyone)]
        return sum(process.load for process in children), len(children)

    async def _again(
        self, pool: Pool, request: RedoRequest, data: bytes, death: RedoProcessDied
    ) -> bytes:
        """Tries a request again whose child died."""
        for _ in range(_MAX_MOVES):
            if self._nursery is None or death.cause == "killed":
                raise RedoError("the redo manager was cancelled") from death
            self.metrics.retried += 1
            try:
                if not death.suspect:
                    process = pool.pick() or await pool.acquire()
                    return await self._ask(process, request, data)
                async with pool.isolated() as process:
                    page = await self._ask(process, request, data)
                logger.info("redo of block %s succeeded alone after a child died", request.tag)
            except RedoProcessDied as again:
                if death.suspect and again.suspect:
                    raise self._put_in_quarantine(request, data, again) from again
                if not death.suspect:
                    death = again
            else:
                return page
        raise RedoError(f"{_MAX_MOVES} redo children died around this request: {death}") from death

    async def _ask(self, process: RedoProcess, request: RedoRequest, data: bytes) -> bytes:
        """Returns a page that was checked; ends a child whose page is wrong."""
        page = await process.request(data)
        try:
            check_page(page, request)
        except WrongResult as exc:
            process.distrust(str(exc))
            raise
        return page

    def _keep_failure(
        self, request: RedoRequest, data: bytes, version: int, stamp_hints: bool
    ) -> None:
        """Dumps a request that the child answered with an error, once, in the background."""
        key = _key(request)
        if self.config.dump_directory is None or self._nursery is None or key in self._kept:
            return
        self._kept[key] = None
        while len(self._kept) > QUARANTINE_SIZE:
            self._kept.popitem(last=False)
        self._nursery.start_soon(trio.to_thread.run_sync, self._dumper(version, stamp_hints), data)

    def _dumper(self, version: int, stamp_hints: bool) -> Callable[[bytes], str | None]:
        """Returns what writes the dumps of one kind of children; for a thread."""
        directory = self.config.dump_directory
        assert directory is not None

        def dump(data: bytes) -> str | None:
            try:
                path = write_dump(directory, data, version=version, stamp_hints=stamp_hints)
            except StorageError:
                logger.exception("the failing redo input is lost")
                return None
            return str(path)

        return dump

    def _put_in_quarantine(
        self, request: RedoRequest, data: bytes, death: RedoProcessDied
    ) -> RedoQuarantined:
        digest = hashlib.blake2b(data).digest()
        tag = request.tag
        reason = (
            f"block {tag.block} of {tag.locator} fork {tag.fork}: two redo children died of this"
            f" request: {death}"
        )
        entry = (digest, monotonic() + QUARANTINE_S, reason, death.dump)
        self._quarantine[_key(request)] = entry
        while len(self._quarantine) > QUARANTINE_SIZE:
            self._quarantine.popitem(last=False)
        logger.error("%s%s", reason, f"; input kept in {death.dump}" if death.dump else "")
        return RedoQuarantined(reason, dump=death.dump)

    def _refuse_quarantined(self, request: RedoRequest, data: bytes) -> None:
        entry = self._quarantine.get(_key(request))
        if entry is None:
            return
        digest, until, reason, dump = entry
        if monotonic() >= until:
            del self._quarantine[_key(request)]
        elif digest == hashlib.blake2b(data).digest():
            raise RedoQuarantined(reason, dump=dump)

    def _open_pool(self, version: int, stamp_hints: bool) -> Pool:
        if version not in VERSIONS:
            raise UnsupportedRecord(f"no redo for PostgreSQL {version}: expected {VERSIONS}")
        if self._nursery is None:
            raise RedoError("the redo manager is not running")
        config = self.config
        command, environment = child_command(config, version, stamp_hints)

        dump = self._dumper(version, stamp_hints) if config.dump_directory is not None else None

        def make() -> RedoProcess:
            return RedoProcess(
                command,
                environment=environment,
                limits=config.limits,
                dump=dump,
            )

        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        pool = Pool(
            f"PostgreSQL {version}{' with hint stamps' if stamp_hints else ''}",
            make,
            self._nursery,
            self.metrics,
            size=config.pool_size or max(1, cpus - 1),
            warm_spare=config.warm_spare,
        )
        self._pools[version, stamp_hints] = pool
        return pool

    async def _quiesce_idle(self) -> None:
        idle_s = self.config.idle_s
        while True:
            await trio.sleep(idle_s / 4)
            for pool in self._pools.values():
                children = pool.everyone
                now = monotonic()
                if children and all(
                    not child.load and now - child.last_used >= idle_s for child in children
                ):
                    logger.info("redo children for %s end after %s s idle", pool.name, idle_s)
                    pool.quiesce()


def child_command(
    config: RedoConfig, version: int, stamp_hints: bool, *, error_frames: bool = True
) -> tuple[list[str], dict[str, str]]:
    """Returns the command of a redo child and its whole environment."""
    if config.command is not None:
        words = [word.replace("{version}", str(version)) for word in config.command]
        return words, dict(config.environment)
    # -S and -P: what site would add to the path is handed over, which saves start-up time; the
    # current directory is not on it.
    command = [sys.executable, "-S", "-P", "-m", "walstream.redo.child", "--wal-redo"]
    command += ["--pg-version", str(version)]
    command += ["--stamp-hints"] if stamp_hints else []
    command += ["--error-frames"] if error_frames else []
    command += [] if config.sandbox else ["--no-sandbox"]
    root = str(Path(walstream.__file__).parent.parent)
    paths = dict.fromkeys([root, *filter(os.path.isdir, sys.path)])
    return command, {"PYTHONPATH": os.pathsep.join(paths)}


def _key(request: RedoRequest) -> tuple[BufferTag, int]:
    return request.tag, request.records[-1][0] if request.records else 0
