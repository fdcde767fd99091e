"""Makes holds: what was asked for is looked up in the store, and kept as LSNs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trio

from walstream.app.open import open_past
from walstream.errors import ConfigError
from walstream.index.moment import MomentText
from walstream.store.holds import Hold, check_hold_name, write_hold
from walstream.wal.model import format_lsn


async def make_hold(
    path: Path,
    first: MomentText,
    last: MomentText | None,
    *,
    until: datetime,
    reason: str,
    name: str | None = None,
    now: datetime | None = None,
) -> Hold:
    """Keeps the moments from ``first`` to ``last`` (None: only that one) until a time.

    While they are looked up this process's own lease keeps them.

    Raises:
        ConfigError: a name that cannot be one, an end before its beginning, a time that is past.
        LsnNotAvailable: there is no such moment, or it cannot be had; what can be had is said.
        StoreError: there is a hold of that name.
        WalError, StorageError: the store cannot be read or written.

    Cancellation: the hold is there whole or not at all.
    """
    now = datetime.now(UTC) if now is None else now
    name = check_hold_name(now.strftime("hold-%Y%m%d-%H%M%S") if name is None else name)
    if until <= now:
        raise ConfigError(f"--until {until.isoformat(' ')} is past: a hold would hold nothing")
    async with open_past(path) as past:
        begin = await past.moment(first)
        end = begin if last is None else await past.moment(last)
        if end.lsn < begin.lsn:
            raise ConfigError(
                f"{end.asked} ({format_lsn(end.lsn)}) is before {begin.asked} "
                f"({format_lsn(begin.lsn)}): a hold goes from the older to the newer"
            )
        past.pages.planner.check_kept_range(begin.lsn, end.lsn)
        hold = Hold(
            name,
            begin.lsn,
            end.lsn,
            until,
            reason,
            first.text if last is None else f"{first.text}..{last.text}",
            now,
        )
        await trio.to_thread.run_sync(partial(write_hold, path.absolute(), hold))
    return hold
