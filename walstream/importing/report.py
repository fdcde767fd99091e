"""What an import would take, or took: as JSON and as lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from walstream.verify.report import Problem
from walstream.wal.model import format_lsn


class BaseReport(NamedTuple):
    """One base backup. ``there``: the store has it. ``bytes`` of its files, packed ones as packed.

    ``manifest``: it came with one, which proves each of its files.
    """

    path: Path
    start_lsn: int
    stop_lsn: int | None
    timeline: int
    bytes: int
    files: int
    manifest: bool
    stopped: bool
    there: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "start_lsn": format_lsn(self.start_lsn),
            "stop_lsn": None if self.stop_lsn is None else format_lsn(self.stop_lsn),
            "timeline": self.timeline,
            "bytes": self.bytes,
            "files": self.files,
            "manifest": self.manifest,
            "stopped_server": self.stopped,
            "there": self.there,
        }

    def line(self) -> str:
        end = "its end is told by WAL" if self.stop_lsn is None else format_lsn(self.stop_lsn)
        proof = "proven by its manifest" if self.manifest else "without a manifest"
        if self.stopped and not self.manifest:
            proof = "of a server that was shut down, without a manifest"
        there = ", which the store has" if self.there else ""
        return (
            f"base backup {self.path}: {format_lsn(self.start_lsn)} to {end}, timeline "
            f"{self.timeline}, {self.bytes >> 20} MB, {proof}{there}"
        )


@dataclass(slots=True)
class ImportReport:
    """All of an import. ``[start_lsn, end_lsn)`` is the WAL of the store, from record to record.

    ``holes`` are what is missing or damaged in it; ``indexed_lsn`` is up to where the index was
    made, None where it was not; ``not_indexed`` says why it could not be.
    """

    store: Path
    dry_run: bool
    system_id: int
    version: int
    segment_size: int
    bases: list[BaseReport] = field(default_factory=list)
    wanted: int = 0
    taken: int = 0
    there: int = 0
    bytes: int = 0
    timeline: int = 1
    start_lsn: int = 0
    end_lsn: int = 0
    holes: list[Problem] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    not_there: list[str] = field(default_factory=list)
    indexed_lsn: int | None = None
    index_start_lsn: int | None = None
    not_indexed: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, damaged or refused."""
        return not (self.holes or self.refused)

    def as_json(self) -> dict[str, Any]:
        return {
            "store": str(self.store),
            "dry_run": self.dry_run,
            "complete": self.complete,
            "system_identifier": str(self.system_id),
            "version": self.version,
            "segment_size": self.segment_size,
            "timeline": self.timeline,
            "bases": [base.as_json() for base in self.bases],
            "segments": {
                "wanted": self.wanted,
                "taken": self.taken,
                "there": self.there,
                "bytes": self.bytes,
            },
            "start_lsn": format_lsn(self.start_lsn),
            "end_lsn": format_lsn(self.end_lsn),
            "holes": [hole.as_json() for hole in self.holes],
            "refused": self.refused,
            "left_out": self.left_out,
            "not_there": self.not_there,
            "index_start_lsn": _lsn(self.index_start_lsn),
            "indexed_lsn": _lsn(self.indexed_lsn),
            "not_indexed": self.not_indexed,
        }

    def lines(self) -> Iterator[str]:
        """Yields the report for a person; what is wrong stands last."""
        for base in self.bases:
            yield base.line()
        span = f"{format_lsn(self.start_lsn)} to {format_lsn(self.end_lsn)}"
        what = f"WAL of timeline {self.timeline}: "
        if self.dry_run:
            yield f"{what}{self.wanted} segments and histories to take, {span} with those there"
        else:
            yield (
                f"{what}{self.taken} segments and histories taken ({self.bytes >> 20} MB), "
                f"{self.there} there already, {span}"
            )
        if self.left_out:
            yield (
                f"left out: {len(self.left_out)} segments of branches that timeline "
                f"{self.timeline} does not come from: {_some(self.left_out)}"
            )
        if self.not_there:
            yield f"listed by the archive, but not there: {_some(self.not_there)}"
        if self.indexed_lsn is not None and self.index_start_lsn is not None:
            yield (
                f"indexed from {format_lsn(self.index_start_lsn)} to {format_lsn(self.indexed_lsn)}"
            )
        if self.not_indexed is not None:
            yield f"not indexed: {self.not_indexed}"
        for reason in self.refused:
            yield f"not taken: {reason}"
        for hole in self.holes:
            yield f"hole: {hole.message}"
        if not self.dry_run:
            yield "complete" if self.complete else "with holes"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _lsn(lsn: int | None) -> str | None:
    return None if lsn is None else format_lsn(lsn)
