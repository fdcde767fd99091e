"""What a gc says: the table of what stays and goes, and the same for JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from walstream.retention.plan import Item, Plan
from walstream.wal.model import format_lsn

KINDS = {"base": "base backup", "wal": "WAL", "dump": "redo request"}


class Row(NamedTuple):
    """Things of one kind that stand together and stay or go for one reason."""

    kind: str
    first: str
    last: str
    things: int
    begin: int
    end: int
    size: int
    stays: bool
    reason: str


def rows(plan: Plan) -> Iterator[Row]:
    """Yields the plan as few rows; bases one by one, segments by runs."""
    for (kind, stays, reason, _), found in groupby(plan.items, _alike):
        items = list(found)
        yield Row(
            kind,
            items[0].path,
            items[-1].path,
            len(items),
            min(item.begin for item in items),
            max(item.end for item in items),
            sum(item.size for item in items),
            stays,
            reason,
        )


def _alike(item: Item) -> tuple[str, bool, str, str]:
    return item.kind, item.stays, item.reason, item.path if item.kind == "base" else ""


def size_text(count: int) -> str:
    """Returns a number of bytes in powers of 1024, as PostgreSQL's settings have them."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.3g} {units[0]}" if value < 100 else f"{value:.0f} {units[0]}"


def lines(plan: Plan) -> Iterator[str]:
    """Yields the plan as people read it."""
    table = [
        (
            "stays" if row.stays else "goes",
            KINDS[row.kind],
            f"{row.things}",
            "" if row.kind == "dump" else f"{format_lsn(row.begin)} to {format_lsn(row.end)}",
            size_text(row.size),
            row.reason,
        )
        for row in rows(plan)
    ]
    widths = [max(len(line[at]) for line in table) for at in range(5)] if table else []
    for line in table:
        padded = [f"{word:{width}}" for word, width in zip(line, widths, strict=False)]
        yield "  ".join([*padded, line[5]])
    size = sum(item.size for item in plan.going)
    if plan.short:
        yield (
            "the window that was asked for is not all there: moments can be had from "
            f"{format_lsn(plan.window_lsn)} on"
        )
    yield (
        f"window: {format_lsn(plan.window_lsn)} to {format_lsn(plan.latest_lsn)}; "
        f"{len(plan.going)} go, {size_text(size)}"
    )


def table(plan: Plan) -> dict[str, object]:
    """Returns what ``gc --json`` prints of a plan. LSNs are text, sizes bytes."""
    return {
        "window": {
            "from": format_lsn(plan.window_lsn),
            "to": format_lsn(plan.latest_lsn),
            "all_that_was_asked_for": not plan.short,
        },
        "goes_bytes": sum(item.size for item in plan.going),
        "goes_count": len(plan.going),
        "stays_bytes": sum(item.size for item in plan.items if item.stays),
        "rows": [
            {
                "kind": row.kind,
                "stays": row.stays,
                "reason": row.reason,
                "first": row.first,
                "last": row.last,
                "count": row.things,
                "bytes": row.size,
                "from": format_lsn(row.begin),
                "to": format_lsn(row.end),
            }
            for row in rows(plan)
        ],
    }
