"""Simple LRU areas (slru.c): pages of a base backup's files with what WAL changed in them.

A page has 8192 bytes without header, LSN or checksum; 32 pages make a file, called by its number
in four or more hexadecimal digits. Page numbers are cyclic: which of two is older is the area's
business (``precedes``). Nothing is written back: ``files`` gives what a directory would hold.
Between base and changes there may be pages that were kept of an earlier moment (``Kept``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from walstream.store.backup_files import BackupFiles, reported
from walstream.wal.model import BLCKSZ

PAGES_PER_FILE = 32
FILE_BYTES = PAGES_PER_FILE * BLCKSZ

_NAME = re.compile(r"[0-9A-F]{4,6}")


class SlruFiles(Protocol):
    """The files of one area as a base backup has them."""

    def sizes(self) -> Mapping[int, int]:
        """Returns file number -> bytes."""

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Returns bytes of a file; fewer where it ends."""


class BackupArea:
    """The files of one area in a base backup, proven before they are read.

    Raises:
        BackupDamaged: a file is not what was backed up.
        StorageError: a file cannot be read; both from every method.
    """

    def __init__(self, files: BackupFiles, directory: str) -> None:
        self._files = files
        self._directory = directory

    def sizes(self) -> Mapping[int, int]:
        found = {}
        for name, size in self._files.sizes():
            directory, _, last = name.rpartition("/")
            if directory == self._directory and _NAME.fullmatch(last):
                found[int(last, 16)] = size
        return found

    def read(self, number: int, offset: int, length: int) -> bytes:
        name = f"{self._directory}/{slru_file_name(number)}"
        self._files.prove(name)
        path = self._files.path / name
        with reported(path), path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


def slru_file_name(number: int) -> str:
    """Returns the name of a file (SlruFileName with short names)."""
    return f"{number:04X}"


class Kept(NamedTuple):
    """What an area had at a moment: base files that were removed by then, and changed pages.

    ``pages`` maps a file number to a bit for each of its pages; ``read`` returns such a page.
    """

    removed: frozenset[int]
    pages: dict[int, int]
    read: Callable[[int], bytes]


