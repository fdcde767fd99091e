"""What the demo prints, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from walstream.app.run import Application
from walstream.pages.compare import Comparison
from walstream.pages.items import HeapTuple, Item, heap_tuple, page_header, page_items
from walstream.pages.service import BlockChange
from walstream.wal.model import format_lsn

HISTORY_SHOWN = 14


def stream_table(application: Application, step: str, started_lsn: int, seconds: float) -> Table:
    """Returns where the stream is: LSNs, throughput, lag."""
    table = Table(title="WAL stream", expand=True)
    for heading in ("workload", "server", "received", "flushed", "indexed", "MB/s", "lag"):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    writer = application.writer
    received = writer.received.value
    server = max(application.receiver.state.server_end_lsn, received)
    rate = (received - started_lsn) / max(seconds, 1e-3) / 1e6
    table.add_row(
        step,
        format_lsn(server),
        format_lsn(received),
        format_lsn(writer.flushed.value),
        format_lsn(application.ingested.value),
        f"{rate:.1f}",
        f"{(server - application.ingested.value) / 1024:.0f} kB",
    )
    return table


def history_table(name: str, block: int, changes: Sequence[BlockChange]) -> Table:
    """Returns the history of a block, its middle left out where it is long."""
    table = Table(title=f"Block {block} of {name}: {len(changes)} records changed it", expand=True)
    for heading in ("start LSN", "end LSN", "xid", "record"):
        table.add_column(heading, no_wrap=True, min_width=len(heading))
    table.add_column("what it did", no_wrap=True, ratio=1)
    half = HISTORY_SHOWN // 2
    head = list(changes[:half]) if len(changes) > HISTORY_SHOWN else list(changes)
    tail = list(changes[-half:]) if len(changes) > HISTORY_SHOWN else []

    def add(change: BlockChange) -> None:
        table.add_row(
            format_lsn(change.start_lsn),
            format_lsn(change.end_lsn),
            str(change.xid),
            f"{change.rmgr}/{change.op}" + (" *" if change.makes_page else ""),
            change.description,
        )

    for change in head:
        add(change)
    if tail:
        table.add_row("...", "", "", "", f"{len(changes) - len(head) - len(tail)} more")
    for change in tail:
        add(change)
    return table


def numeric_text(data: bytes) -> str:
    """Returns a small positive numeric as text (NumericShort of numeric.c)."""
    header = int.from_bytes(data[:2], "little")
    weight = header & 0x3F
    digits = [int.from_bytes(data[at : at + 2], "little") for at in range(2, len(data), 2)]
    value = sum(digit * 10000.0 ** (weight - i) for i, digit in enumerate(digits))
    return f"{value:.2f}"


def account_text(row: HeapTuple) -> str:
    """Returns an account as its owner would read it: id bigint, owner text, balance numeric."""
    number = int.from_bytes(row.data[:8], "little")
    # Both are short varlenas: one byte of length, itself included, then the value.
    owner_end = 8 + (row.data[8] >> 1)
    owner = row.data[9:owner_end].decode()
    balance_end = owner_end + (row.data[owner_end] >> 1)
    return f"#{number} {owner} {numeric_text(row.data[owner_end + 1 : balance_end])}"


def item_cell(item: Item | None) -> str:
    """Returns one line pointer in a few words."""
    if item is None:
        return ""
    row = heap_tuple(item.data) if item.state == "normal" else None
    if row is None:
        return f"{item.state}" + (f" -> {item.offset}" if item.state == "redirect" else "")
    end = f" xmax {row.xmax}" if row.xmax else ""
    return f"{account_text(row)}  [dim]xmin {row.xmin}{end}[/]"


def versions_table(
    name: str, block: int, pages: Mapping[str, tuple[int, bytes]], offsets: Iterable[int]
) -> Table:
    """Returns chosen tuples of one page at several LSNs, side by side."""
    table = Table(title=f"Block {block} of {name} at {len(pages)} LSNs", expand=True)
    table.add_column("item", justify="right", min_width=4)
    columns = []
    for label, (at_lsn, page) in pages.items():
        header = page_header(page)
        table.add_column(
            f"{label}\nat {format_lsn(at_lsn)}\npage LSN {format_lsn(header.lsn)}", no_wrap=True
        )
        columns.append({item.offset_number: item for item in page_items(page)})
    for offset in offsets:
        table.add_row(str(offset), *(item_cell(items.get(offset)) for items in columns))
    return table


def verification_table(results: Mapping[str, Comparison]) -> Table:
    """Returns how many pages of each relation were compared, and how many differ."""
    table = Table(title="Rebuilt pages against the server's own files", expand=True)
    table.add_column("relation")
    table.add_column("pages", justify="right")
    table.add_column("different", justify="right")
    for name, result in results.items():
        table.add_row(name, str(result.pages), str(len(result.differences)))
    return table
