"""The file system: what an opening wrote lies on disk, what it did not is made when it is read.

Below ``upper/`` lie the directories, every file that is no relation's, and the relation files that
were written (``own_pages.py``). A relation file of the moment that was never written is there
without being there. One that was removed is named in ``gone``, so that it does not come back.

System calls on ``upper/`` are made in the event loop: it serves nothing but this mount, whose
readers wait for that disk anyway. Syncs run in threads.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import trio

from walstream.errors import WalstreamError
from walstream.mount.gone import Gone
from walstream.mount.lower import Lower, LowerFile
from walstream.mount.node import Node, below
from walstream.mount.own_pages import OwnPages
from walstream.wal.model import BLCKSZ

log = logging.getLogger("walstream")

# The kernel asks nobody again: whatever changes here it has changed itself.
CACHE_S = 3600.0
MODE_FILE = stat.S_IFREG | 0o600


@contextmanager
def told() -> Iterator[None]:
    """Hands an OSError on to the kernel, and everything else as EIO."""
    try:
        yield
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or errno.EIO) from error
    except WalstreamError as error:
        log.warning("%s", error)
        raise pyfuse3.FUSEError(errno.EIO) from error


class MomentFilesystem(pyfuse3.Operations):
    """The handlers; see the module.

    Args:
        root: the directory of the opening: ``upper/``, ``maps/``, ``gone``.
        lower: the relation files of the moment.
        owner: user and group of everything.
        writable: without, every change is refused.
    """

    enable_writeback_cache = False
    supports_dot_lookup = False

    def __init__(
        self, root: Path, lower: Lower, owner: tuple[int, int] | None, *, writable: bool = True
    ) -> None:
        super().__init__()
        self._upper = root / "upper"
        self._maps = root / "maps"
        self._lower = lower
        self._owner = owner
        self._writable = writable
        self._gone = Gone(root / "gone")
        self._root = Node(pyfuse3.ROOT_INODE, "", None)
        self._nodes: dict[int, Node] = {pyfuse3.ROOT_INODE: self._root}
        self._next_inode = pyfuse3.ROOT_INODE + 1
        self._listings: dict[int, list[str]] = {}
        self._next_listing = 1
        self._written: dict[str, set[str]] = {}
        status = os.lstat(self._upper)
        self._time_ns = status.st_mtime_ns
        self._uid, self._gid = owner or (status.st_uid, status.st_gid)

    def close(self, *, keep: bool) -> None:
        """Closes every file; with ``keep`` what was written is on disk then. Blocks.

        Raises:
            OSError: it cannot be written.
        """
        try:
            if keep:
                self._gone.sync()
                for node in self._nodes.values():
                    if node.own is not None:
                        node.own.close()
        finally:
            for node in self._nodes.values():
                if node.fd is not None:
                    os.close(node.fd)
            self._gone.close()

    # -- names

    def _on_disk(self, path: str) -> Path:
        return self._upper / path if path else self._upper

    def _find_lower(self, parent: Node, name: str) -> LowerFile | None:
        return self._find_lower_in(parent.path, name)

    def _find_lower_in(self, directory: str, name: str) -> LowerFile | None:
        file = self._lower.find(directory, name)
        return None if file is None or f"{directory}/{name}" in self._gone else file

    def _node(self, parent: Node, name: str, directory: str | None = None) -> Node:
        """Returns the node of a name; it is made where the kernel does not know it yet.

        ``directory``: the path of ``parent``, where it is known.
        """
        node = parent.children.get(name)
        if node is None:
            directory = parent.path if directory is None else directory
            node = Node(self._next_inode, name, parent)
            self._next_inode += 1
            node.file = self._find_lower_in(directory, name)
            if node.file is not None:
                node.written = name in self._written_in(directory)
            parent.children[name] = node
            self._nodes[node.inode] = node
        return node

    def _written_in(self, directory: str) -> set[str]:
        """Returns the names of the moment's files in a directory that have pages of their own.

        Asked for once: what is written later is added when the kernel forgets it.
        """
        found = self._written.get(directory)
        if found is None:
            try:
                found = {path.name for path in (self._maps / directory).iterdir()}
            except FileNotFoundError:
                found = set()
            self._written[directory] = found
        return found

    def _own(self, node: Node) -> OwnPages:
        assert node.file is not None
        if node.own is None:
            path = node.path
            node.own = OwnPages(
                self._on_disk(path), self._maps / path, node.file.blocks, self._owner
            )
        return node.own

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(node.inode)
        entry.entry_timeout = entry.attr_timeout = CACHE_S
        entry.st_uid, entry.st_gid = self._uid, self._gid
        if node.file is not None:
            entry.st_mode = pyfuse3.ModeT(MODE_FILE)
            entry.st_nlink = 1
            unwritten = node.own is None and not node.written
            entry.st_size = node.file.blocks * BLCKSZ if unwritten else self._own(node).size
            entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._time_ns
        else:
            if node.fd is not None:
                status = os.fstat(node.fd)
            elif node.parent is None and node is not self._root:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            else:
                status = os.lstat(self._on_disk(node.path))
            entry.st_mode = pyfuse3.ModeT(status.st_mode)
            entry.st_nlink = status.st_nlink
            entry.st_size = status.st_size
            entry.st_atime_ns = status.st_atime_ns
            entry.st_mtime_ns = status.st_mtime_ns
            entry.st_ctime_ns = status.st_ctime_ns
        entry.st_blksize = BLCKSZ
        entry.st_blocks = -(-entry.st_size // 512)
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._nodes[parent_inode]
        return self._looked_up(parent, os.fsdecode(name))

    def _looked_up(
        self, parent: Node, name: str, directory: str | None = None
    ) -> pyfuse3.EntryAttributes:
        directory = parent.path if directory is None else directory
        with told():
            if parent.children.get(name) is None and self._find_lower_in(directory, name) is None:
                os.lstat(f"{self._upper}/{directory}/{name}")
            node = self._node(parent, name, directory)
            entry = self._attributes(node)
        node.lookups += 1
        return entry

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        for inode, count in inode_list:
            node = self._nodes.get(inode)
            if node is not None and inode != pyfuse3.ROOT_INODE:
                node.lookups -= count
                self._drop(node)

    def _drop(self, node: Node) -> None:
        """Forgets a node that neither the kernel nor an open file needs."""
        if node.lookups > 0 or node.opens > 0 or node.children:
            return
        if node.own is not None:
            with told():
                node.own.close()
            if node.own.made and node.parent is not None:
                self._written_in(node.parent.path).add(node.name)
            node.own = None
        self._nodes.pop(node.inode, None)
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with told():
            return self._attributes(self._nodes[inode])

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._nodes[inode]
        self._check_writable()
        with told():
            if fields.update_size:
                await self._truncate(node, attr.st_size)
            if fields.update_mode and node.file is None:
                self._on_disk(node.path).chmod(stat.S_IMODE(attr.st_mode))
            return self._attributes(node)

    async def _truncate(self, node: Node, size: int) -> None:
        if node.file is None:
            if node.fd is not None:
                os.ftruncate(node.fd, size)
            else:
                os.truncate(self._on_disk(node.path), size)
            return
        async with node.lock:
            own = self._own(node)
            block, rest = divmod(size, BLCKSZ)
            if rest and size < own.size and not own.has(block):
                # What is left of the page that is cut must stay when the file grows again.
                own.write(block * BLCKSZ, await self._page(node, block))
            own.truncate(size)

    # -- directories

    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        node = self._nodes[inode]
        path = node.path
        with told():
            names = {one.name for one in self._on_disk(path).iterdir()}
        for name in self._lower.directories.get(path, ()):
            if f"{path}/{name}" not in self._gone:
                names.add(name)
        listing = self._next_listing
        self._next_listing += 1
        self._listings[listing] = sorted(names)
        return pyfuse3.FileHandleT(listing << 32 | inode)

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        names = self._listings[fh >> 32]
        parent = self._nodes[fh & 0xFFFFFFFF]
        directory = parent.path
        for place in range(start_id, len(names)):
            try:
                entry = self._looked_up(parent, names[place], directory)
            except pyfuse3.FUSEError:
                continue  # removed since
            if not pyfuse3.readdir_reply(token, os.fsencode(names[place]), entry, place + 1):
                node = self._nodes[entry.st_ino]
                node.lookups -= 1
                self._drop(node)
                return

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        del self._listings[fh >> 32]

    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        await self._sync_directory(self._nodes[fh & 0xFFFFFFFF])

    async def _sync_directory(self, node: Node) -> None:
        with told():
            await trio.to_thread.run_sync(self._sync_path, self._on_disk(node.path))

    def _sync_path(self, path: Path) -> None:
        self._gone.sync()
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent = self._nodes[parent_inode]
        self._check_writable()
        with told():
            path = self._on_disk(parent.path) / os.fsdecode(name)
            path.mkdir(mode=stat.S_IMODE(mode) & ~ctx.umask)
            self._give(path)
        return self._looked_up(parent, os.fsdecode(name))

    async def rmdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        parent = self._nodes[parent_inode]
        text = os.fsdecode(name)
        self._check_writable()
        path = below(parent, text)
        if any(f"{path}/{one}" not in self._gone for one in self._lower.directories.get(path, ())):
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        with told():
            self._on_disk(path).rmdir()
        self._unlinked(parent, text)

    # -- what is still to be made

    def heat(self) -> dict[str, int]:
        """Returns how often the kernel asked for pages of the files that it knows, by path."""
        return {node.path: node.reads for node in self._nodes.values() if node.reads}

    async def fill(self, path: str, first: int, end: int) -> int | None:
        """Makes pages of a file of the moment the opening's own; returns how many were not.

        None: the file is gone. ``first`` to before ``end``: their numbers.

        Raises:
            OSError: they cannot be written.
            WalstreamError: one cannot be rebuilt.

        Cancellation: nothing is left behind.
        """
        node = self._root
        for name in path.split("/"):
            node = self._node(node, name)
        if node.file is None or path in self._gone:
            return None
        node.opens += 1
        try:
            own = self._own(node)
            own.make()
            missing = [block for block in range(first, end) if not own.has(block)]
            for block, page in zip(
                missing, await self._lower.read(node.file, missing) if missing else (), strict=True
            ):
                # What was written or cut meanwhile counts.
                if not own.has(block) and not own.removed:
                    own.write(block * BLCKSZ, page)
            return len(missing)
        finally:
            node.opens -= 1
            self._drop(node)

    async def sync_pages(self, path: str) -> None:
        """Waits until what was written of a file of the moment is on disk.

        Raises:
            OSError: it cannot be.

        Cancellation: the sync goes on in its thread.
        """
        node = self._root
        for name in path.split("/"):
            node = self._node(node, name)
        if node.file is not None and path not in self._gone:
            node.opens += 1
            try:
                self._own(node)
                await trio.to_thread.run_sync(self._sync_file, node)
            finally:
                node.opens -= 1
                self._drop(node)

    # -- names that come and go

    def _check_writable(self) -> None:
        if not self._writable:
            raise pyfuse3.FUSEError(errno.EROFS)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)

    def _unlinked(self, parent: Node, name: str) -> None:
        """A name is gone; a file of it that is open lives on without one."""
        node = parent.children.pop(name, None)
        if node is not None:
            node.parent = None
            self._drop(node)

    async def unlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        parent = self._nodes[parent_inode]
        text = os.fsdecode(name)
        self._check_writable()
        with told():
            self._remove(parent, text)
        self._unlinked(parent, text)

    def _remove(self, parent: Node, name: str) -> None:
        path = below(parent, name)
        if self._find_lower(parent, name) is None:
            self._on_disk(path).unlink()
            return
        self._own(self._node(parent, name)).remove()
        self._gone.add(path)

    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._check_writable()
        if flags:
            raise pyfuse3.FUSEError(errno.EINVAL)
        old, new = self._nodes[parent_inode_old], self._nodes[parent_inode_new]
        old_name, new_name = os.fsdecode(name_old), os.fsdecode(name_new)
        source = below(old, old_name)
        if self._find_lower(old, old_name) is not None or source in self._lower.directories:
            # mv copies then. PostgreSQL renames no relation file and no directory of them.
            raise pyfuse3.FUSEError(errno.EXDEV)
        with told():
            if self._find_lower(new, new_name) is not None:
                self._remove(new, new_name)
            self._on_disk(source).rename(self._on_disk(below(new, new_name)))
        self._unlinked(new, new_name)
        node = old.children.pop(old_name, None)
        if node is not None:
            node.name, node.parent = new_name, new
            new.children[new_name] = node

    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent = self._nodes[parent_inode]
        self._check_writable()
        with told():
            path = self._on_disk(parent.path) / os.fsdecode(name)
            path.symlink_to(os.fsdecode(target))
            self._give(path)
        return self._looked_up(parent, os.fsdecode(name))

    async def readlink(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileNameT:
        with told():
            target = self._on_disk(self._nodes[inode].path).readlink()
        return pyfuse3.FileNameT(os.fsencode(target))

    # -- files

    def _open(self, node: Node) -> pyfuse3.FileInfo:
        if node.file is None and node.fd is None:
            flags = os.O_RDWR if self._writable else os.O_RDONLY
            node.fd = os.open(self._on_disk(node.path), flags | os.O_CLOEXEC)
        elif node.file is not None:
            self._own(node)
        node.opens += 1
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(node.inode), keep_cache=True)

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        node = self._nodes[inode]
        if flags & (os.O_WRONLY | os.O_RDWR) and not self._writable:
            raise pyfuse3.FUSEError(errno.EROFS)
        with told():
            info = self._open(node)
            if flags & os.O_TRUNC:
                await self._truncate(node, 0)
        return info

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent = self._nodes[parent_inode]
        text = os.fsdecode(name)
        self._check_writable()
        with told():
            path = self._on_disk(parent.path) / text
            wanted = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags & (os.O_EXCL | os.O_TRUNC)
            fd = os.open(path, wanted, stat.S_IMODE(mode) & ~ctx.umask)
            self._give(path)
            node = self._node(parent, text)
            if node.fd is not None:
                os.close(fd)
            else:
                node.fd = fd
            node.opens += 1
            node.lookups += 1
            info = pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(node.inode), keep_cache=True)
            return info, self._attributes(node)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        node = self._nodes[fh]
        node.opens -= 1
        if node.opens == 0:
            if node.fd is not None:
                os.close(node.fd)
                node.fd = None
            if node.own is not None:
                node.own.rest()
        self._drop(node)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        node = self._nodes[fh]
        with told():
            if node.file is None:
                assert node.fd is not None
                return os.pread(node.fd, size, off)
            return await self._read_pages(node, off, size)

    async def _page(self, node: Node, block: int) -> bytes:
        assert node.file is not None
        return (await self._lower.read(node.file, (block,)))[0]

    async def _read_pages(self, node: Node, offset: int, size: int) -> bytes:
        assert node.file is not None
        own = self._own(node)
        node.reads += 1
        size = min(size, own.size - offset)
        if size <= 0:
            return b""
        first, end = offset // BLCKSZ, -(-(offset + size) // BLCKSZ)
        if own.has_all(first, end):
            return own.read(offset, size)
        missing = [block for block in range(first, end) if not own.has(block)]
        made = dict(zip(missing, await self._lower.read(node.file, missing), strict=True))
        parts = []
        for block in range(first, end):
            # What was written while the others were made counts.
            if own.has(block):
                part = own.read(block * BLCKSZ, BLCKSZ)
                parts.append(part + bytes(BLCKSZ - len(part)))
            else:
                parts.append(made[block])
        skipped = offset - first * BLCKSZ
        return b"".join(parts)[skipped : skipped + size]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        node = self._nodes[fh]
        with told():
            if node.file is None:
                assert node.fd is not None
                return os.pwrite(node.fd, buf, off)
            if off % BLCKSZ or len(buf) % BLCKSZ:
                async with node.lock:
                    await self._write_parts(node, off, buf)
            else:
                self._own(node).write(off, buf)
            return len(buf)

    async def _write_parts(self, node: Node, offset: int, data: bytes) -> None:
        """Writes what begins or ends within a page: the rest of it comes from what is there."""
        own = self._own(node)
        at, left = offset, memoryview(data)
        while left:
            block, skipped = divmod(at, BLCKSZ)
            part = left[: BLCKSZ - skipped]
            if len(part) < BLCKSZ and not own.has(block):
                page = bytearray(await self._page(node, block))
                page[skipped : skipped + len(part)] = part
                own.write(block * BLCKSZ, bytes(page))
            else:
                own.write(at, bytes(part))
            at, left = at + len(part), left[len(part) :]

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        node = self._nodes[fh]
        with told():
            await trio.to_thread.run_sync(self._sync_file, node)

    def _sync_file(self, node: Node) -> None:
        self._gone.sync()
        if node.own is not None:
            node.own.sync()
        elif node.fd is not None:
            os.fsync(node.fd)

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Closing a descriptor means nothing here."""

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        with told():
            found = os.statvfs(self._upper)
        data = pyfuse3.StatvfsData()
        for name in (
            "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree",
            "f_favail", "f_namemax",
        ):  # fmt: skip
            setattr(data, name, getattr(found, name))
        return data

    async def access(
        self, inode: pyfuse3.InodeT, mode: pyfuse3.ModeT, ctx: pyfuse3.RequestContext
    ) -> bool:
        return True
