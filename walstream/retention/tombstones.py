"""Takes away what a plan says, in steps: out of sight first, deleted later.

A file or base that goes is renamed to ``NAME.<time>.gone`` where it lies: no directory is crossed,
each rename is whole or not there, and no reader takes such a name. ``undo`` renames back. What has
been out of sight for long enough is renamed to ``NAME.<time>.swept`` (``condemn``), which no undo
takes back, and deleted (``sweep``): a base is never half there.

After a crash at any point what is in sight is consistent: a base goes out of sight before WAL that
it needs, WAL is written off (``wal/removed.toml``) before it goes, and comes back before its base
does. So there is nothing to be taken up again: the next plan goes by what is in sight.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.retention.plan import Item, Plan
from walstream.retention.survey import SWEPT, TOMBSTONE, directory_size, wal_files
from walstream.segments.files import read_error
from walstream.store.file_layer import FileLayer, storage_error
from walstream.store.removed import RemovedWal, read_removed, without, write_removed
from walstream.store.segment_directory import DEAD_DIRECTORY
from walstream.store.store import Store

DEFAULT_GRACE = timedelta(hours=24)
_MARKED = re.compile(r"(.+)\.([0-9]{8}T[0-9]{6}Z)(\.gone|\.swept)")
_TIME = "%Y%m%dT%H%M%SZ"
# Where things go out of sight, in the order in which they come back: WAL before its base.
_PLACES = ("wal", f"wal/{DEAD_DIRECTORY}", "dumps", "base")


class Tombstone(NamedTuple):
    """Something out of sight: ``path``, what it was called, when, and whether it is past undo."""

    path: Path
    name: str
    mark: str
    swept: bool

    @property
    def original(self) -> Path:
        """Where it lay."""
        return self.path.with_name(self.name)

    @property
    def is_base(self) -> bool:
        return self.path.parent.name == "base"


class Summary(NamedTuple):
    """What was moved or deleted: how many names, and the bytes of it."""

    names: int
    size: int


def mark_of(now: datetime) -> str:
    """Returns what the tombstones of one gc have in their names."""
    return now.astimezone(UTC).strftime(_TIME)


def time_of(mark: str) -> datetime:
    """Returns when a gc was."""
    return datetime.strptime(mark, _TIME).replace(tzinfo=UTC)


def tombstones(store: Path) -> list[Tombstone]:
    """Returns what is out of sight, in the order in which it may come back.

    Raises:
        StorageError: a directory cannot be read.
    """
    found = []
    for place in _PLACES:
        directory = store / place
        try:
            paths = sorted(directory.iterdir())
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise read_error("read", directory, exc) from exc
        for path in paths:
            match = _MARKED.fullmatch(path.name)
            if match is not None:
                found.append(Tombstone(path, match[1], match[2], match[3] == SWEPT))
    return found


def apply_plan(store: Store, plan: Plan, now: datetime, files: FileLayer | None = None) -> str:
    """Moves out of sight what goes; call it within the ``closed_gate`` that the plan was made in.

    Returns the mark of its tombstones, "" where nothing goes.

    Raises:
        StorageError: a system call failed. What is in sight is consistent.
    """
    layer = files or FileLayer()
    _bury_descriptions(store.path, layer)
    if not plan.going:
        return ""
    mark = mark_of(now)
    taken = {each.mark for each in tombstones(store.path)}
    while mark in taken:
        mark = mark_of(time_of(mark) + timedelta(seconds=1))
    going = {kind: [i for i in plan.going if i.kind == kind] for kind in ("base", "wal", "dump")}
    for base in going["base"]:
        # A base is there while both are: with the first rename it is not.
        _bury(store.path, base.path, mark, layer)
        _bury(store.path, f"{base.path}.toml", mark, layer)
    _fsync(layer, [store.base_path] if going["base"] else [])
    if plan.removed != read_removed(store.wal_path):
        write_removed(layer, store.wal_path, plan.removed, store.file_mode)
    rest: list[Item] = going["wal"] + going["dump"]
    for item in rest:
        _bury(store.path, item.path, mark, layer)
    _fsync(layer, sorted({(store.path / item.path).parent for item in rest}))
    return mark


def _bury_descriptions(store: Path, layer: FileLayer) -> None:
    """Takes out of sight what a gc that was killed left of bases that it had taken away."""
    for each in tombstones(store):
        description = each.original.with_name(f"{each.name}.toml")
        if each.is_base and not each.original.exists() and description.exists():
            _bury(store, f"base/{description.name}", each.mark, layer)


def _bury(store: Path, path: str, mark: str, layer: FileLayer) -> None:
    place = store / path
    try:
        # A receiver may have removed it meanwhile, for example a .partial.
        with suppress(FileNotFoundError):
            layer.rename(place, place.with_name(f"{place.name}.{mark}{TOMBSTONE}"))
    except OSError as exc:
        raise storage_error("rename", place, exc) from exc


def _fsync(layer: FileLayer, directories: list[Path]) -> None:
    for directory in directories:
        try:
            layer.fsync_directory(directory)
        except OSError as exc:
            raise storage_error("fsync", directory, exc) from exc


def undo(
    store: Store, mark: str | None = None, files: FileLayer | None = None
) -> tuple[str, Summary]:
    """Brings back what a gc, and every later one, took out of sight; None: the newest gc.

    Returns the oldest mark that was brought back, and how much. Call it within ``closed_gate``.

    Raises:
        StoreError: there is no such gc, or a name is taken again.
        StorageError: a system call failed. What is in sight is consistent.
    """
    layer = files or FileLayer()
    found = [each for each in tombstones(store.path) if not each.swept]
    marks = sorted({each.mark for each in found})
    if mark is None:
        if not marks:
            raise StoreError(
                f"store {store.path} has nothing to take back: it was deleted, or "
                "gc --apply moved nothing",
                str(store.path),
            )
        mark = marks[-1]
    elif mark not in marks:
        known = ", ".join(marks) or "none"
        raise StoreError(f"there is no gc {mark} to take back: there are {known}", str(store.path))
    back = [each for each in found if each.mark >= mark]
    # What says of a base that it is there comes back only with it.
    coming = {each.name for each in back if each.is_base}
    back = [
        each
        for each in back
        if not (each.is_base and each.name.endswith(".toml"))
        or each.name.removesuffix(".toml") in coming
        or each.original.with_suffix("").exists()
    ]
    for each in back:
        if each.is_base and each.original.exists():
            raise StoreError(
                f"{each.original} is there again: move one of the two away", str(each.original)
            )
    size = 0
    for each in back:
        if not each.is_base:
            size += _bring_back(each, layer)
    _fsync(layer, _places_of(each for each in back if not each.is_base))
    _forget_removed(store, layer)
    for each in back:
        if each.is_base:
            size += _bring_back(each, layer)
    _fsync(layer, _places_of(each for each in back if each.is_base))
    return mark, Summary(len(back), size)


def _places_of(found: Iterator[Tombstone]) -> list[Path]:
    return sorted({each.path.parent for each in found})


def _bring_back(each: Tombstone, layer: FileLayer) -> int:
    """Returns the bytes of what came back; a file that is there again stays as it is."""
    try:
        size = _size(each.path)
        if each.original.exists():
            layer.unlink(each.path)
            return 0
        layer.rename(each.path, each.original)
    except OSError as exc:
        raise storage_error("rename", each.path, exc) from exc
    return size


def _forget_removed(store: Store, layer: FileLayer) -> None:
    """Takes what is there again off the list of what was removed."""
    before = read_removed(store.wal_path)
    there = [
        RemovedWal(file.begin, file.end)
        for file in wal_files(store.wal_path, "wal", store.identity.segment_size)
        if file.counts
    ]
    after = without(before, there)
    if after != before:
        write_removed(layer, store.wal_path, after, store.file_mode)


def _size(path: Path) -> int:
    return directory_size(path) if path.is_dir() else path.stat().st_size


def condemn(store: Path, before: datetime, files: FileLayer | None = None) -> None:
    """Has what was taken out of sight at or before a time be beyond undo: bases first, then WAL.

    Call it within ``closed_gate``; ``sweep`` then needs none.

    Raises:
        StorageError: a system call failed; the next one goes on.
    """
    layer = files or FileLayer()
    _bury_descriptions(store, layer)
    due = [e for e in tombstones(store) if not e.swept and time_of(e.mark) <= before]
    for bases in (True, False):
        condemned = [each for each in due if each.is_base == bases]
        for each in condemned:
            try:
                name = each.path.name.removesuffix(TOMBSTONE) + SWEPT
                layer.rename(each.path, each.path.with_name(name))
            except OSError as exc:
                raise storage_error("rename", each.path, exc) from exc
        _fsync(layer, _places_of(iter(condemned)))


def sweep(
    store: Path,
    files: FileLayer | None = None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Deletes what was condemned. Blocks, for as long as a file system takes over many files.

    ``report(done, total)`` is called with numbers of names. Two at once do no harm.

    Raises:
        StorageError: a system call failed; the next sweep goes on.
    """
    layer = files or FileLayer()
    due = [each for each in tombstones(store) if each.swept]
    names = size = 0
    for done, each in enumerate(due):
        report(done, len(due))
        try:
            found = _size(each.path)
            if each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                layer.unlink(each.path)
        except FileNotFoundError:
            continue  # another sweep was faster
        except OSError as exc:
            raise storage_error("remove", each.path, exc) from exc
        names, size = names + 1, size + found
    _fsync(layer, _places_of(iter(due)))
    return Summary(names, size)
