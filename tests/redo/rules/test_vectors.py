"""The engine gives the very pages that PostgreSQL 15's own redo code gave."""

from __future__ import annotations

import pytest

from tests.redo.vectors import DATA, RedoCase, redo_cases, without_checksum
from walstream.redo.rules.engine import Engine

# XLOG, Heap2, Heap, Sequence
RMGRS = (0, 9, 10, 15)


def run(request: bytes) -> bytes:
    engine = Engine(15, False)
    assert engine.process(request, len(request)) == len(request)
    return bytes(engine.replies)


@pytest.mark.parametrize(
    "case", [case for case in redo_cases() if case.rmgr in RMGRS], ids=lambda case: case.name
)
def test_page_of_postgres(case: RedoCase) -> None:
    assert without_checksum(run(case.request)) == without_checksum(case.page)


def test_page_images_of_all_resource_managers() -> None:
    for case in redo_cases():
        if case.name.endswith("/fpi"):
            assert without_checksum(run(case.request)) == without_checksum(case.page)


def test_neon_short() -> None:
    page = run((DATA / "neon_short_pg15.request").read_bytes())
    assert without_checksum(page) == without_checksum((DATA / "neon_short_pg15.page").read_bytes())


def test_neon_medium() -> None:
    """226 inserts fill one page: every tuple is there, in order, and the page is all visible."""
    page = run((DATA / "neon_medium_pg15.request").read_bytes())
    lower = int.from_bytes(page[12:14], "little")
    assert (lower - 24) // 4 == 226
    for number in range(1, 227):
        line = int.from_bytes(page[20 + 4 * number : 24 + 4 * number], "little")
        assert line >> 15 & 3 == 1
        tuple_at = line & 0x7FFF
        assert int.from_bytes(page[tuple_at + 16 : tuple_at + 18], "little") == number
    assert page[10] & 4
