"""The pages of a relation file that an opening has written itself, beside those of the moment.

``FILE`` is sparse and has the file's whole length. ``FILE`` of the map directory says which of its
pages count: u32 ``limit`` and 4 zero bytes, then one bit a page, the lowest first. Pages from
``limit`` on are the opening's own whatever the bits say: the file was cut there, or ended there.
All others are the moment's.

The map follows the file's fsync: a page that was never synced may be lost with the machine, as on
any file system, and the moment's comes back; a bit never outlives its page.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from struct import Struct

from walstream.wal.model import BLCKSZ

_HEADER = Struct("<I4x")
DIRTY_MAP_BYTES = 4096


class OwnPages:
    """One file's own pages. Synchronous; ``sync`` may run in another thread than the rest.

    Args:
        path: the sparse file; made with the first write.
        map_path: the map beside it.
        blocks: how many pages the moment's file has.
        owner: user and group of a new file.

    Raises:
        OSError: a system call failed; so say all methods.
    """

    def __init__(
        self, path: Path, map_path: Path, blocks: int, owner: tuple[int, int] | None = None
    ) -> None:
        self._path = path
        self._map_path = map_path
        self._owner = owner
        self._bits = bytearray(-(-blocks // 8))
        self._dirty: set[int] = set()
        self._header_dirty = False
        self._fds: tuple[int, int] | None = None
        self._removed = False
        # After a crash of the machine one may be there without the other: nothing of it was synced.
        self._made = map_path.exists() and path.exists()
        self._new = False
        self.limit = blocks
        self.size = blocks * BLCKSZ
        if self._made:
            content = map_path.read_bytes()
            if len(content) >= _HEADER.size:
                self.limit = min(self.limit, _HEADER.unpack_from(content)[0])
                bits = content[_HEADER.size : _HEADER.size + len(self._bits)]
                self._bits[: len(bits)] = bits
            self.size = path.stat().st_size

    def _open(self) -> int:
        """Returns the descriptor of the sparse file, which is there from now on."""
        if self._fds is not None:
            return self._fds[0]
        if self._removed:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self._path))
        flags = os.O_RDWR | os.O_CLOEXEC
        if self._made:
            map_fd, fd = os.open(self._map_path, flags), os.open(self._path, flags)
        else:
            self._map_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # First the file: a map without one would say that it is as long as nothing.
            fd = os.open(self._path, flags | os.O_CREAT, 0o600)
            if self._owner is not None:
                os.fchown(fd, *self._owner)
            os.ftruncate(fd, self.size)
            map_fd = os.open(self._map_path, flags | os.O_CREAT | os.O_TRUNC, 0o600)
            os.pwrite(map_fd, _HEADER.pack(self.limit), 0)
            self._made = self._new = True
        self._fds = fd, map_fd
        return fd

    @property
    def made(self) -> bool:
        """Whether there is a file: something was written."""
        return self._made

    def make(self) -> None:
        """Makes the file where nothing was written to it yet."""
        self._open()

    def has(self, block: int) -> bool:
        """Returns whether a page is the opening's own."""
        return block >= self.limit or bool(self._bits[block >> 3] & 1 << (block & 7))

    def has_all(self, first: int, end: int) -> bool:
        """Returns whether all pages from ``first`` to before ``end`` are."""
        return first >= self.limit or all(self.has(block) for block in range(first, end))

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes of own pages; zeros where nothing was written."""
        return os.pread(self._open(), size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Writes whole pages, which are the opening's own from now on.

        The last one may end early, where the file ends.
        """
        fd = self._open()
        done = 0
        while done < len(data):
            done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        end = offset + len(data)
        for block in range(offset // BLCKSZ, min(-(-end // BLCKSZ), self.limit)):
            place = block >> 3
            self._bits[place] |= 1 << (block & 7)
            self._dirty.add(place // DIRTY_MAP_BYTES)
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """Cuts or extends the file; what comes behind is zeros, never again the moment's."""
        fd = self._open()
        os.ftruncate(fd, size)
        limit = min(self.limit, -(-size // BLCKSZ))
        if limit < self.limit:
            self.limit = limit
            self._header_dirty = True
        self.size = size

    @property
    def dirty(self) -> bool:
        """Whether pages were written whose bits are not yet on disk."""
        return bool(self._dirty) or self._header_dirty or self._new

    def sync(self) -> None:
        """Waits until the file is on disk, and then its map."""
        if not self._made or self._removed:
            return
        fd = self._open()
        assert self._fds is not None
        map_fd = self._fds[1]
        dirty, self._dirty = self._dirty, set()
        header, self._header_dirty = self._header_dirty, False
        # Of before: a bit that is set meanwhile is of a page that this sync may not have.
        bits = {part: self._part(part) for part in dirty}
        limit = self.limit
        try:
            os.fsync(fd)
            if self._new:
                _sync_directory(self._path.parent)
                _sync_directory(self._map_path.parent)
                self._new = False
            for part, content in bits.items():
                os.pwrite(map_fd, content, _HEADER.size + part * DIRTY_MAP_BYTES)
            if header:
                os.pwrite(map_fd, _HEADER.pack(limit), 0)
            if bits or header:
                os.fdatasync(map_fd)
        except BaseException:
            self._dirty |= dirty
            self._header_dirty |= header
            raise

    def _part(self, part: int) -> bytes:
        return bytes(self._bits[part * DIRTY_MAP_BYTES : (part + 1) * DIRTY_MAP_BYTES])

    def rest(self) -> None:
        """Closes the files; what is not yet synced is kept in memory."""
        if self._fds is not None and not self._removed:
            self._close()

    def close(self) -> None:
        """Waits until all is on disk, and closes the files."""
        try:
            if self.dirty:
                self.sync()
        finally:
            self._close()

    def _close(self) -> None:
        fds, self._fds = self._fds, None
        for fd in fds or ():
            os.close(fd)

    @property
    def removed(self) -> bool:
        """Whether the file was removed."""
        return self._removed

    def remove(self) -> None:
        """Removes the files; what is open of them can still be read and written."""
        if self._made:
            self._open()
        self._removed = True
        self._path.unlink(missing_ok=True)
        self._map_path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
