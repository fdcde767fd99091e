"""Folded states: what a cluster had beside its pages at an LSN, kept in the index.

Derived data: a base backup and the records since it give the same. A folded state is a value of its
own and the pages of the SLRU areas that were changed since the one before it; pages are looked up
when they are asked for. They stand under the backup that they were made from, at multiples of
``INTERVAL`` of WAL, so that whoever makes them makes the same.

========  ==========  ==============================================================
part      number      value
========  ==========  ==============================================================
0         0           JSON: the fields of ``Folded``, bytes as hexadecimal digits
1 to 4    page        8192 bytes of the area with that place in ``AREAS``
========  ==========  ==============================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from walstream.errors import StoreError
from walstream.index import keys
from walstream.index.page_index import MAX_LSN, PageIndex
from walstream.state.control import Parameters
from walstream.state.slru import Kept
from walstream.state.transactions import AREAS

INTERVAL = 64 << 20
FORMAT = 1

# (tablespace, database)
Directory = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Folded:
    """The state after all records that end at or before ``lsn``, but for the pages of the areas.

    As the attributes of ``ClusterState`` of those names; ``numbers`` has those of its counters, and
    of its ``transactions``, by their names. ``anchor``: the event after which no record is by a
    transaction that it does not know of.
    """

    lsn: int
    checkpoint: str
    parameters: Parameters
    numbers: Mapping[str, int]
    directories: Mapping[Directory, bool]
    relation_maps: Mapping[Directory, bytes]
    tablespaces: Mapping[int, str]
    two_phase: Mapping[int, bytes]
    origins: Mapping[int, int]
    anchor: tuple[int, int, int, int, int] | None
    areas: Mapping[str, Kept]

    def encode(self) -> bytes:
        """Returns the value that is kept."""
        table = {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "parameters": self.parameters,
            "numbers": self.numbers,
            "directories": [[*key, has] for key, has in self.directories.items()],
            "relation_maps": [[*key, data.hex()] for key, data in self.relation_maps.items()],
            "tablespaces": list(self.tablespaces.items()),
            "two_phase": [[xid, data.hex()] for xid, data in self.two_phase.items()],
            "origins": list(self.origins.items()),
            "anchor": self.anchor,
            "areas": {
                name: [sorted(kept.removed), list(kept.pages.items())]
                for name, kept in self.areas.items()
            },
        }
        return json.dumps(table, separators=(",", ":")).encode()


def _decode(index: PageIndex, base_lsn: int, lsn: int, value: bytes) -> Folded | None:
    table: dict[str, Any] = json.loads(value)
    if table["format"] != FORMAT:
        return None
    return Folded(
        lsn,
        table["checkpoint"],
        Parameters(*table["parameters"]),
        table["numbers"],
        {(spc, db): has for spc, db, has in table["directories"]},
        {(spc, db): bytes.fromhex(data) for spc, db, data in table["relation_maps"]},
        dict(table["tablespaces"]),
        {xid: bytes.fromhex(data) for xid, data in table["two_phase"]},
        dict(table["origins"]),
        None if table["anchor"] is None else tuple(table["anchor"]),
        {
            name: Kept(frozenset(removed), dict(pages), page_reader(index, base_lsn, name, lsn))
            for name, (removed, pages) in table["areas"].items()
        },
    )


def page_reader(index: PageIndex, base_lsn: int, area: str, lsn: int) -> Callable[[int], bytes]:
    """Returns what reads a kept page of an area, as of ``lsn``."""
    part = 1 + tuple(AREAS).index(area)

    def read(number: int) -> bytes:
        prefix = keys.FOLDED_KEY.pack(b"f", base_lsn, part, number, 0)[:-8]
        for _, page in index.scan_back(prefix, lsn):
            return page
        raise StoreError(
            f"index {index.path}: page {number} of {area} is missing: run walstream reindex"
        )

    return read


def newest_folded(index: PageIndex, base_lsn: int, upto_lsn: int = MAX_LSN) -> Folded | None:
    """Returns the newest folded state up to an LSN of those made from a backup.

    Raises:
        StoreError: it cannot be read as one.
        StorageError: the index cannot be read.
    """
    prefix = keys.FOLDED_KEY.pack(b"f", base_lsn, 0, 0, 0)[:-8]
    for lsn, value in index.scan_back(prefix, upto_lsn):
        try:
            return _decode(index, base_lsn, lsn, value)
        except (ValueError, KeyError, TypeError) as exc:
            raise StoreError(
                f"index {index.path}: malformed folded state: run walstream reindex: {exc}"
            ) from exc
    return None


def newest_folded_lsn(index: PageIndex, base_lsn: int) -> int:
    """Returns the LSN of the newest folded state of those made from a backup, 0: there is none.

    Raises:
        StorageError: the index cannot be read.
    """
    prefix = keys.FOLDED_KEY.pack(b"f", base_lsn, 0, 0, 0)[:-8]
    return next(index.scan_back(prefix, MAX_LSN), (0, b""))[0]


def folded_pairs(
    base_lsn: int, folded: Folded, pages: Mapping[str, Iterable[tuple[int, bytes]]]
) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a folded state and of the pages changed since the last one."""
    for part, name in enumerate(AREAS, start=1):
        for number, page in pages[name]:
            yield keys.FOLDED_KEY.pack(b"f", base_lsn, part, number, folded.lsn), page
    yield keys.FOLDED_KEY.pack(b"f", base_lsn, 0, 0, folded.lsn), folded.encode()
