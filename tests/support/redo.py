"""Redo without redo children, for tests of what is above them."""

from __future__ import annotations

from walstream.errors import RecordError, RedoError
from walstream.redo.batch import BatchReply, RequestBatch
from walstream.redo.protocol import RedoRequest
from walstream.redo.rules.engine import Engine


class NoRedo:
    """Fails when redo is asked for. Derive from it to say what redo of one page gives."""

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        raise AssertionError(f"redo of {request.tag} was asked for")

    async def redo_batch(
        self, batch: RequestBatch, *, version: int, stamp_hints: bool
    ) -> BatchReply:
        reply = BatchReply(batch.requests)
        for number in range(batch.requests):
            request = batch.request(number)
            try:
                page = await self.redo(request, version=version, stamp_hints=stamp_hints)
                reply.put(number, page)
            except (RedoError, RecordError) as error:
                reply.errors[number] = error
        return reply


class InProcessRedo(NoRedo):
    """Redo in this process."""

    async def redo(self, request: RedoRequest, *, version: int, stamp_hints: bool) -> bytes:
        engine = Engine(version, stamp_hints)
        engine.begin(request.tag)
        if request.base_page is not None:
            engine.push_page(request.base_page)
        for end_lsn, record in request.records:
            engine.apply(end_lsn, record)
        return bytes(engine.get_page())
