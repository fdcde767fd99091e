"""Base backups of a store against their manifests; what was proven before is not read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from walstream.errors import BackupDamaged
from walstream.scanning.threads import in_order
from walstream.store.backup_files import BackupFiles
from walstream.store.base_backup import BaseBackup
from walstream.store.store import Store
from walstream.verify.ledger import Ledger


@dataclass(slots=True)
class BasesReport:
    """How many files base backups have, how many of them were not read, what is damaged."""

    backups: int = 0
    files: int = 0
    remembered: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "backups": self.backups,
            "files": self.files,
            "remembered": self.remembered,
            "bytes": self.bytes,
            "damaged": self.damaged,
        }


def verify_bases(
    store: Store,
    backups: Sequence[BaseBackup],
    *,
    threads: int,
    ledger: Ledger,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> BasesReport:
    """Compares every file of the base backups with their manifests.

    Args:
        store: theirs.
        backups: see there.
        threads: so many files at a time.
        ledger: of the store.
        progress: called with the number of bytes that were read so far, and of how many.

    Raises:
        StoreError: a manifest is missing or malformed.
        ReadError: a file cannot be read.
    """
    report = BasesReport(backups=len(backups))
    work: list[tuple[BackupFiles, str, str, int]] = []
    for backup in backups:
        files = BackupFiles(backup.path, needs_manifest=True)
        place = backup.path.relative_to(store.path).as_posix()
        for name, size in files.sizes():
            report.files += 1
            if ledger.recalls_file(f"{place}/{name}"):
                report.remembered += 1
            else:
                work.append((files, name, f"{place}/{name}", size))
    total = sum(size for *_, size in work)

    def prove(item: tuple[BackupFiles, str, str, int]) -> str | None:
        files, name, _, _ = item
        try:
            files.prove(name)
        except BackupDamaged as error:
            return str(error)
        return None

    results = in_order(threads, lambda: prove, work)
    for (_, _, key, size), wrong in zip(work, results, strict=True):
        report.bytes += size
        if wrong is None:
            ledger.note_file(key)
        else:
            report.damaged.append(wrong)
        progress(report.bytes, total)
    return report
