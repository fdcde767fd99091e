"""The relation files of the moment: which there are, and their pages when they are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from walstream.errors import StoreError
from walstream.pages.service import PageService
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE, relation_file


class LowerFile(NamedTuple):
    """One file of at most 1 GB of a fork: ``blocks`` pages from the fork's block ``first`` on."""

    locator: RelFileLocator
    fork: int
    first: int
    blocks: int


class Lower:
    """Every relation file of a moment, by directory and name.

    Args:
        forks: locator, fork and blocks of all that is there at the moment.
        version_directory: TABLESPACE_VERSION_DIRECTORY of the major version.
        place: turns a path of the data directory into that of the mount.
        pages: makes pages.
        lsn: the moment.
    """

    def __init__(
        self,
        forks: Iterable[tuple[RelFileLocator, int, int]],
        version_directory: str,
        place: Places,
        pages: PageService,
        lsn: int,
    ) -> None:
        self._pages = pages
        self._lsn = lsn
        self.pages_made = 0
        self.directories: dict[str, dict[str, LowerFile]] = defaultdict(dict)
        for locator, fork, blocks in forks:
            for segment in range(max(1, -(-blocks // RELSEG_SIZE))):
                first = segment * RELSEG_SIZE
                path = relation_file(locator, fork, segment, version_directory)
                directory, _, name = place.of(path).rpartition("/")
                self.directories[directory][name] = LowerFile(
                    locator, fork, first, min(blocks - first, RELSEG_SIZE)
                )

    def find(self, directory: str, name: str) -> LowerFile | None:
        """Returns the file of that name in a directory of the mount, None where there is none."""
        files = self.directories.get(directory)
        return None if files is None else files.get(name)

    async def read(self, file: LowerFile, blocks: Sequence[int]) -> list[bytes]:
        """Returns pages of a file, by their ascending numbers within it, in that order.

        Raises:
            PageError, RedoError, WalError, StorageError: a page cannot be rebuilt.

        Cancellation: nothing is left behind.
        """
        self.pages_made += len(blocks)
        if len(blocks) == 1:
            return [await self._pages.get_page(self._tag(file, blocks[0]), self._lsn)]
        found: list[bytes] = []
        numbers = [file.first + block for block in blocks]
        async with self._pages.get_pages(file.locator, file.fork, numbers, self._lsn) as received:
            async for some in received:
                found += [block.rebuilt() for block in some]
        return found

    def _tag(self, file: LowerFile, block: int) -> BufferTag:
        return BufferTag(*file.locator, file.fork, file.first + block)


class Places:
    """Where things of the data directory lie below the mount's root.

    ``data`` is the data directory; tablespace OID is ``data.tablespaces/OID``, to which the link in
    ``pg_tblspc`` leads: a recovery refuses tablespaces that are no links. Those that were made in
    place (allow_in_place_tablespaces) stay there.

    Args:
        linked: oids of the tablespaces that are links.
    """

    DATA = "data"
    TABLESPACES = "data.tablespaces"

    def __init__(self, linked: Iterable[int]) -> None:
        self._linked = {str(oid) for oid in linked}

    def of(self, path: str) -> str:
        """Returns the place of a path of the data directory.

        Raises:
            StoreError: it is none.
        """
        if path.startswith(("/", "..")):
            raise StoreError(f"{path} is no path of a data directory")
        parts = path.split("/", 2)
        if parts[0] == "pg_tblspc" and len(parts) == 3 and parts[1] in self._linked:
            return f"{self.TABLESPACES}/{parts[1]}/{parts[2]}"
        return f"{self.DATA}/{path}"

    def origin(self, place: str) -> str:
        """Returns the path below the data directory of a place below the mount's root."""
        root, _, rest = place.partition("/")
        return f"pg_tblspc/{rest}" if root == self.TABLESPACES else rest
