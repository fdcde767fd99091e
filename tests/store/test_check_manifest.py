"""What arrived is compared with the backup manifest; every difference is told with its file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from walstream.errors import BackupDamaged, StoreError
from walstream.store.base_backup import check_manifest
from walstream.store.manifest import MANIFEST, parse_manifest

BASE = Path("/store/base/0000000002000028.tmp")
NAME = "base/5/16384"
CRC, SHA = "c7f8a1b2", "ab" * 32
ARRIVED = {NAME: (8192, CRC, SHA)}


def manifest(*entries: dict[str, object]) -> bytes:
    text = json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "Files": entries})[:-1] + ",\n"
    total = hashlib.sha256(text.encode()).hexdigest()
    return f'{text}"Manifest-Checksum": "{total}"}}\n'.encode()


def entry(**other: object) -> dict[str, object]:
    plain = {"Path": NAME, "Size": 8192, "Checksum-Algorithm": "CRC32C", "Checksum": CRC}
    return {**plain, **other}


def test_what_arrived_whole_passes() -> None:
    check_manifest(manifest(entry()), ARRIVED, BASE)
    sha = entry(**{"Checksum-Algorithm": "SHA256", "Checksum": SHA})
    check_manifest(manifest(sha), ARRIVED, BASE)


@pytest.mark.parametrize(
    ("entries", "name", "expected", "got"),
    [
        ([entry(), entry(Path="base/5/1")], "base/5/1", "a file of the manifest", "none"),
        ([entry(Size=16384)], NAME, "16384 bytes", "8192 bytes"),
        ([entry(Checksum="00000000")], NAME, "CRC32C 00000000", CRC),
        ([], NAME, "no such file", "one that arrived"),
    ],
)
def test_differences(entries: list[dict[str, object]], name: str, expected: str, got: str) -> None:
    with pytest.raises(BackupDamaged) as caught:
        check_manifest(manifest(*entries), ARRIVED, BASE)
    error = caught.value
    assert error.path == str(BASE / name)
    assert (expected in error.expected, got in error.got) == (True, True)
    assert str(error) == (
        f"the base backup is damaged: {error.path}: expected {error.expected}, got {error.got}"
    )


def test_a_checksum_of_another_kind_is_no_damage() -> None:
    with pytest.raises(StoreError, match="checksum algorithm MD5 is not known") as caught:
        check_manifest(manifest(entry(**{"Checksum-Algorithm": "MD5"})), ARRIVED, BASE)
    assert not isinstance(caught.value, BackupDamaged)
    assert caught.value.path == str(BASE / NAME)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (manifest(entry()).replace(b"8192", b"8193"), "its own checksum does not match"),
        (manifest({"Path": NAME}), "malformed"),
    ],
)
def test_a_manifest_that_is_none(text: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=f"^{BASE / MANIFEST}: {message}") as caught:
        parse_manifest(text, str(BASE / MANIFEST))
    assert caught.value.path == str(BASE / MANIFEST)
