"""One relation file of a base backup that is made from the one before it. Synchronous.

The old file is read once, in parts; its checksum is compared with the old manifest, so that no
damage of it is given a checksum of its own. Where the file system can, all blocks are there by
reference before, and only changed ones are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from walstream.datadir.plan import SegmentFile
from walstream.datadir.work import WorkDirectory, clone
from walstream.errors import BackupDamaged, StoreError
from walstream.store.backup_files import BackupFiles, reported
from walstream.store.file_layer import storage_error
from walstream.store.manifest import ALGORITHMS, ManifestFile, Sum
from walstream.wal.model import BLCKSZ

PART_BLOCKS = 1024
ALGORITHM = "CRC32C"


class FilePart(NamedTuple):
    """Blocks ``[begin, end)`` of a file, by their place in it; ``changed`` by number in the fork.

    ``base_bytes``: so many of them come from the old file. ``io_bytes``: are read or written.
    """

    begin: int
    end: int
    changed: tuple[int, ...]
    base_bytes: int
    io_bytes: int


class BaseFile:
    """A file that is being made. One task at a time.

    Args:
        base: the files of the old backup.
        work: where the new one is made.
        file: what it will be.
        entry: what the old manifest says of its source; None where that has no such file.
    """

    def __init__(
        self, base: BackupFiles, work: WorkDirectory, file: SegmentFile, entry: ManifestFile | None
    ) -> None:
        self.file = file
        self._base = base
        self._work = work
        self._entry = entry
        size = file.blocks * BLCKSZ
        self.base_bytes = 0 if entry is None else min(file.base_blocks * BLCKSZ, entry.size)
        """So many bytes at its beginning are those of the old file, but for what was changed."""
        self._unchanged = entry is not None and not file.changed and self.base_bytes == size
        self._unchanged = self._unchanged and entry is not None and entry.size == size
        self.cloned_bytes = 0
        """So many bytes are there by reference, and were not read."""
        self._cloned = False
        self._source = self._fd = -1
        self._old: Sum | None = None
        self._new = ALGORITHMS[ALGORITHM]()

    def begin(self) -> None:
        """Opens both files.

        Raises:
            BackupDamaged: the old file is not what was backed up.
            StorageError: one cannot be opened; so say all methods.
        """
        entry = self._entry
        if entry is not None and self.base_bytes:
            path = self._base.path / self.file.source
            if entry.algorithm is not None and entry.algorithm not in ALGORITHMS:
                raise StoreError(f"{path}: checksum algorithm {entry.algorithm} is not known here")
            with reported(path):
                try:
                    self._source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise self._damaged(f"{entry.size} bytes", "no such file") from None
                length = os.fstat(self._source).st_size
            if length != entry.size:
                raise self._damaged(f"{entry.size} bytes", str(length))
            if self.base_bytes == entry.size:
                self._old = None if entry.algorithm is None else ALGORITHMS[entry.algorithm]()
            else:
                # Cut since: only a part of it will be read, which proves nothing.
                self._base.prove(self.file.source)
        self._fd = self._work.open(self.file.name)
        try:
            if self._source >= 0:
                self._cloned = clone(self._source, self._fd)
                # What is behind was cut off since, and is zeros where it came again.
                os.ftruncate(self._fd, self.base_bytes)
            os.ftruncate(self._fd, self.file.blocks * BLCKSZ)
        except OSError as exc:
            raise self._failed(exc) from exc

    def parts(self) -> Iterator[FilePart]:
        """Yields the parts that are to be written, in order."""
        if self._cloned and self._unchanged:
            self.cloned_bytes = self.base_bytes
            return
        file, at = self.file, 0
        for begin in range(0, file.blocks, PART_BLOCKS):
            end = min(begin + PART_BLOCKS, file.blocks)
            last = at
            while last < len(file.changed) and file.changed[last] - file.first < end:
                last += 1
            changed, at = file.changed[at:last], last
            base_bytes = max(0, min(self.base_bytes, end * BLCKSZ) - begin * BLCKSZ)
            written = len(changed) * BLCKSZ
            if not self._cloned:
                written = max(written, base_bytes)
            yield FilePart(begin, end, changed, base_bytes, base_bytes + written)

    def write(self, part: FilePart, pages: Sequence[bytes]) -> None:
        """Writes one part; ``pages`` are those that were changed."""
        offset = part.begin * BLCKSZ
        data = bytearray((part.end - part.begin) * BLCKSZ)
        if part.base_bytes:
            path = self._base.path / self.file.source
            with reported(path):
                done = 0
                while done < part.base_bytes:
                    view = memoryview(data)[done : part.base_bytes]
                    got = os.preadv(self._source, [view], offset + done)
                    if got == 0:
                        raise self._damaged(f"{self.base_bytes} bytes", str(offset + done))
                    done += got
            if self._old is not None:
                self._old.update(memoryview(data)[: part.base_bytes])
        if self._unchanged:
            self._put(memoryview(data), offset)
            return
        places = [(b - self.file.first - part.begin) * BLCKSZ for b in part.changed]
        for place, page in zip(places, pages, strict=True):
            data[place : place + BLCKSZ] = page
        self._new.update(memoryview(data))
        if not self._cloned:
            # Behind what the old file has most is zeros, which are there already.
            self._put(memoryview(data)[: part.base_bytes], offset)
            places = [place for place in places if place >= part.base_bytes]
        for place in places:
            self._put(memoryview(data)[place : place + BLCKSZ], offset + place)

    def _put(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                size = os.pwrite(self._fd, data, offset)
                data, offset = data[size:], offset + size
        except OSError as exc:
            raise self._failed(exc) from exc

    def finish(self) -> ManifestFile:
        """Notes the file as complete and returns what its manifest is to say of it.

        Raises:
            BackupDamaged: the old file is not what was backed up.
        """
        entry, size = self._entry, self.file.blocks * BLCKSZ
        if self._old is not None and entry is not None and not (self._unchanged and self._cloned):
            got = self._old.hexdigest()
            if got != entry.checksum:
                expected = f"{entry.algorithm} {entry.checksum} of the whole file"
                raise self._damaged(expected, got)
        if self._unchanged and entry is not None:
            made = entry
        else:
            made = ManifestFile(size, ALGORITHM, self._new.hexdigest())
        note = f"{made.algorithm}:{made.checksum}" if made.algorithm else ""
        self._work.done(self.file.name, size, note)
        return made

    def close(self) -> None:
        """Closes both files, whatever was done with them."""
        for fd in (self._source, self._fd):
            if fd >= 0:
                os.close(fd)
        self._source = self._fd = -1

    def _failed(self, exc: OSError) -> Exception:
        return storage_error("write", self._work.place(self.file.name), exc)

    def _damaged(self, expected: str, got: str) -> BackupDamaged:
        path = self._base.path / self.file.source
        return BackupDamaged(
            f"the base backup is damaged: {path}: expected {expected}, got {got}",
            str(path),
            expected,
            got,
        )
