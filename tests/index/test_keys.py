"""What compiled code puts into the index is what the structs say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.index.stored import posting_list
from walstream.index import keys, postings
from walstream.index.page_index import Entry

u32 = st.integers(0, 2**32 - 1)
lsns = st.integers(1, 2**63)


@given(tag=st.tuples(u32, u32, u32, st.integers(0, 3), u32), base=lsns, step=st.integers(1, 2**31))
def test_posting_lists(tag: tuple[int, int, int, int, int], base: int, step: int) -> None:
    entries = [Entry(base, base - 1, 1), Entry(base + step, base, 0)]
    lists = postings.PostingLists()
    for end_lsn, start_lsn, flags in entries:
        lists.add_entry(*tag, end_lsn, start_lsn, flags)
    (stored,) = lists.take()
    assert stored == posting_list(tag, entries)
    assert keys.BLOCK_KEY.unpack(stored[0]) == (b"b", *tag, base)
