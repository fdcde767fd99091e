"""Prints the statistics of WAL: text tables, or one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

SECTIONS = ("relation", "fork", "fpi", "transaction", "time")


def number(value: int) -> str:
    return f"{value:,}"


def clock(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def section(report: dict[str, Any], name: str) -> tuple[str, list[str], list[list[str]]]:
    """Returns title, headings and rows (as text) of one section."""
    if name == "relation":
        rows = [
            [
                row["relation"],
                row["fork"],
                number(row["block_references"]),
                number(row["images"]),
                number(row["image_bytes"]),
            ]
            for row in report["relations"]
        ]
        return "Relations", ["relation", "fork", "block references", "images", "bytes"], rows
    if name == "fork":
        rows = [
            [
                row["fork"],
                number(row["block_references"]),
                number(row["images"]),
                number(row["image_bytes"]),
            ]
            for row in report["forks"]
        ]
        return "Forks", ["fork", "block references", "images", "bytes"], rows
    if name == "fpi":
        whole = report["record_bytes"] + report["fpi_bytes"] or 1
        rows = [
            [
                row["cause"],
                number(row["images"]),
                number(row["image_bytes"]),
                f"{100 * row['image_bytes'] / whole:.2f}",
            ]
            for row in report["image_causes"]
        ]
        return "Page images by cause", ["cause", "images", "bytes", "% of all"], rows
    if name == "transaction":
        rows = [
            [str(row["xid"]), number(row["records"]), number(row["bytes"])]
            for row in report["transactions"]["largest"]
        ]
        title = f"Largest of {number(report['transactions']['count'])} transactions"
        return title, ["xid", "records", "bytes"], rows
    assert name == "time"
    rows = [
        [
            clock(row["second"]),
            number(row["commits"]),
            number(row["aborts"]),
            number(row["bytes"]),
            row["end_lsn"],
        ]
        for row in report["times"]
    ]
    return "WAL by time (UTC)", ["second", "commits", "aborts", "bytes", "end LSN"], rows


def text_table(report: dict[str, Any], name: str) -> str:
    """Returns one section as aligned text."""
    title, heads, rows = section(report, name)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [title, "  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True))]
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells))
    return "\n".join(lines) + "\n"


def html_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"


def bars(title: str, values: Sequence[tuple[str, int, int]]) -> str:
    """Returns horizontal bars of two parts: bytes of records, bytes of page images."""
    most = max((a + b for _, a, b in values), default=0) or 1
    parts = []
    for i, (label, first, second) in enumerate(values):
        y = 22 * i
        one, two = 560 * first / most, 560 * second / most
        parts.append(
            f'<text x="0" y="{y + 14}">{escape(label)}</text>'
            f'<rect class="a" x="230" y="{y + 3}" width="{one:.1f}" height="15"/>'
            f'<rect class="b" x="{230 + one:.1f}" y="{y + 3}" width="{two:.1f}" height="15"/>'
            f'<text x="{236 + one + two:.1f}" y="{y + 14}">{number(first + second)}</text>'
        )
    height = 22 * len(values) + 4
    svg = f'<svg viewBox="0 0 920 {height}" width="920" height="{height}">{"".join(parts)}</svg>'
    return f"<h2>{escape(title)}</h2>{svg}"


def curve(title: str, points: Sequence[tuple[int, int]]) -> str:
    """Returns bytes a second over time, one step a second; idle seconds are empty."""
    if not points:
        return ""
    start, span = points[0][0], points[-1][0] - points[0][0] + 1
    most = max(value for _, value in points) or 1
    width = 880 / span
    steps = "".join(
        f"M{width * (second - start):.2f},200V{200 - 190 * value / most:.1f}h{width:.2f}V200z"
        for second, value in points
    )
    return (
        f"<h2>{escape(title)}</h2>"
        f'<svg viewBox="0 0 920 230" width="920" height="230">'
        f'<path class="c" d="{steps}"/>'
        f'<text x="0" y="12">{number(most)} bytes/s</text>'
        f'<text x="0" y="222">{clock(start)}</text>'
        f'<text x="740" y="222">{clock(points[-1][0])}</text></svg>'
    )


STYLE = """
body{font:14px system-ui,sans-serif;margin:2em auto;max-width:960px;color:#1c2733}
table{border-collapse:collapse;font-size:13px}td,th{padding:2px 10px;text-align:right}
td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f1f4f8}
svg text{font-size:12px;fill:#1c2733}.a{fill:#3d6fb4}.b{fill:#e08e45}.c{fill:#3d6fb4}
.key span{padding:1px 8px;color:#fff}
@media(prefers-color-scheme:dark){body{background:#15191e;color:#d8dee6}
svg text{fill:#d8dee6}tr:nth-child(even){background:#1f262e}}
"""


def html_page(report: dict[str, Any], where: str) -> str:
    """Returns the whole report as one page, plots as inline SVG, no scripts, nothing to load."""
    by_rmgr: dict[str, list[int]] = {}
    for kind in report["kinds"]:
        cell = by_rmgr.setdefault(kind["rmgr"], [0, 0])
        cell[0] += kind["record_bytes"]
        cell[1] += kind["fpi_bytes"]
    rmgrs = sorted(
        ((name, cell[0], cell[1]) for name, cell in by_rmgr.items()),
        key=lambda row: -(row[1] + row[2]),
    )
    kinds = sorted(
        (
            (f"{kind['rmgr']}/{kind['operation']}", kind["record_bytes"], kind["fpi_bytes"])
            for kind in report["kinds"]
        ),
        key=lambda row: -(row[1] + row[2]),
    )
    rate = [(row["second"], row["bytes"]) for row in report["times"]]
    tables = "".join(html_table(*section(report, name)) for name in SECTIONS)
    head = (
        f"<h1>WAL of {escape(where)}</h1><p>PostgreSQL {report['version']}, "
        f"{report['start_lsn']} to {report['end_lsn']}: {number(report['records'])} records, "
        f"{number(report['record_bytes'])} bytes and {number(report['fpi_bytes'])} bytes of page "
        'images.</p><p class="key"><span class="a" style="background:#3d6fb4">records</span> '
        '<span class="b" style="background:#e08e45">page images</span></p>'
    )
    plots = (
        bars("Bytes by resource manager", rmgrs)
        + bars("Bytes by kind of record", kinds[:25])
        + curve("WAL rate", rate)
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>WAL of {escape(where)}</title><style>{STYLE}</style>{head}{plots}{tables}</html>\n"
    )
