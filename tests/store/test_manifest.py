"""The manifest of a base backup that is made here."""

from __future__ import annotations

import json
import os

import pytest

from walstream.errors import StoreError
from walstream.store.manifest import ManifestEntry, ManifestFile, encode_manifest, parse_manifest
from walstream.wal.timeline import TimelinePart

ENTRIES = [
    ManifestEntry("PG_VERSION", ManifestFile(3, "CRC32C", "01020304"), 0),
    ManifestEntry('a "quoted" \\ näme\n', ManifestFile(0, "SHA256", "ab" * 32), 1_700_000_000),
    ManifestEntry(os.fsdecode(b"not \xff UTF-8"), ManifestFile(1, None, ""), 1),
]


@pytest.mark.parametrize("version", [14, 16, 17, 18])
@pytest.mark.parametrize("entries", [[], ENTRIES[:1], ENTRIES])
def test_it_is_read_as_it_was_written(version: int, entries: list[ManifestEntry]) -> None:
    ranges = [TimelinePart(1, 0x2000028, 0x3000000), TimelinePart(2, 0x3000000, 0x100000100)]
    text = encode_manifest(version, 7234567890123456789, entries, ranges)
    assert parse_manifest(text) == {entry.name: entry.file for entry in entries}
    told = json.loads(text)
    assert told["PostgreSQL-Backup-Manifest-Version"] == (2 if version >= 17 else 1)
    assert told.get("System-Identifier") == (7234567890123456789 if version >= 17 else None)
    assert told["WAL-Ranges"] == [
        {"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/3000000"},
        {"Timeline": 2, "Start-LSN": "0/3000000", "End-LSN": "1/100"},
    ]
    for entry, file in zip(entries, told["Files"], strict=True):
        assert file["Last-Modified"].endswith(" GMT")
        assert ("Path" in file) == (entry is not ENTRIES[2])
    damaged = text.replace(b'"Timeline": 1', b'"Timeline": 3')
    with pytest.raises(StoreError, match="its own checksum does not match"):
        parse_manifest(damaged)
