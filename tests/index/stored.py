"""Posting lists in stored form, made by the structs alone: what the kernel must agree with."""

from __future__ import annotations

from collections.abc import Sequence

from walstream.index import keys
from walstream.index.page_index import Entry


def posting_list(
    tag: tuple[int, int, int, int, int], entries: Sequence[Entry]
) -> tuple[bytes, bytes]:
    """Returns key and value of the entries of one block, oldest first, for ``Batch.pairs``."""
    base = entries[0].end_lsn
    value = b"".join(
        keys.ENTRY.pack(end_lsn - base, end_lsn - start_lsn, flags)
        for end_lsn, start_lsn, flags in entries
    )
    return keys.BLOCK_KEY.pack(b"b", *tag, base), value
