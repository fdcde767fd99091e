"""The engine gives the very pages that PostgreSQL 15's own redo code gave."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.redo.vectors import DATA, RedoCase, redo_cases, without_checksum


def run(build: ModuleType, request: bytes) -> bytes:
    engine = build.Engine(15, False)
    assert engine.process(request, len(request)) == len(request)
    return bytes(engine.replies)


@pytest.mark.parametrize("case", redo_cases(), ids=lambda case: case.name)
def test_page_of_postgres(case: RedoCase, build: ModuleType) -> None:
    assert without_checksum(run(build, case.request)) == without_checksum(case.page)


def test_neon_short(build: ModuleType) -> None:
    page = run(build, (DATA / "neon_short_pg15.request").read_bytes())
    assert without_checksum(page) == without_checksum((DATA / "neon_short_pg15.page").read_bytes())


def test_neon_medium(build: ModuleType) -> None:
    """226 inserts fill one page: every tuple is there, in order, and the page is all visible."""
    page = run(build, (DATA / "neon_medium_pg15.request").read_bytes())
    lower = int.from_bytes(page[12:14], "little")
    assert (lower - 24) // 4 == 226
    for number in range(1, 227):
        line = int.from_bytes(page[20 + 4 * number : 24 + 4 * number], "little")
        assert line >> 15 & 3 == 1
        tuple_at = line & 0x7FFF
        assert int.from_bytes(page[tuple_at + 16 : tuple_at + 18], "little") == number
    assert page[10] & 4
