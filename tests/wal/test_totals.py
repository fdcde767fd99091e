"""The kernels over columns: the same compiled or not, and what they mean."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

import walstream.wal.totals
from tests.support.pure import pure
from walstream.stats.waldump_table import stats_table
from walstream.wal.columns import RecordColumns

PURE_TOTALS = pure("walstream.wal.totals")

Block = tuple[int, int, int, int]
Record = tuple[int, int, int, list[Block]]

blocks = st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(0, 3), st.integers(0, 1))
records = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 9, 10, 11, 200]),
        st.sampled_from([0x00, 0x10, 0x80, 0x90, 0xF3]),
        st.integers(0, 3),
        st.lists(blocks, max_size=3),
    ),
    max_size=12,
)


def columns_of(rows: list[Record]) -> RecordColumns:
    """Returns columns with these records: rmgr, info, xid, blocks (rel, fork, block, image)."""
    count = len(rows)
    flat = [(row, *block) for row, record in enumerate(rows) for block in record[3]]
    begins = [sum(len(record[3]) for record in rows[:row]) for row in range(count)]
    fpi = [sum(block[3] * 100 for block in record[3]) for record in rows]
    zeros = [0] * len(flat)
    return RecordColumns(
        count=count,
        start_lsn=array("Q", [8 + 64 * row for row in range(count)]),
        end_lsn=array("Q", [72 + 64 * row for row in range(count)]),
        prev_lsn=array("Q", [0] * count),
        total_length=array("I", [50 + fpi[row] for row in range(count)]),
        xid=array("I", [record[2] for record in rows]),
        rmgr=array("B", [record[0] for record in rows]),
        info=array("B", [record[1] for record in rows]),
        fpi_length=array("I", fpi),
        block_begin=array("I", begins),
        blocks=array("B", [len(record[3]) for record in rows]),
        record_at=array("q", [0] * count),
        main_at=array("q", [0] * count),
        main_length=array("I", [0] * count),
        block_count=len(flat),
        block_record=array("I", [block[0] for block in flat]),
        block_id=array("B", zeros),
        spc=array("I", [1663] * len(flat)),
        db=array("I", [5] * len(flat)),
        rel=array("I", [block[1] for block in flat]),
        fork=array("B", [block[2] for block in flat]),
        block=array("I", [block[3] for block in flat]),
        flags=array("B", zeros),
        data_length=array("H", zeros),
        image_length=array("H", [100 * block[4] for block in flat]),
        hole_offset=array("H", zeros),
        hole_length=array("H", zeros),
        image=array("B", [block[4] for block in flat]),
        side=b"",
    )


@given(records)
def test_totals(rows: list[Record]) -> None:
    columns = columns_of(rows)
    compiled, plain = walstream.wal.totals.RecordTotals(), PURE_TOTALS.RecordTotals()
    for totals in (compiled, plain):
        totals.add(columns, columns.count)
    assert compiled.counts == plain.counts
    assert compiled.record_bytes == plain.record_bytes
    assert compiled.fpi_bytes == plain.fpi_bytes
    assert compiled.end_lsn == plain.end_lsn == (72 + 64 * (len(rows) - 1) if rows else 0)
    assert sum(compiled.counts) == len(rows)
    assert sum(compiled.record_bytes) == 50 * len(rows)
    # The flag bit of Transaction is not part of its operation.
    assert all(compiled.counts[1 * 16 + op] == 0 for op in range(8, 16))
    for version in (14, 18):
        text = stats_table(compiled, 8, version, True)
        assert bool(text) == (bool(rows) or version == 14)
