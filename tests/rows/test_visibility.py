"""Who sees a tuple: statuses decide, hints shorten the way, locks are no deletions."""

from __future__ import annotations

import pytest

from walstream.rows.visibility import Visibility
from walstream.state.transactions import Member

COMMITTED, OPEN = 100, 101
MULTI_LOCKS, MULTI_UPDATED, MULTI_OPEN = 7, 8, 9

XMIN_COMMITTED, XMIN_INVALID, XMAX_COMMITTED, XMAX_INVALID = 0x100, 0x200, 0x400, 0x800
IS_MULTI, LOCK_ONLY, EXCL, KEYSHR = 0x1000, 0x80, 0x40, 0x10


class Statuses:
    def committed(self, xid: int) -> bool:
        return xid == COMMITTED

    def members(self, multi: int) -> tuple[Member, ...]:
        return {
            MULTI_LOCKS: (Member(COMMITTED, 0), Member(OPEN, 3)),
            MULTI_UPDATED: (Member(OPEN, 0), Member(COMMITTED, 4)),
            MULTI_OPEN: (Member(COMMITTED, 1), Member(OPEN, 5)),
        }.get(multi, ())


@pytest.mark.parametrize(
    ("xmin", "xmax", "infomask", "visible"),
    [
        (COMMITTED, 0, XMAX_INVALID, True),
        (OPEN, 0, XMAX_INVALID, False),
        (OPEN, 0, XMIN_COMMITTED | XMAX_INVALID, True),
        (COMMITTED, 0, XMIN_INVALID | XMAX_INVALID, False),
        (OPEN, 0, XMIN_COMMITTED | XMIN_INVALID | XMAX_INVALID, True),  # frozen
        (COMMITTED, COMMITTED, 0, False),
        (COMMITTED, OPEN, 0, True),
        (COMMITTED, OPEN, XMAX_COMMITTED, False),
        (COMMITTED, COMMITTED, XMAX_INVALID, True),
        (COMMITTED, COMMITTED, LOCK_ONLY | EXCL, True),
        (COMMITTED, COMMITTED, EXCL, True),  # SELECT FOR UPDATE of before 9.3
        (COMMITTED, COMMITTED, EXCL | KEYSHR, False),
        (COMMITTED, MULTI_LOCKS, IS_MULTI | LOCK_ONLY, True),
        (COMMITTED, MULTI_LOCKS, IS_MULTI, True),
        (COMMITTED, MULTI_UPDATED, IS_MULTI, False),
        (COMMITTED, MULTI_OPEN, IS_MULTI, True),
        (COMMITTED, 99, IS_MULTI, True),
        (OPEN, COMMITTED, 0, False),
    ],
)
def test_visible(xmin: int, xmax: int, infomask: int, visible: bool) -> None:
    seen = Visibility(Statuses())
    assert seen.visible(xmin, xmax, infomask) is visible
