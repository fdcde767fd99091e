"""Plain records are passed over a page at a time: the quick way is taken, not only right."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.support.pure import load
from tests.support.walgen import PAGE, SEGMENT, Block, WalWriter, record_body
from walstream.wal.layout import RM_HEAP_ID
from walstream.wal.model import BufferTag, RelFileLocator


@pytest.mark.parametrize("summing", [True, False])
def test_the_walker_stops_about_once_a_page(summing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pure: dict[str, ModuleType] = {}
    scan = load("walstream.wal.scan", pure)
    walker = pure["walstream.wal.walk"].Walker
    stops = 0
    advance = walker.advance

    def counted(*arguments: object) -> object:
        nonlocal stops
        stops += 1
        return advance(*arguments)

    monkeypatch.setattr(walker, "advance", counted)
    wal = WalWriter()
    tag = BufferTag(1663, 5, 16384, 0, 7)
    for xid in range(3, 2003):
        blocks = [Block(0, tag, bytes(xid % 40)), Block(1, tag._replace(block=8), b"")]
        wal.add(RM_HEAP_ID, 0, xid, record_body(wal.version, blocks, bytes(3)))
    scanner = scan.WalScanner(None, SEGMENT, SEGMENT, find_record=True)
    if not summing:
        other = RelFileLocator(1663, 5, 16385)
        scanner.choose(pure["walstream.wal.match"].RecordMatch(relation=other))
    scanner.feed_bytes(SEGMENT, bytes(wal.data))
    totals = pure["walstream.wal.totals"].RecordTotals()
    if summing:
        scanner.add_totals(totals)
        assert totals.records == 2000
    else:
        assert scanner.poll_columns() is None
        assert scanner.first_lsn
    assert stops <= 3 * len(wal.data) // PAGE
