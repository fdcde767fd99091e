"""Puts a rebuilt page into the relation file of a cluster that is shut down.

Only what is proven is written. The cluster is the store's own, and was shut down cleanly; the page
in its file is broken (checksum, header), lost (older than WAL made it, zeros, not there) or other
than WAL made it; and the rebuilt page is that of the end of the cluster's WAL. What was in the
file is kept first, in ``DATA_DIRECTORY/walstream-repair``. A kill between the two leaves a page
that the same command repairs again.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from walstream.errors import ReadError, StoreError, WrongCluster
from walstream.pages.compare import is_unlogged, masked
from walstream.pages.items import page_header
from walstream.pages.soundness import page_faults
from walstream.redo.rules.checksum import with_checksum
from walstream.rmgr.storage import VERSION_DIRECTORIES
from walstream.state.control import ControlFile, DbState
from walstream.store.backup_files import reported
from walstream.store.file_layer import storage_error
from walstream.wal.model import BLCKSZ, BufferTag, ForkNumber, format_lsn
from walstream.wal.relpath import block_place, parse_relation_file, relation_file
from walstream.wal.timeline import TimelineHistory

KEPT = "walstream-repair"


class PageState(Enum):
    """What the page in the file is, beside the rebuilt one."""

    SAME = "the same"
    MISSING = "missing"
    BROKEN = "broken"
    OLDER = "older"
    DIFFERENT = "different"
    NEWER = "newer"

    @property
    def is_repairable(self) -> bool:
        return self not in (PageState.SAME, PageState.NEWER)


class Finding(NamedTuple):
    """What was found of a block.

    ``path`` is its relation file, ``offset`` where the block lies in it; ``file_page`` is what is
    there now, shorter than a page where the file ends within it; ``kept`` where that was put once
    it was replaced.
    """

    path: Path
    offset: int
    tag: BufferTag
    state: PageState
    reason: str
    file_page: bytes
    page: bytes
    kept: Path | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "offset": self.offset,
            "block": self.tag.block,
            "state": self.state.name.lower(),
            "reason": self.reason,
            "lsn": format_lsn(page_header(self.page).lsn),
            "repaired": self.kept is not None,
            "kept": None if self.kept is None else str(self.kept),
        }


class StoppedCluster:
    """The data directory of a cluster that was shut down. Blocks.

    Args:
        path: the data directory.
        system_id: of the store.
        history: the timelines of the store's WAL.

    Raises:
        WrongCluster: it is another cluster's.
        StoreError: it was not shut down, a server runs on it, or it went another way than the
            store's WAL.
        ReadError: it cannot be read.
    """

    def __init__(self, path: Path, system_id: int, history: TimelineHistory) -> None:
        self.path = path
        control_path = path / "global/pg_control"
        with reported(control_path):
            data = control_path.read_bytes()
        try:
            self.control = control = ControlFile.parse(data)
        except StoreError as error:
            raise StoreError(f"{control_path}: {error}") from error
        if control.system_id != system_id:
            raise WrongCluster(
                f"{path} is of the cluster with system identifier {control.system_id}, the store "
                f"of {system_id}"
            )
        self.check_stopped()
        if control.state not in (DbState.SHUTDOWNED, DbState.SHUTDOWNED_IN_RECOVERY):
            raise StoreError(
                f"{path} was not shut down (its state is {control.state.name.lower()}): start the "
                "server and stop it, so that its files are as its WAL says"
            )
        timeline, lsn = control.checkpoint.timeline, self.end_lsn
        part = history.part_of(timeline)
        if part is None or not part.begin <= lsn <= part.end:
            raise StoreError(
                f"{path} was shut down at {format_lsn(lsn)} on timeline {timeline}, which the "
                "store's WAL did not go through: its pages may be others"
            )

    @property
    def end_lsn(self) -> int:
        """Up to where WAL made the pages: the record of the last checkpoint begins there.

        A standby may have stopped behind its last restart point: there it is the end of what it
        replayed.
        """
        control = self.control
        if control.state == DbState.SHUTDOWNED_IN_RECOVERY:
            return max(control.min_recovery_lsn, control.checkpoint_lsn)
        return control.checkpoint_lsn

    def check_stopped(self) -> None:
        """Raises StoreError where a server runs."""
        path = self.path / "postmaster.pid"
        try:
            with reported(path):
                first = path.read_bytes().partition(b"\n")[0].strip()
        except ReadError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        if not first.isdigit():
            raise StoreError(f"{path} is there: a server runs, or is being started: stop it")
        if _is_alive(int(first)):
            raise StoreError(f"{path}: a server runs, process {int(first)}: stop it")

    def file_of(self, tag: BufferTag) -> Path:
        """Returns the file that has a block.

        Raises:
            StoreError: WAL does not tell of its pages.
        """
        number, _ = block_place(tag)
        version = self.control.version
        name = relation_file(tag.locator, tag.fork, number, VERSION_DIRECTORIES[version])
        if tag.fork == ForkNumber.FSM:
            raise StoreError(
                f"{name} is a free space map, which WAL does not tell of: remove the file, VACUUM "
                "makes it anew"
            )
        file = parse_relation_file(name)
        assert file is not None
        if is_unlogged(self.path / name, file):
            raise StoreError(f"{name} is of an unlogged relation, which WAL does not tell of")
        return self.path / name

    def find(self, tag: BufferTag, page: bytes, at_lsn: int) -> Finding:
        """Compares the page in the file with the rebuilt one, which is as of ``at_lsn``.

        Raises:
            StoreError: the block is none that can be repaired.
            ReadError: the file cannot be read.
        """
        path = self.file_of(tag)
        _, block = block_place(tag)
        offset = block * BLCKSZ
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                stream.seek(offset)
                there = stream.read(BLCKSZ)
        except FileNotFoundError:
            # A cluster without the directory is not one to make files in.
            if not path.parent.is_dir():
                raise ReadError(
                    f"cannot read {path}: its directory is missing", str(path)
                ) from None
            size, there = 0, b""
        except OSError as exc:
            raise ReadError(f"cannot read {path}: {exc.strerror}", str(path)) from exc
        if size < offset:
            raise StoreError(
                f"{path} has {size} bytes, block {tag.block} begins at byte {offset}: repair block "
                f"{tag.block - block + size // BLCKSZ} first"
            )
        if self.control.checksums:
            page = with_checksum(page, tag.block)
        state, reason = self._compare(tag, there, page, at_lsn)
        return Finding(path, offset, tag, state, reason, there, page)

    def _compare(
        self, tag: BufferTag, there: bytes, page: bytes, at_lsn: int
    ) -> tuple[PageState, str]:
        if len(there) < BLCKSZ:
            return PageState.MISSING, f"the file has {len(there)} bytes of the block"
        faults = page_faults(there, tag.fork, tag.block, checksums=self.control.checksums)
        if faults:
            return PageState.BROKEN, "; ".join(faults)
        if there == page:
            return PageState.SAME, "every byte is as WAL made it"
        if not any(there):
            return PageState.OLDER, "it is all zeros, and WAL made a page of it"
        # The map's bits are cleared without a stamp: its LSN says nothing.
        if tag.fork != ForkNumber.VM:
            stands, made = page_header(there).lsn, page_header(page).lsn
            if stands < made:
                return PageState.OLDER, f"its LSN is {format_lsn(stands)}, not {format_lsn(made)}"
            if stands > made:
                return PageState.NEWER, (
                    f"its LSN is {format_lsn(stands)}, the store made it up to {format_lsn(made)} "
                    f"as of {format_lsn(at_lsn)}"
                )
        ours, theirs = masked(page, page, tag), masked(there, page, tag)
        if ours == theirs:
            return PageState.SAME, "it is as WAL made it, but for hints that WAL does not tell of"
        at = next(i for i in range(BLCKSZ) if ours[i] != theirs[i])
        return PageState.DIFFERENT, f"byte {at} is {theirs[at]:02x}, WAL made it {ours[at]:02x}"

    def write(self, finding: Finding) -> Finding:
        """Keeps what is in the file, then writes the page; returns where it was kept. Durable.

        Raises:
            StoreError: a server runs now, or the page is none to replace.
            StorageError: something cannot be written; the page is written in whole by a next run.
        """
        if not finding.state.is_repairable:
            raise StoreError(f"{finding.path} block {finding.tag.block}: {finding.reason}")
        owner = self._owner(finding.path)
        kept = self._keep(finding, owner)
        self.check_stopped()
        try:
            fd = os.open(finding.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if owner is not None:
                    os.fchown(fd, *owner)
                data, at = memoryview(finding.page), finding.offset
                while data:
                    size = os.pwrite(fd, data, at)
                    data, at = data[size:], at + size
                os.fsync(fd)
            finally:
                os.close(fd)
            _sync_directory(finding.path.parent)
        except OSError as exc:
            raise storage_error("write", finding.path, exc) from exc
        return finding._replace(kept=kept)

    def _owner(self, path: Path) -> tuple[int, int] | None:
        """Returns whose the file is to be, None where it is one's own anyway."""
        if os.geteuid() != 0:
            return None
        place = path if path.exists() else path.parent
        with reported(place):
            found = place.stat()
        return found.st_uid, found.st_gid

    def _keep(self, finding: Finding, owner: tuple[int, int] | None) -> Path:
        directory = self.path / KEPT
        name = finding.path.relative_to(self.path).as_posix().replace("/", "_")
        name = f"{name}.block-{finding.tag.block}"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            kept = next(
                place
                for place in (directory / f"{name}.{i}" for i in range(1, 1 << 30))
                if not place.exists()
            )
            work = kept.with_name(f"{kept.name}.tmp")
            with work.open("wb") as stream:
                stream.write(finding.file_page)
                stream.flush()
                os.fsync(stream.fileno())
            if owner is not None:
                os.chown(directory, *owner)
                os.chown(work, *owner)
            work.rename(kept)
            _sync_directory(directory)
            _sync_directory(self.path)
        except OSError as exc:
            raise storage_error("write", directory / name, exc) from exc
        return kept


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
