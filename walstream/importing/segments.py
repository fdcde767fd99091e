"""One segment or history file into a store's ``wal/``: checked, then linked, copied or packed anew.

What the store has is never replaced, but for an unfinished segment by one that has more of the same
WAL. A file appears under its name whole and on disk (``store/placement.py``), so an import that was
killed goes on by looking which names are there. The time of a file's last change is kept: by it and
its size the next run knows a file that it took already.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from walstream.errors import FileDamaged, WrongCluster
from walstream.importing.archive import ArchivedFile, segment_lsn
from walstream.importing.collection import Collection, state_of
from walstream.importing.judgement import Judgement, judge
from walstream.importing.packing import (
    KEPT,
    encrypted_by,
    first_bytes,
    open_packed,
    packing_of,
)
from walstream.scanning.runs import Run, RunEnd, RunScan
from walstream.segments.compression import Compression
from walstream.segments.files import read_error, read_file, read_prefix, read_some
from walstream.segments.header import LongHeader, read_long_header
from walstream.segments.names import COMPLETE, UNFINISHED
from walstream.segments.source import SegmentSource
from walstream.store.file_layer import FileLayer, storage_error
from walstream.store.placement import make_durable, place_new, replace_whole
from walstream.store.stored import stored_files
from walstream.wal.layout import SizeOfXLogLongPHD
from walstream.wal.model import format_lsn

_PIECE = 1 << 20
_ANEW = Compression("zstd")


class Outcome(Enum):
    """What became of a file."""

    TAKEN = "taken"
    THERE = "there already"
    REFUSED = "refused"


class Taken(NamedTuple):
    """``end`` is what a scan knows of a segment; ``reason`` why a file was refused."""

    stem: str
    outcome: Outcome
    end: RunEnd | None = None
    reason: str = ""
    size: int = 0


class _Refused(Exception):
    """A file that is left where it is; the text says why."""


class SegmentTaker:
    """Takes segments of one cluster into ``wal/``; any thread may call ``take``.

    Args:
        collection: all there is.
        directory: the store's ``wal/``.
        system_id: of the cluster.
        links: hard links may be made.
        known: returns what an earlier check knows of a segment that the store has.
    """

    def __init__(
        self,
        collection: Collection,
        directory: Path,
        system_id: int,
        *,
        links: bool,
        known: Callable[[Run], RunEnd | None],
    ) -> None:
        self._collection = collection
        self._directory = directory
        self._system_id = system_id
        self._links = links
        self._known = known
        self._layer = FileLayer()

    def take(self, source: SegmentSource, stem: str, limit_lsn: int | None = None) -> Taken:
        """Takes a segment, whole where a whole one is among the candidates.

        Args:
            source: the path to the segment's timeline.
            stem: its name.
            limit_lsn: where its timeline was left, within the segment; what follows is not taken.

        Raises:
            WrongCluster: it is another cluster's.
            StorageError: a file cannot be read or written.
        """
        reasons = []
        for partial in (False, True):
            for file in self._collection.candidates(stem, partial=partial):
                try:
                    return self._take(source, file, limit_lsn)
                except _Refused as refused:
                    reasons.append(f"{file.path}: {refused}")
                    self._collection.give_up(file)
        return Taken(stem, Outcome.REFUSED, reason="; ".join(reasons))

    def _take(self, source: SegmentSource, file: ArchivedFile, limit_lsn: int | None) -> Taken:
        stem = file.name.stem
        before = state_of(file.path)
        run = Run(*2 * (segment_lsn(stem, source.segment_size) // source.segment_size,))
        stored = stored_files(self._directory, stem, COMPLETE)
        if stored and self._is_same_file(stored[0], file):
            return Taken(stem, Outcome.THERE, self._known(run) or self._scan(source, run, file))
        self._check_header(file, source.segment_size)
        if stored and self._has_all(stored[0], file):
            with suppress(OSError):
                self._keep_time(stored[0], file)
            return Taken(stem, Outcome.THERE, self._known(run) or self._scan(source, run, file))
        end = self._scan(source, run, file)
        followed = self._is_followed(source, run.first + 1)
        found = judge(source, end, followed=followed, partial=file.name.partial)
        if found.damage is not None:
            raise _Refused(f"it is damaged: {found.damage}")
        self._check_sha1(file)
        if stored:
            return self._less_than_stored(source, stored[0], file, found)
        if found.end_lsn is None and limit_lsn is None:
            self._place(file, before)
            return Taken(stem, Outcome.TAKEN, end, size=before[1])
        outcome = self._place_unfinished(source, file, found, limit_lsn)
        return Taken(stem, outcome, end, size=before[1])

    def _is_followed(self, source: SegmentSource, number: int) -> bool:
        """Whether WAL goes on in a segment: what a server keeps there for later is none.

        A copy of ``pg_wal`` has such files, of zeros or of an older segment, under later names.
        """
        found = source.find(number)
        if found is None:
            return False
        stem = found.name[:24]
        if self._collection.stored(stem + ending for ending, *_ in COMPLETE + UNFINISHED):
            return True
        expected = number * source.segment_size
        for partial in (False, True):
            for file in self._collection.candidates(stem, partial=partial):
                try:
                    header = self._header_of(file)
                except FileDamaged:
                    return True
                if header is not None and header.page_lsn == expected:
                    return True
        return False

    @staticmethod
    def _header_of(file: ArchivedFile) -> LongHeader | None:
        try:
            with open_packed(file.path, file.packing) as stream:
                return read_long_header(read_some(stream, SizeOfXLogLongPHD, str(file.path)))
        except OSError as exc:
            raise read_error("read", file.path, exc) from exc

    def _check_header(self, file: ArchivedFile, segment_size: int) -> None:
        """Compares the first page with the name and the cluster.

        Raises:
            WrongCluster: it is another cluster's.
        """
        path = file.path
        start = first_bytes(path)
        by = encrypted_by(start)
        if by is not None:
            raise _Refused(f"it is encrypted ({by}): decrypt it first")
        try:
            header = self._header_of(file)
        except FileDamaged as exc:
            really = packing_of(start)
            if really != file.packing:
                what = really or "nothing that is known"
                raise _Refused(
                    f"its name says {file.packing}, its content is packed with {what}"
                ) from exc
            raise _Refused(str(exc)) from exc
        if header is None:
            raise _Refused("there is no page header of a known PostgreSQL at its start")
        if header.system_id != self._system_id:
            raise WrongCluster(
                f"{path} is of the cluster with system identifier {header.system_id}, "
                f"not of {self._system_id}"
            )
        expected = segment_lsn(file.name.stem, segment_size)
        if header.segment_size != segment_size:
            raise _Refused(f"segment size: expected {segment_size}, got {header.segment_size}")
        if header.page_lsn != expected:
            raise _Refused(
                f"its first page is at {format_lsn(header.page_lsn)}, its name says "
                f"{format_lsn(expected)}"
            )

    def _scan(self, source: SegmentSource, run: Run, file: ArchivedFile) -> RunEnd:
        scan = RunScan(source, run, resync=True, system_identifier=self._system_id)
        own = {stem + ending for stem in (file.name.stem,) for ending, *_ in COMPLETE + UNFINISHED}
        try:
            for _ in scan.batches():
                pass
        except FileDamaged as exc:
            # The last record may go on in the next segment, whose damage is its own.
            mine = Path(exc.path or "").name in own or exc.path == str(file.path)
            if mine and not file.name.partial:
                raise _Refused(str(exc)) from exc
        return scan.end()

    def _check_sha1(self, file: ArchivedFile) -> None:
        """Compares the plain content with the checksum that pgBackRest put into the name."""
        if file.name.sha1 is None:
            return
        total = hashlib.sha1(usedforsecurity=False)
        for piece in plain_pieces(file):
            total.update(piece)
        if total.hexdigest() != file.name.sha1:
            raise _Refused(
                f"it is damaged: SHA-1: expected {file.name.sha1}, got {total.hexdigest()}"
            )

    def _is_same_file(self, stored: Path, file: ArchivedFile) -> bool:
        """Whether the store's file was made of this one: the same, or as old and as long."""
        ours, theirs = state_of(stored), state_of(file.path)
        if ours == theirs:
            return True
        # Packed anew it has another length.
        return ours[2] == theirs[2] and (file.packing not in ("", *KEPT) or ours[1] == theirs[1])

    def _has_all(self, stored: Path, file: ArchivedFile) -> bool:
        """Whether the store's file has the same plain bytes; makes it durable then."""
        try:
            same = same_bytes(read_file(stored), plain_pieces(file))
        except FileDamaged as exc:
            raise _Refused(f"the store has {stored.name}, and one is damaged: {exc}") from exc
        if same:
            make_durable(stored)
        return same

    def _less_than_stored(
        self, source: SegmentSource, stored: Path, file: ArchivedFile, found: Judgement
    ) -> Taken:
        """Passes a file over that has the beginning of what the store has."""
        if found.end_lsn is not None:
            size = source.segment_size
            begin = segment_lsn(file.name.stem, size)
            length = found.end_lsn - begin
            if same_bytes(read_prefix(stored, length), prefix(plain_pieces(file), length)):
                run = Run(begin // size, begin // size)
                return Taken(file.name.stem, Outcome.THERE, self._known(run))
        raise _Refused(f"the store has {stored.name} with other content")

    def _place(self, file: ArchivedFile, before: tuple[int, int, int]) -> None:
        """Puts a whole segment into the store, under the name of what it is packed with."""
        kept = file.packing in ("", *KEPT)
        target = self._directory / (file.name.stem + (file.packing if kept else _ANEW.suffix))
        if not (kept and file.linkable and self._links and self._link(file.path, target)):
            pieces = raw_pieces(file.path) if kept else packed_pieces(plain_pieces(file))
            if state_of(file.path) != before:
                raise _Refused("it changed while it was read; import it again")
            if place_new(target, pieces, self._layer):
                self._keep_time(target, file)
        # Unfinished files of the segment have nothing that it has not.
        for path in stored_files(self._directory, file.name.stem, UNFINISHED):
            try:
                path.unlink()
            except OSError as exc:
                raise storage_error("remove", path, exc) from exc

    def _link(self, source: Path, target: Path) -> bool:
        """Gives a file its name in the store as well; False where that cannot be."""
        try:
            with source.open("rb") as file:
                os.fsync(file.fileno())
            os.link(source, target)
            self._layer.fsync_directory(target.parent)
        except OSError:
            return False
        return True

    def _keep_time(self, target: Path, file: ArchivedFile) -> None:
        status = file.path.stat()
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _place_unfinished(
        self,
        source: SegmentSource,
        file: ArchivedFile,
        found: Judgement,
        limit_lsn: int | None,
    ) -> Outcome:
        """Puts what is proven of a segment into the store, as a receiver would have left it."""
        size = source.segment_size
        begin = segment_lsn(file.name.stem, size)
        ends = [end for end in (found.end_lsn, limit_lsn, begin + size) if end is not None]
        length = min(ends) - begin
        if length <= 0:
            raise _Refused("no record ends in it")
        for path in stored_files(self._directory, file.name.stem, UNFINISHED):
            if same_bytes(read_prefix(path, length), prefix(plain_pieces(file), length)):
                return Outcome.THERE
            if not same_bytes(_proven(path), plain_pieces(file), shortest=True):
                raise _Refused(f"the store has {path.name} with other content")
        target = self._directory / (file.name.stem + ".partial")
        replace_whole(target, padded(prefix(plain_pieces(file), length), size), self._layer)
        return Outcome.TAKEN

    def take_small(self, file: ArchivedFile) -> Taken:
        """Takes a history file, of a timeline or of a backup.

        Raises:
            StorageError: a file cannot be read or written.
        """
        stem = file.name.stem
        try:
            content = b"".join(plain_pieces(file))
        except FileDamaged as exc:
            return Taken(stem, Outcome.REFUSED, reason=str(exc))
        if not content:
            return Taken(stem, Outcome.REFUSED, reason=f"{file.path} is empty")
        target = self._directory / stem
        if place_new(target, iter([content]), self._layer):
            return Taken(stem, Outcome.TAKEN, size=len(content))
        if b"".join(read_file(target)) != content:
            reason = f"{file.path}: the store has {stem} with other content"
            return Taken(stem, Outcome.REFUSED, reason=reason)
        return Taken(stem, Outcome.THERE)


def _proven(path: Path) -> Iterator[bytes]:
    """Yields an unfinished segment without the zeros at its end."""
    content = b"".join(read_file(path))
    yield content.rstrip(b"\0")


def raw_pieces(path: Path) -> Iterator[bytes]:
    """Yields a file as it lies there.

    Raises:
        ReadError: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as exc:
        raise read_error("read", path, exc) from exc


def plain_pieces(file: ArchivedFile) -> Iterator[bytes]:
    """Yields the plain bytes of a file.

    Raises:
        ReadError: it cannot be read.
        FileDamaged: it is packed, and damaged.
    """
    try:
        with open_packed(file.path, file.packing) as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except OSError as exc:
        raise read_error("read", file.path, exc) from exc


def packed_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yields a zstd file of some bytes."""
    compressor = _ANEW.compressor()
    for piece in pieces:
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.finish()


def prefix(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Yields the first ``length`` bytes."""
    for piece in pieces:
        if length <= 0:
            return
        yield piece[:length]
        length -= len(piece)


def padded(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yields bytes, and zeros up to ``size``."""
    for piece in pieces:
        yield piece
        size -= len(piece)
    while size > 0:
        yield bytes(min(size, _PIECE))
        size -= _PIECE


def same_bytes(left: Iterator[bytes], right: Iterator[bytes], *, shortest: bool = False) -> bool:
    """Returns whether two streams are the same; ``shortest``: as far as the left one goes."""
    a = b = b""
    left, right = filter(None, left), filter(None, right)
    while True:
        a = a or next(left, b"")
        b = b or next(right, b"")
        if not a:
            return shortest or not b
        if not b:
            return False
        size = min(len(a), len(b))
        if a[:size] != b[:size]:
            return False
        a, b = a[size:], b[size:]
