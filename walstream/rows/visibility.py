"""Which tuples a snapshot between transactions sees (HeapTupleSatisfiesMVCC).

Visible: inserted by a transaction that is committed at that moment, and not deleted by one. What is
prepared, in progress, aborted or was cut by a crash is all one: not committed. Hint bits that say
"committed" are set only after that was so and an image that carries one is younger still, so on the
page of a moment they are true where they are set; where not, the status decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

XMAX_EXCL_LOCK = 0x0040
XMAX_KEYSHR_LOCK = 0x0010
XMAX_LOCK_ONLY = 0x0080
XMIN_COMMITTED = 0x0100
XMIN_INVALID = 0x0200
XMIN_FROZEN = XMIN_COMMITTED | XMIN_INVALID
XMAX_COMMITTED = 0x0400
XMAX_INVALID = 0x0800
XMAX_IS_MULTI = 0x1000
LOCK_MASK = XMAX_EXCL_LOCK | XMAX_KEYSHR_LOCK

# MultiXactStatusNoKeyUpdate and MultiXactStatusUpdate: the members that are no mere locks.
UPDATERS = (4, 5)


class MultiMember(Protocol):
    """A member of a multixact."""

    @property
    def xid(self) -> int: ...

    @property
    def status(self) -> int: ...


class Transactions(Protocol):
    """What became of transactions by that moment (``state.transactions.TransactionLog``)."""

    def committed(self, xid: int) -> bool: ...

    def members(self, multi: int) -> Iterable[MultiMember]: ...


class Visibility:
    """Says of tuples whether they are visible; remembers the statuses that it asked for."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._committed: dict[int, bool] = {}

    def committed(self, xid: int) -> bool:
        """Returns whether a transaction was committed."""
        known = self._committed.get(xid)
        if known is None:
            known = self._committed[xid] = self._transactions.committed(xid)
        return known

    def inserted(self, xmin: int, infomask: int) -> bool:
        """Returns whether the transaction that wrote the tuple was committed."""
        if infomask & XMIN_FROZEN == XMIN_FROZEN:
            return True
        if infomask & XMIN_INVALID:
            return False
        return bool(infomask & XMIN_COMMITTED) or self.committed(xmin)

    def deleter(self, xmax: int, infomask: int) -> int:
        """Returns the xid that deletes or updates the tuple, 0 for none (locks are none)."""
        if not xmax or infomask & XMAX_INVALID or infomask & XMAX_LOCK_ONLY:
            return 0
        if infomask & XMAX_IS_MULTI:
            for member in self._transactions.members(xmax):
                if member.status in UPDATERS:
                    return member.xid
            return 0
        # HEAP_XMAX_IS_LOCKED_ONLY: a SELECT FOR UPDATE of before 9.3.
        return 0 if infomask & LOCK_MASK == XMAX_EXCL_LOCK else xmax

    def visible(self, xmin: int, xmax: int, infomask: int) -> bool:
        """Returns whether a tuple of these is visible."""
        if not self.inserted(xmin, infomask):
            return False
        if infomask & XMAX_COMMITTED and not infomask & (
            XMAX_IS_MULTI | XMAX_LOCK_ONLY | XMAX_INVALID
        ):
            return infomask & LOCK_MASK == XMAX_EXCL_LOCK
        deleter = self.deleter(xmax, infomask)
        return not deleter or not self.committed(deleter)
