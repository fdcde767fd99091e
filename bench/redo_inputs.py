"""Redo requests for the benchmarks, made from nothing: chains of heap and B-tree records.

Each function returns a request (B, optional P, A..., G) and the number of its records. The records
are those that PostgreSQL writes for the same work; sizes follow pgbench's tables.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from struct import pack

DATA = Path(__file__).parent.parent / "tests" / "data"
TAG = (1663, 5, 16384, 0, 7)  # spc, db, rel, fork, block
ROW = bytes(range(40))


def record(rmgr: int, info: int, main: bytes, data: bytes = b"", flags: int = 0) -> bytes:
    """Returns a record with one block reference."""
    spc, db, rel, fork, block = TAG
    flags |= fork | (0x20 if data else 0)
    body = pack("<BBH4I", 0, flags, len(data), spc, db, rel, block)
    body += pack("<BB", 255, len(main)) if len(main) < 256 else pack("<BI", 254, len(main))
    body += data + main
    return pack("<IIQBB2xI", 24 + len(body), 731, 0, info, rmgr, 0) + body


def request(records: list[bytes], base: bytes | None = None) -> tuple[bytes, int]:
    spc, db, rel, fork, block = TAG
    tag = pack(">BIIII", fork, spc, db, rel, block)
    parts = [b"B", pack(">I", 21), tag]
    if base is not None:
        parts += [b"P", pack(">I", 8213), tag, base]
    end_lsn = 0x1_0000_0000
    for data in records:
        end_lsn += len(data) + 7 & ~7
        parts += [b"A", pack(">IQ", 12 + len(data), end_lsn), data]
    parts += [b"G", pack(">I", 21), tag]
    return b"".join(parts), len(records)


def heap_insert(offset: int, body: bytes = ROW) -> bytes:
    init = offset == 1
    return record(
        10,
        0x80 if init else 0,
        pack("<HB", offset, 0),
        pack("<HHB", 3, 0x0802, 24) + b"\0" + body,
        0x40 if init else 0,
    )


def heap_inserts(count: int) -> tuple[bytes, int]:
    """Rows of 64 bytes; the page is initialised anew each time it is full."""
    return request([heap_insert(1 + i % 120) for i in range(count)])


def heap_page(rows: int) -> bytes:
    """Returns a heap page with some rows of 64 bytes."""
    page = bytearray(8192)
    page[10:20] = pack("<HHHHH", 0, 24 + 4 * rows, 8192 - 64 * rows, 8192, 0x2004)
    for i in range(rows):
        at = 8192 - 64 * (i + 1)
        page[24 + 4 * i : 28 + 4 * i] = pack("<I", at | 0x8000 | 64 << 17)
        header = pack("<IIIHHHHHB", 700, 0, 0, 0, TAG[4], i + 1, 3, 0x0902, 24)
        page[at : at + 64] = header + b"\0" + ROW
    return bytes(page)


def hot_updates(count: int, rows: int = 40) -> tuple[bytes, int]:
    """pgbench on one page: rows updated in place at random, and pruned when the page is full."""
    random = Random(1)
    current = list(range(1, rows + 1))  # where each row's tuple is now
    chains: list[list[int]] = [[] for _ in range(rows)]  # older tuples that redirection passes
    used = set(current)
    records: list[bytes] = []
    while len(records) < count:
        if len(used) >= 2 * rows + 20:
            redirects = []
            unused: list[int] = []
            for row in range(rows):
                if current[row] != row + 1:
                    redirects += [row + 1, current[row]]
                    unused += chains[row]
                    chains[row] = []
            main = pack("<IHH", 730, len(redirects) // 2, 0)
            numbers = redirects + sorted(unused)
            records.append(record(9, 0x10, main, pack(f"<{len(numbers)}H", *numbers)))
            used -= set(unused)
            continue
        row = random.randrange(rows)
        old = current[row]
        new = next(n for n in range(1, 292) if n not in used)
        main = pack("<IHBBIH", 731, old, 0x10, 0x60, 0, new)
        data = pack("<HHHHB", 12, 20, 0x8003, 0x2802, 24) + b"\0" + random.randbytes(8)
        records.append(record(10, 0x40, main, data))
        used.add(new)
        if old != row + 1:
            chains[row].append(old)
        current[row] = new
    return request(records, heap_page(rows))


def btree_page() -> bytes:
    """Returns an empty rightmost leaf."""
    page = bytearray(8192)
    page[10:20] = pack("<HHHHH", 0, 24, 8176, 8176, 0x2004)
    page[8176:8192] = pack("<IIIHH", 0, 0, 0, 1, 0)
    return bytes(page)


def btree_inserts(count: int) -> tuple[bytes, int]:
    """Keys at random places of one leaf; a vacuum takes most of them when the page is full."""
    random = Random(1)
    items = 0
    records: list[bytes] = []
    while len(records) < count:
        if items == 400:
            gone = list(range(1, 401))
            main = pack("<HH", len(gone), 0)
            records.append(record(11, 0xC0, main, pack(f"<{len(gone)}H", *gone)))
            items = 0
            continue
        items += 1
        key = pack("<HHHHq", 0, 3, items, 16, random.randrange(1 << 40))
        records.append(record(11, 0x00, pack("<H", random.randint(1, items)), key))
    return request(records, btree_page())


def base_and(count: int) -> tuple[bytes, int]:
    """A base page and a few inserts, as most reads of a page need."""
    return request([heap_insert(41 + i) for i in range(count)], heap_page(40))


def neon(name: str) -> tuple[bytes, int]:
    data = (DATA / f"neon_{name}_pg15.request").read_bytes()
    return data, {"short": 2, "medium": 227}[name]


def all_inputs() -> dict[str, tuple[bytes, int]]:
    return {
        "ping": (b"H\0\0\0\4", 0),
        "neon short": neon("short"),
        "base + 3": base_and(3),
        "neon medium": neon("medium"),
        "base + 40": base_and(40),
        "1000 heap inserts": heap_inserts(1000),
        "1000 HOT updates, prunes": hot_updates(1000),
        "1000 btree inserts": btree_inserts(1000),
    }