class Slru:
    """One area: the pages of ``base`` and those that were changed since.

    ``precedes(a, b)``: whether page a is older than page b, on the circle of page numbers.
    ``kept``: what there is of an earlier moment; None to begin with the base alone.
    """

    def __init__(
        self,
        base: SlruFiles,
        precedes: Callable[[int, int], bool],
        kept: Kept | None = None,
    ) -> None:
        self._base = base
        self._precedes = precedes
        # Bytes of each file of the base that still counts.
        self._sizes = dict(base.sizes())
        self._pages: dict[int, bytearray] = {}
        # Of them those that were changed since they were kept.
        self._changed: set[int] = set()
        self._kept: dict[int, int] = {}
        self._read_kept: Callable[[int], bytes] | None = None
        if kept is not None:
            self._kept, self._read_kept = dict(kept.pages), kept.read
            for number in kept.removed:
                self._sizes.pop(number, None)

    def page(self, number: int) -> bytearray:
        """Returns a page to change; all zeros where there is none yet."""
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(self._earlier(number) or BLCKSZ)
        self._changed.add(number)
        return page

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """Yields number and content of each page that was changed since it was kept."""
        for number in sorted(self._changed):
            yield number, bytes(self._pages[number])

    def keep(self, read: Callable[[int], bytes]) -> Kept:
        """Returns what is to be kept beside ``changes``; these can be read from now on."""
        for number in self._changed:
            file, page = divmod(number, PAGES_PER_FILE)
            self._kept[file] = self._kept.get(file, 0) | 1 << page
        self._changed.clear()
        self._pages.clear()
        self._read_kept = read
        removed = frozenset(self._base.sizes()) - frozenset(self._sizes)
        return Kept(removed, dict(self._kept), read)

    def _is_kept(self, number: int) -> bool:
        file, page = divmod(number, PAGES_PER_FILE)
        return self._kept.get(file, 0) >> page & 1 != 0

    def _earlier(self, number: int) -> bytes | None:
        """Returns a page that was not changed since it was kept, None where there is none."""
        if self._is_kept(number):
            assert self._read_kept is not None
            return self._read_kept(number)
        return self._base_page(number)

    def peek(self, number: int) -> bytes | bytearray | None:
        """Returns a page to look at, None where there is none."""
        page = self._pages.get(number)
        if page is not None:
            return page
        found = self._earlier(number)
        if found is not None:
            # Remembered: who looks at a page once looks at it again.
            self._pages[number] = bytearray(found)
        return found

    def _base_page(self, number: int) -> bytes | None:
        file, page = divmod(number, PAGES_PER_FILE)
        if self._sizes.get(file, 0) <= page * BLCKSZ:
            return None
        return self._base.read(file, page * BLCKSZ, BLCKSZ).ljust(BLCKSZ, b"\0")

    def zero(self, number: int) -> None:
        """Makes a page of zeros (ZeroCLOGPage and its like)."""
        self._pages[number] = bytearray(BLCKSZ)
        self._changed.add(number)

    def remove_file(self, number: int) -> None:
        """Removes a file with all of its pages (SlruDeleteSegment)."""
        self._sizes.pop(number, None)
        self._kept.pop(number, None)
        first = number * PAGES_PER_FILE
        for page in range(first, first + PAGES_PER_FILE):
            self._pages.pop(page, None)
            self._changed.discard(page)

    def clear(self) -> None:
        """Removes every file."""
        self._sizes.clear()
        self._kept.clear()
        self._pages.clear()
        self._changed.clear()

    def truncate(self, cutoff: int) -> None:
        """Removes the files whose pages are all older than page ``cutoff`` (SimpleLruTruncate)."""
        for number in self.numbers():
            first = number * PAGES_PER_FILE
            last = first + PAGES_PER_FILE - 1
            if self._precedes(first, cutoff) and self._precedes(last, cutoff):
                self.remove_file(number)

    def numbers(self) -> list[int]:
        """Returns the numbers of the files there are, ascending."""
        changed = (page // PAGES_PER_FILE for page in self._pages)
        return sorted({*self._sizes, *self._kept, *changed})

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yields name and content of each file."""
        for number in self.numbers():
            first = number * PAGES_PER_FILE
            size = self._sizes.get(number, 0)
            data = bytearray(self._base.read(number, 0, size) if size else b"")
            for i in range(PAGES_PER_FILE):
                page: bytes | bytearray | None = self._pages.get(first + i)
                if page is None and self._is_kept(first + i):
                    page = self._earlier(first + i)
                if page is not None:
                    end = (i + 1) * BLCKSZ
                    data.extend(bytes(max(end - len(data), 0)))
                    data[end - BLCKSZ : end] = page
            yield slru_file_name(number), bytes(data)


def xid_precedes(a: int, b: int) -> bool:
    """Returns whether xid a is older than b (TransactionIdPrecedes), both normal."""
    return (a - b) & 0x80000000 != 0


def multi_precedes(a: int, b: int) -> bool:
    """Returns whether multixact id or offset a is older than b (MultiXactIdPrecedes)."""
    return (a - b) & 0x80000000 != 0


def page_order(per_page: int, first: int) -> Callable[[int, int], bool]:
    """Returns ``precedes`` of an area with so many entries a page.

    Both ends of page b count, so that no page is older than one that it overlaps half a circle away
    (CLOGPagePrecedes and its like). ``first`` keeps the probes off the special ids: 4 for xids.
    """

    def precedes(a: int, b: int) -> bool:
        start_a = (a * per_page + first) & 0xFFFFFFFF
        start_b = (b * per_page + first) & 0xFFFFFFFF
        end_b = (start_b + per_page - 1) & 0xFFFFFFFF
        return xid_precedes(start_a, start_b) and xid_precedes(start_a, end_b)

    return precedes
