"""The pages of a store, all or a sample of them, rebuilt and checked as of a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from walstream.app.open import open_past
from walstream.app.threads import closing_in_thread
from walstream.datadir.deep_check import DeepCheck, DeepReport
from walstream.index.moment import MomentText
from walstream.segments.reader import SegmentReader


async def verify_pages(
    path: Path,
    asked: MomentText,
    *,
    sample: float = 1.0,
    jobs: int = 2,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> DeepReport:
    """Rebuilds pages as of a moment and checks them (``datadir/deep_check.py``).

    Raises:
        StoreError: no store, one without a base backup, or a damaged one.
        LsnNotAvailable: the store does not have that moment.
        WalError, StorageError: index or WAL cannot be read.

    Cancellation: the redo children are killed and reaped.
    """
    async with open_past(path) as past:
        lsn = (await past.moment(asked)).lsn
        source = past.source(lsn)
        shared = source.archive
        # Of its own: that of the pages serves one thread at a time, which is theirs.
        archive = await trio.to_thread.run_sync(
            partial(SegmentReader, shared.path, shared.segment_size)
        )
        async with closing_in_thread(archive):
            check = DeepCheck(
                past.pages,
                replace(source, archive=archive),
                lsn,
                sample=sample,
                jobs=jobs,
                progress=progress,
            )
            return await check.run()
