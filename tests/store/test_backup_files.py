"""Files of a base backup that are read for what they say: proven first, whatever they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from walstream.errors import BackupDamaged, StoreError
from walstream.state.slru import BackupArea
from walstream.store.backup_files import BackupFiles

XACT = bytes(range(256)) * 64  # two pages
FILES = {"pg_xact/0000": XACT, "global/pg_filenode.map": b"map", "PG_VERSION": b"18\n"}


def write_backup(path: Path) -> BackupFiles:
    listed = []
    for name, content in FILES.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
        checksum = hashlib.sha256(content).hexdigest()
        listed.append(
            {
                "Path": name,
                "Size": len(content),
                "Checksum-Algorithm": "SHA256",
                "Checksum": checksum,
            }
        )
    text = json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": listed})[:-1] + ",\n"
    total = hashlib.sha256(text.encode()).hexdigest()
    (path / "backup_manifest").write_text(f'{text}"Manifest-Checksum": "{total}"}}\n')
    return BackupFiles(path, needs_manifest=True)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "longer":
        path.write_bytes(content + b"\0")
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("how", ["missing", "cut", "longer", "flipped"])
@pytest.mark.parametrize("name", list(FILES))
def test_what_is_not_as_it_was_backed_up_is_refused(tmp_path: Path, name: str, how: str) -> None:
    files = write_backup(tmp_path)
    assert files.read(name) == FILES[name]
    files.prove(name)
    damage(tmp_path / name, how)
    with pytest.raises(BackupDamaged, match=name) as caught:
        files.read(name)
    assert caught.value.path == str(tmp_path / name)
    with pytest.raises(BackupDamaged, match=name):  # though it was proven before
        files.prove(name)
    assert files.has(name)


@pytest.mark.parametrize("how", ["missing", "cut", "flipped"])
def test_statuses_of_transactions_are_proven(tmp_path: Path, how: str) -> None:
    """A page of zeros would make every transaction one that never committed."""
    area = BackupArea(write_backup(tmp_path), "pg_xact")
    assert area.sizes() == {0: len(XACT)}
    assert area.read(0, 8192, 8192) == XACT[8192:]
    damage(tmp_path / "pg_xact/0000", how)
    assert area.sizes() == {0: len(XACT)}
    with pytest.raises(BackupDamaged, match="pg_xact/0000"):
        area.read(0, 8192, 8192)


def test_strangers_are_no_part_of_it(tmp_path: Path) -> None:
    files = write_backup(tmp_path)
    (tmp_path / "pg_xact/0001").write_bytes(XACT)
    assert dict(files.sizes()) == {name: len(content) for name, content in FILES.items()}
    assert not files.has("pg_xact/0001")
    with pytest.raises(BackupDamaged, match="does not list"):
        files.read("pg_xact/0001")


def test_a_missing_manifest(tmp_path: Path) -> None:
    write_backup(tmp_path)
    (tmp_path / "backup_manifest").unlink()
    with pytest.raises(StoreError, match="backup_manifest is missing"):
        BackupFiles(tmp_path, needs_manifest=True).read("PG_VERSION")
    plain = BackupFiles(tmp_path)  # a server's own directory
    assert plain.read("PG_VERSION") == b"18\n"
    assert dict(plain.sizes())["pg_xact/0000"] == len(XACT)
