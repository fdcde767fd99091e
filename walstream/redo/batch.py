"""Many redo requests that go to one child together, and what comes back.

What is in order is told in compiled code; a reply that is not, or an error frame, is looked at as
that to a single request is (``result.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cython

from walstream.redo.protocol import RedoRequest, decode_requests
from walstream.wal.model import BLCKSZ as PAGE_SIZE

if TYPE_CHECKING:
    from walstream.errors import WalstreamError
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.wal.buffer import bytes_of, u16, u64, unset
    from walstream.wal.bufpage import (
        BLCKSZ,
        PG_PAGE_LAYOUT_VERSION,
        SizeOfPageHeaderData,
        pd_flags_at,
        pd_lower_at,
        pd_pagesize_version_at,
        pd_special_at,
        pd_upper_at,
    )

# PD_VALID_FLAG_BITS.
VALID_FLAGS = 0x0007


class RequestBatch(NamedTuple):
    """Whole requests one after another, each for one page.

    ``offsets``: where each begins in ``data``, and the end. ``end_lsns``: of the last record of
    each, u64 little-endian. ``records``: how many all have.
    """

    data: bytearray
    offsets: Sequence[int]
    end_lsns: bytes
    records: int

    @property
    def requests(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    def encoded(self, number: int) -> bytes:
        """Returns the bytes of one request."""
        return bytes(self.data[self.offsets[number] : self.offsets[number + 1]])

    def request(self, number: int) -> RedoRequest:
        """Returns one request."""
        request = next(decode_requests(self.encoded(number)))
        assert request is not None
        return request


class BatchReply:
    """The pages that a batch gives, in order, in one buffer of 8192 bytes each.

    ``errors``: why a page is not there; its bytes mean nothing.
    """

    def __init__(self, count: int) -> None:
        self.pages = unset(count * PAGE_SIZE)
        self.count = count
        self.errors: dict[int, WalstreamError] = {}
        # How many came, in order; and after a death, how many of the others may be the reason.
        self.came = 0
        self.suspects = 0

    def page(self, number: int) -> bytes:
        """Returns one page."""
        return bytes(self.pages[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])

    def put(self, number: int, page: bytes) -> None:
        """Puts a page that came otherwise."""
        self.pages[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] = page


def doubtful_pages(pages: bytearray, count: int, end_lsns: bytes) -> list[int]:
    """Returns which of the first ``count`` pages have to be looked at (``check_page``).

    The others have a sane header and the end LSN of their last record as pd_lsn.
    """
    if count * PAGE_SIZE > len(pages) or count * 8 > len(end_lsns):
        raise ValueError(f"pages: expected {count}, got {len(pages)} bytes")
    p = bytes_of(pages)
    q = bytes_of(end_lsns)
    return [i for i in range(count) if not is_plain(p, i * BLCKSZ, u64(q, 8 * i))]


def is_plain(p: Bytes, at: int, end_lsn: int) -> bool:
    lower, upper = u16(p, at + pd_lower_at), u16(p, at + pd_upper_at)
    special = u16(p, at + pd_special_at)
    return (
        SizeOfPageHeaderData <= lower <= upper
        and upper <= special <= BLCKSZ
        and special % 8 == 0
        and u16(p, at + pd_pagesize_version_at) == BLCKSZ | PG_PAGE_LAYOUT_VERSION
        and u16(p, at + pd_flags_at) & ~VALID_FLAGS == 0
        and lsn_of(p, at) == end_lsn
    )


def lsn_of(p: Bytes, at: int) -> int:
    """Returns pd_lsn, whose high half stands first, of the page at ``at``."""
    word = u64(p, at)
    return (word & 0xFFFFFFFF) << 32 | word >> 32
