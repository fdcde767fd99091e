"""The manifest of a base backup: which files it has, how long, and their checksums (pure)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from walstream.errors import StoreError
from walstream.wal.model import format_lsn, parse_lsn
from walstream.wal.timeline import TimelinePart

MANIFEST = "backup_manifest"


class ManifestFile(NamedTuple):
    """A file of a backup. ``algorithm`` is None where the backup was made without checksums.

    ``checksum`` is hexadecimal, as PostgreSQL prints it.
    """

    size: int
    algorithm: str | None
    checksum: str


class Sum(Protocol):
    """A checksum while it is made."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Crc32cSum:
    """CRC-32C, printed as a manifest prints it: the bytes of the little-endian number."""

    def __init__(self) -> None:
        from crc32c import crc32c  # slow to import: it asks for its own version

        self._crc32c = crc32c
        self._crc = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._crc = self._crc32c(data, self._crc)

    def hexdigest(self) -> str:
        return self._crc.to_bytes(4, "little").hex()


ALGORITHMS: dict[str, Callable[[], Sum]] = {
    "CRC32C": Crc32cSum,
    "SHA224": hashlib.sha224,
    "SHA256": hashlib.sha256,
    "SHA384": hashlib.sha384,
    "SHA512": hashlib.sha512,
}


def parse_manifest(manifest: bytes, where: str = "backup manifest") -> dict[str, ManifestFile]:
    """Returns the files that a manifest lists, by their path below the data directory.

    ``where`` is the file that is told of.

    Raises:
        StoreError: it is malformed, or its own checksum does not match.
    """
    body, _, last = manifest.rpartition(b'"Manifest-Checksum"')
    claimed = re.match(rb'\s*:\s*"([0-9a-f]{64})"', last)
    if claimed is None or hashlib.sha256(body).hexdigest().encode() != claimed[1]:
        raise StoreError(f"{where}: its own checksum does not match", where)
    try:
        entries: list[dict[str, Any]] = json.loads(manifest)["Files"]
        return {
            _path_of(entry): ManifestFile(
                int(entry["Size"]), entry.get("Checksum-Algorithm"), entry.get("Checksum", "")
            )
            for entry in entries
        }
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(f"{where}: malformed: {exc}", where) from exc


def _path_of(entry: dict[str, Any]) -> str:
    if "Encoded-Path" in entry:
        return os.fsdecode(bytes.fromhex(entry["Encoded-Path"]))
    return os.fsdecode(str(entry["Path"]).encode())  # the manifest is UTF-8, whatever we use


def parse_wal_ranges(manifest: bytes) -> list[TimelinePart]:
    """Returns the WAL that a backup needs, as its manifest says; the parts are in no order.

    Raises:
        StoreError: it is malformed.
    """
    try:
        return [
            TimelinePart(
                int(each["Timeline"]), parse_lsn(each["Start-LSN"]), parse_lsn(each["End-LSN"])
            )
            for each in json.loads(manifest).get("WAL-Ranges", [])
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise StoreError(f"backup manifest: malformed: {exc}") from exc


class ManifestEntry(NamedTuple):
    """What a manifest says of one file; ``changed_s``: seconds since 1970."""

    name: str
    file: ManifestFile
    changed_s: int


def encode_manifest(
    version: int, system_id: int, entries: Iterable[ManifestEntry], ranges: Iterable[TimelinePart]
) -> bytes:
    """Returns the manifest of a backup, as backup_manifest.c writes it.

    ``ranges``: the WAL that makes the backup consistent. From 17 on the cluster is named too.
    """
    begin = [f'"System-Identifier": {system_id},'] if version >= 17 else []
    lines = [f'{{ "PostgreSQL-Backup-Manifest-Version": {1 + len(begin)},', *begin, '"Files": [']
    lines += _joined(_file_text(entry) for entry in entries)
    lines += ["],", '"WAL-Ranges": [']
    lines += _joined(
        f'{{ "Timeline": {part.timeline}, "Start-LSN": "{format_lsn(part.begin)}", '
        f'"End-LSN": "{format_lsn(part.end)}" }}'
        for part in ranges
    )
    body = "\n".join([*lines, "],\n"]).encode()
    # The sum is over all lines before its own.
    return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def _joined(objects: Iterable[str]) -> Iterator[str]:
    found = list(objects)
    yield from (text + "," for text in found[:-1])
    yield from found[-1:]


def _file_text(entry: ManifestEntry) -> str:
    name, file = os.fsencode(entry.name), entry.file
    try:
        path = f'"Path": {json.dumps(name.decode(), ensure_ascii=False)}'
    except UnicodeDecodeError:
        path = f'"Encoded-Path": "{name.hex()}"'
    changed = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(entry.changed_s))
    text = f'{{ {path}, "Size": {file.size}, "Last-Modified": "{changed}"'
    if file.algorithm is not None:
        text += f', "Checksum-Algorithm": "{file.algorithm}", "Checksum": "{file.checksum}"'
    return text + " }"
