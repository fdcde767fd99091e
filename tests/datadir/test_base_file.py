"""One relation file made from the one before it: copied, by reference, cut, grown, damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from walstream.datadir import base_file
from walstream.datadir.base_file import PART_BLOCKS, BaseFile
from walstream.datadir.plan import SegmentFile
from walstream.datadir.relations import RelationFork
from walstream.datadir.work import WorkDirectory
from walstream.errors import BackupDamaged
from walstream.store.backup_files import BackupFiles
from walstream.store.manifest import ALGORITHMS, ManifestEntry, ManifestFile, encode_manifest
from walstream.wal.model import BLCKSZ, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE

SOURCE, NAME = "base/1/10", "base/1/20"
OLD, NEW = RelFileLocator(1663, 1, 10), RelFileLocator(1663, 1, 20)


def page(number: int) -> bytes:
    return number.to_bytes(8, "little") * (BLCKSZ // 8)


def checksum(data: bytes, algorithm: str = "CRC32C") -> str:
    total = ALGORITHMS[algorithm]()
    total.update(data)
    return total.hexdigest()


def backup(path: Path, blocks: int, algorithm: str | None = "SHA256") -> BackupFiles:
    """A base backup with one file, whose page of block n says n."""
    data = b"".join(map(page, range(blocks)))
    (path / SOURCE).parent.mkdir(parents=True)
    (path / SOURCE).write_bytes(data)
    entry = ManifestFile(len(data), algorithm, checksum(data, algorithm) if algorithm else "")
    manifest = encode_manifest(18, 1, [ManifestEntry(SOURCE, entry, 0)], [])
    (path / "backup_manifest").write_bytes(manifest)
    return BackupFiles(path, needs_manifest=True)


def by_reference(source: int, target: int) -> bool:
    """What FICLONE leaves behind."""
    os.pwrite(target, os.pread(source, os.fstat(source).st_size, 0), 0)
    return True


def make(
    base: BackupFiles, work: WorkDirectory, blocks: int, base_blocks: int, changed: tuple[int, ...]
) -> tuple[ManifestFile, bytes, int]:
    """Returns what the manifest is to say, the content, and how many bytes were read or written."""
    fork = RelationFork(NEW, 0, blocks, OLD, base_blocks, changed)
    file = SegmentFile(NAME, SOURCE, fork, 0, blocks, base_blocks, changed)
    assert base.listed is not None
    one = BaseFile(base, work, file, base.listed.get(SOURCE))
    cost = 0
    try:
        one.begin()
        for part in one.parts():
            cost += part.io_bytes
            one.write(part, [page(1_000_000 + block) for block in part.changed])
        made = one.finish()
    finally:
        one.close()
    return made, work.place(NAME).read_bytes(), cost


CASES = {
    "as it was": (3, 3, ()),
    "changed": (3, 3, (1,)),
    "changed in every part": (2 * PART_BLOCKS + 5, 2 * PART_BLOCKS + 5, (0, PART_BLOCKS, 2052)),
    "grown": (5, 3, (0, 3, 4)),
    "grown by zeros": (5, 3, ()),
    "cut": (2, 2, ()),
    "cut and grown": (5, 2, (3,)),
    "cut to nothing": (0, 0, ()),
    "made anew": (2, 0, (0, 1)),
}


@pytest.mark.parametrize("cloned", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_it_has_the_old_pages_the_changed_ones_and_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, cloned: bool
) -> None:
    blocks, base_blocks, changed = CASES[case]
    whole = case in ("as it was", "changed", "changed in every part", "grown", "grown by zeros")
    base = backup(tmp_path / "old", base_blocks if whole else 4)
    monkeypatch.setattr(base_file, "clone", by_reference if cloned else lambda *_: False)
    work = WorkDirectory(tmp_path / "new", {}, {})
    made, content, cost = make(base, work, blocks, base_blocks, changed)
    expected = [page(n) if n < base_blocks else bytes(BLCKSZ) for n in range(blocks)]
    for block in changed:
        expected[block] = page(1_000_000 + block)
    assert content == b"".join(expected)
    assert made.size == len(content)
    assert made.checksum == checksum(content, made.algorithm or "")
    if case == "as it was":
        assert made.algorithm == "SHA256"  # proven by the old sum, which is handed on
        assert cost == (0 if cloned else 2 * len(content))
    elif case == "changed" and cloned:
        assert cost == 4 * BLCKSZ  # three are read, for the sum, and one is written


@pytest.mark.parametrize("changed", [(), (1,)])
@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "missing"])
def test_damage_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, changed: tuple[int, ...]
) -> None:
    monkeypatch.setattr("walstream.datadir.work.SYNC_FILES", 1)
    base = backup(tmp_path / "old", 3)
    path = base.path / SOURCE
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        flipped = content[:-1] + b"x"
        path.write_bytes({"flipped": flipped, "cut": content[:-1]}.get(how, content + b"x"))
    work = WorkDirectory(tmp_path / "new", {}, {})
    with pytest.raises(BackupDamaged, match=SOURCE):
        make(base, work, 3, 3, changed)
    # The next run does not take it for complete.
    assert not WorkDirectory(tmp_path / "new", {}, {}).has(NAME)


def test_damage_behind_where_it_was_cut_is_found_too(tmp_path: Path) -> None:
    """The sum is of the whole file: a part of it proves nothing."""
    base = backup(tmp_path / "old", 3)
    with (base.path / SOURCE).open("r+b") as file:
        file.seek(2 * BLCKSZ)
        file.write(b"x")
    with pytest.raises(BackupDamaged, match=SOURCE):
        make(base, WorkDirectory(tmp_path / "new", {}, {}), 1, 1, ())


def test_a_backup_without_checksums_is_taken_as_it_is(tmp_path: Path) -> None:
    base = backup(tmp_path / "old", 3, None)
    work = WorkDirectory(tmp_path / "new", {}, {})
    made, content, _ = make(base, work, 3, 3, ())
    assert made == ManifestFile(len(content), None, "")


def test_a_later_segment_numbers_its_blocks_by_the_fork(tmp_path: Path) -> None:
    base = backup(tmp_path / "old", 2)
    fork = RelationFork(NEW, 0, RELSEG_SIZE + 3, OLD, RELSEG_SIZE + 2, (RELSEG_SIZE + 1,))
    file = SegmentFile(NAME, SOURCE, fork, RELSEG_SIZE, 3, 2, fork.changed)
    assert base.listed is not None
    work = WorkDirectory(tmp_path / "new", {}, {})
    one = BaseFile(base, work, file, base.listed[SOURCE])
    one.begin()
    (part,) = one.parts()
    one.write(part, [page(7)])
    one.finish()
    one.close()
    assert work.place(NAME).read_bytes() == page(0) + page(7) + bytes(BLCKSZ)
