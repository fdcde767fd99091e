"""Pages of a base backup: only what the backup brought, or an error that names the block."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from walstream.errors import PageDamaged, StoreError
from walstream.redo.rules.checksum import with_checksum
from walstream.store.base_backup_pages import BasePages
from walstream.store.manifest import ALGORITHMS
from walstream.wal.model import BufferTag, RelFileLocator
from walstream.wal.relpath import RELSEG_SIZE

REL = RelFileLocator(1663, 5, 16384)
NAME = "base/5/16384"
FULL = RELSEG_SIZE * 8192


def tag(block: int, fork: int = 0) -> BufferTag:
    return BufferTag(*REL, fork, block)


def page(block: int) -> bytes:
    plain = bytes(14) + b"\0\x20" + bytes([block % 251]) * (8192 - 16)
    return with_checksum(plain, block)


def entry(data: bytes, algorithm: str | None) -> dict[str, object]:
    found: dict[str, object] = {"Size": len(data)}
    if algorithm is not None:
        total = ALGORITHMS[algorithm]()
        total.update(data)
        found |= {"Checksum-Algorithm": algorithm, "Checksum": total.hexdigest()}
    return found


def write_manifest(path: Path, entries: dict[str, dict[str, object]]) -> None:
    files = [{"Path": name, **found} for name, found in entries.items()]
    body = json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": files})[:-1] + ",\n"
    checksum = hashlib.sha256(body.encode()).hexdigest()
    (path / "backup_manifest").write_text(f'{body}"Manifest-Checksum": "{checksum}"}}\n')


def backup(path: Path, files: dict[str, bytes], algorithm: str | None = "SHA256") -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    write_manifest(path, {name: entry(data, algorithm) for name, data in files.items()})
    return path


@pytest.fixture(params=[True, False], ids=["page checksums", "none"])
def checksums(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256", "SHA512"])
def test_what_the_backup_brought_comes_back(
    tmp_path: Path, checksums: bool, algorithm: str
) -> None:
    data = page(0) + bytes(8192) + page(2)
    path = backup(tmp_path, {NAME: data, NAME + "_vm": page(0)}, algorithm)
    pages = BasePages(path, checksums=checksums, needs_manifest=True)
    assert [pages.read(tag(i)) for i in range(4)] == [page(0), bytes(8192), page(2), None]
    assert pages.read(tag(0, 2)) == page(0)
    assert pages.read(tag(0, 3)) is None
    assert pages.sizes() == {(REL, 0): 3, (REL, 2): 1}


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256", None])
@pytest.mark.parametrize("at", [8192, 8192 + 8, 8192 + 14, 8192 + 4000, 2 * 8192 - 1])
def test_a_flipped_byte_is_refused_by_name(
    tmp_path: Path, checksums: bool, algorithm: str | None, at: int
) -> None:
    path = backup(tmp_path, {NAME: page(0) + page(1)}, algorithm)
    data = bytearray((path / NAME).read_bytes())
    data[at] ^= 0x40
    (path / NAME).write_bytes(data)
    pages = BasePages(path, checksums=checksums, needs_manifest=True)
    if not checksums and algorithm is None:
        assert pages.read(tag(1)) == bytes(data[8192:])  # nothing says what it was
        return
    with pytest.raises(PageDamaged, match=r"block 1 of relation 1663/5/16384 fork main") as caught:
        pages.read(tag(1))
    assert caught.value.tag == tag(1)
    assert caught.value.path == str(path / NAME)
    if checksums:
        assert pages.read(tag(0)) == page(0)


def test_zeros_in_the_place_of_a_page_are_damage(tmp_path: Path, checksums: bool) -> None:
    path = backup(tmp_path, {NAME: page(0) + page(1)})
    (path / NAME).write_bytes(page(0) + bytes(8192))
    with pytest.raises(PageDamaged, match="of the whole file, got"):
        BasePages(path, checksums=checksums).read(tag(1))


def test_files_that_are_missing_cut_or_longer_are_damage(tmp_path: Path, checksums: bool) -> None:
    path = backup(tmp_path, {NAME: page(0) + page(1)})
    for left in (0, 8192, 8192 + 100, 2 * 8192 - 1, 3 * 8192):
        (path / NAME).write_bytes((page(0) + page(1) + page(2))[:left])
        for block in (0, 1):
            with pytest.raises(PageDamaged, match=rf"expected 16384 bytes, got {left}$"):
                BasePages(path, checksums=checksums).read(tag(block))
    (path / NAME).unlink()
    pages = BasePages(path, checksums=checksums)
    with pytest.raises(PageDamaged, match="expected 16384 bytes, got no such file"):
        pages.read(tag(1))
    assert pages.sizes() == {(REL, 0): 2}


def test_a_file_that_is_put_in_place_again_is_read_again(tmp_path: Path) -> None:
    good = page(0)
    path = backup(tmp_path, {NAME: good})
    pages = BasePages(path)
    assert pages.read(tag(0)) == good
    (path / "other").write_bytes(good[:-1] + b"\x99")
    (path / "other").rename(path / NAME)
    with pytest.raises(PageDamaged):
        pages.read(tag(0))
    (path / "other").write_bytes(good)
    (path / "other").rename(path / NAME)
    assert pages.read(tag(0)) == good


def test_a_fork_ends_with_its_first_file_that_is_not_full(tmp_path: Path) -> None:
    """A truncated relation keeps its later files, empty."""
    sizes = {"": FULL, ".1": FULL, ".2": 8192, "_fsm": 8192, "_fsm.1": 0, "_init": 0}
    write_manifest(tmp_path, {NAME + suffix: {"Size": size} for suffix, size in sizes.items()})
    expected = {(REL, 0): 2 * RELSEG_SIZE + 1, (REL, 1): 1, (REL, 3): 0}
    assert BasePages(tmp_path).sizes() == expected
    # A file in the middle of a fork that is not there now was there.
    with pytest.raises(PageDamaged, match=r"16384\.1: expected 1073741824 bytes"):
        BasePages(tmp_path).read(tag(RELSEG_SIZE + 7))


def test_tablespaces_are_known_without_their_directories(tmp_path: Path) -> None:
    name = "pg_tblspc/16385/PG_15_202209061/5/16384"
    path = backup(tmp_path, {name: page(0)})
    other = tag(0)._replace(spc_oid=16385)
    assert BasePages(path).read(other) == page(0)
    (path / name).unlink()
    with pytest.raises(PageDamaged, match="no such file"):
        BasePages(path).read(other)


def test_a_manifest_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    path = backup(tmp_path, {NAME: page(0)})
    manifest = path / "backup_manifest"
    manifest.write_bytes(manifest.read_bytes().replace(b"8192", b"8193"))
    with pytest.raises(StoreError, match="its own checksum does not match"):
        BasePages(path, needs_manifest=True).sizes()
    manifest.unlink()
    with pytest.raises(StoreError, match="backup_manifest is missing"):
        BasePages(path, needs_manifest=True).read(tag(0))
    assert BasePages(path).read(tag(0)) == page(0)
