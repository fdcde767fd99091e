"""What was verified of a store, so that the next check reads only what is new.

``STORE/verified`` has a line of JSON for each segment whose records are sound, and for each file
of a base backup that equals its manifest: what was found, and the inode, size and time of change
of every file that was read for it. Where one of these is another today, the line does not count.
Lines are added as the work goes on and are never changed; one that was cut by a crash, or is of
another format, is passed over: it only means to read again. A bit that rots below the file system
does not change a time: a full check (``--all``) reads everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from walstream.scanning.runs import Run, RunEnd
from walstream.segments.files import read_error
from walstream.segments.source import SegmentSource
from walstream.store.file_layer import FileLayer, storage_error, write_durably

LEDGER = "verified"
FORMAT = 1
# What a sound run has beside nothing (no errors, nothing lost, no end of WAL).
_FACTS = (
    "records",
    "first_lsn",
    "first_prev",
    "last_lsn",
    "end_lsn",
    "version",
    "system_identifier",
    "timeline",
    "first_timeline",
    "next_lsn",
)


class FileState(NamedTuple):
    """What tells that a file is the one that was read. ``mtime_ns`` is of its content."""

    name: str
    inode: int
    size: int
    mtime_ns: int


class Ledger:
    """The ledger of one store; use it as ``with Ledger(store) as ledger``. One thread at a time.

    Args:
        store: its directory.
        fresh: nothing that was verified before counts.
        writable: what is verified is kept; False where the store may only be read.

    Raises:
        StorageError: it cannot be read or written.
    """

    def __init__(self, store: Path, *, fresh: bool = False, writable: bool = True) -> None:
        self._store = store
        self._path = store / LEDGER
        self._writable = writable
        self._lines: dict[str, dict[str, Any]] = {}
        self._file: IO[str] | None = None
        if not fresh:
            self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> None:
        try:
            text = self._path.read_text(errors="replace")
        except FileNotFoundError:
            return
        except OSError as exc:
            raise read_error("read", self._path, exc) from exc
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
                if entry["format"] == FORMAT:
                    self._lines[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):
                continue

    # -- segments

    def recall(self, source: SegmentSource, run: Run) -> RunEnd | None:
        """Returns what is known of a segment of the store, None where it has to be read."""
        file = source.find(run.first)
        entry = None if file is None else self._entry(file.name)
        if entry is None:
            return None
        names = [name for name, *_ in entry["files"]]
        # The files that a scan would read today, for the record that goes on behind the segment.
        today = [source.find(number) for number in range(run.first, run.first + len(names))]
        if names != [f"wal/{each.name}" for each in today if each is not None]:
            return None
        try:
            facts = {name: int(entry["facts"][name]) for name in _FACTS}
        except (KeyError, ValueError, TypeError):
            return None
        return RunEnd(
            run=run, pending_lsn=None, zeros_lsn=None, short=None, errors=[], lost=[], **facts
        )

    def note(self, source: SegmentSource, end: RunEnd) -> None:
        """Remembers a segment, where it is sound and all of its last record is there."""
        wrong = end.errors or end.lost or end.short is not None
        if wrong or end.pending_lsn is not None or end.zeros_lsn is not None or not end.records:
            return
        last = max(end.run.last, (end.end_lsn - 1) // source.segment_size)
        files = [source.find(number) for number in range(end.run.first, last + 1)]
        if any(file is None or file.partial for file in files):
            return
        names = [f"wal/{file.name}" for file in files if file is not None]
        facts = {name: int(getattr(end, name)) for name in _FACTS}
        self._note(names[0].removeprefix("wal/"), names, facts)

    # -- files of base backups

    def recalls_file(self, name: str) -> bool:
        """Returns whether a file of the store (its path below it) was proven as it is."""
        return self._entry(name) is not None

    def note_file(self, name: str) -> None:
        """Remembers a file that was proven."""
        self._note(name, [name], {})

    # -- lines

    def _entry(self, key: str) -> dict[str, Any] | None:
        entry = self._lines.get(key)
        try:
            if entry is None or not entry["files"]:
                return None
            same = all(FileState(*each) == self._state(each[0]) for each in entry["files"])
        except (KeyError, TypeError, IndexError):
            return None
        return entry if same else None

    def _state(self, name: str) -> FileState | None:
        try:
            found = (self._store / name).stat()
        except OSError:
            return None
        return FileState(name, found.st_ino, found.st_size, found.st_mtime_ns)

    def _note(self, key: str, names: Iterable[str], facts: dict[str, int]) -> None:
        files = [self._state(name) for name in names]
        if None in files:
            return
        entry = {"format": FORMAT, "key": key, "files": files, "facts": facts}
        self._lines[key] = json.loads(json.dumps(entry))
        if not self._writable:
            return
        try:
            if self._file is None:
                self._file = self._path.open("a", buffering=1)
                self._file.write("\n")  # behind a line that was cut
            self._file.write(json.dumps(entry) + "\n")
        except OSError as exc:
            raise storage_error("write", self._path, exc) from exc

    def save(self) -> None:
        """Writes the ledger anew, without what no longer counts.

        Raises:
            StorageError: it cannot be written; the old one stays.
        """
        if not self._writable:
            return
        kept = [entry for key in sorted(self._lines) if (entry := self._entry(key)) is not None]
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        write_durably(FileLayer(), self._path, text.encode())
        if self._file is not None:
            self._file.close()
            self._file = None
