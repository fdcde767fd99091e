"""What wal_consistency_checking says about redo, for every operation and version.

:func:`check_version` runs the whole workload on a real server with images of every changed block
in its WAL, and follows that WAL with :class:`tests.redo.oracle.Oracle`.
``python -m tests.redo.coverage FILE`` does so for 14 to 18 and writes docs/evidence/coverage.md.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.redo.oracle import Finding, Oracle, records_of, with_lsn
from tests.support.binaries import VERSIONS
from tests.support.servers import PostgresServer, Setting
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.rmgr.rmgrlist import RMGR_NAMES
from walstream.wal.model import BLCKSZ, FORK_NAMES, BlockRef, BufferTag, XLogRecord

_FORK_SUFFIXES = {
    number: "" if name == "main" else f"_{name}" for name, number in FORK_NAMES.items()
}
_GLOBAL_TABLESPACE = 1664


class Quirk(NamedTuple):
    """A difference between a primary and its own standby, which PostgreSQL itself has."""

    kind: str
    operation: str
    detail: str
    why: str


QUIRKS = (
    Quirk(
        "lsn",
        "Gist",
        r"the server's 0/1$",
        "a sorted build writes pages under a fixed LSN and logs them afterwards",
    ),
    Quirk(
        "lsn",
        "Hash SQUEEZE_PAGE block 2",
        r"the server's 0/0$",
        "the freed page is made anew before the record is written",
    ),
)

# These are tests/redo/oracle.py's own.
_ALWAYS_KNOWN = (
    "- Gist DELETE (page): redo sets F_TUPLES_DELETED, the primary does not, gist_mask shows it.",
    "- Database CREATE_WAL_LOG (page): map pages are logged with a hole and lose their bits.",
)


class BasePages(dict[BufferTag, bytes]):
    """Pages by tag; those not there yet are read from a data directory that no server changes."""

    def __init__(self, data_directory: Path) -> None:
        super().__init__()
        self.data_directory = data_directory
        self.gone: set[BufferTag] = set()

    def get(self, tag: BufferTag, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        if tag in self:
            return self[tag]
        return default

    def __contains__(self, tag: object) -> bool:
        if super().__contains__(tag):
            return True
        assert isinstance(tag, BufferTag)
        page = None if tag in self.gone else self._read(tag)
        if page is None:
            self.gone.add(tag)
            return False
        self[tag] = page
        return True

    def __delitem__(self, tag: BufferTag) -> None:
        super().__delitem__(tag)
        self.gone.add(tag)

    def _read(self, tag: BufferTag) -> bytes | None:
        folder = "global" if tag.spc_oid == _GLOBAL_TABLESPACE else f"base/{tag.db_oid}"
        path = self.data_directory / folder / f"{tag.rel_number}{_FORK_SUFFIXES[tag.fork]}"
        if not path.exists():
            return None
        with path.open("rb") as file:
            file.seek(tag.block * BLCKSZ)
            page = file.read(BLCKSZ)
        return page if len(page) == BLCKSZ else None


class PrimaryOracle(Oracle):
    """An oracle that keeps pace with what the primary does to LSNs without telling redo."""

    def add(self, record: XLogRecord) -> None:
        super().add(record)
        if record.rmgr_id == 0:
            for block in record.blocks:
                self._follow_hint(record, block)

    def _follow_hint(self, record: XLogRecord, block: BlockRef) -> None:
        # With full_page_writes off the image of FPI_FOR_HINT is left out and redo does nothing;
        # the primary has stamped the page all the same.
        page = self.pages.get(block.tag)
        if block.image is None and page is not None:
            self.pages[block.tag] = with_lsn(page, record.end_lsn)


class Coverage(NamedTuple):
    """What one run has shown: counts by ``operation block N``, and disagreements."""

    checked: Counter[str]
    restored: Counter[str]
    findings: list[Finding]
    quirks: Counter[Quirk]


def check_version(
    version: int, settings: Mapping[str, Setting], *, checksums: bool | None = None
) -> Coverage:
    """Run the workload on a server of ``version`` and check every record of it."""
    config = {**WORKLOAD_CONFIG, "wal_consistency_checking": "all", **settings}
    with PostgresServer(version, checksums=checksums, config=config) as server:
        server.create()
        with PostgresServer(version, checksums=checksums) as untouched:
            untouched.stop("immediate")
            run_workload(server)
            hints = ("data_checksums", "wal_log_hints")
            stamp_hints = any(server.execute(f"SHOW {name}") == [("on",)] for name in hints)
            server.stop()
            oracle = PrimaryOracle(version, stamp_hints, BasePages(untouched.data_directory))
            oracle.follow(records_of(server.wal_directory, version, server.segment_size))
    return _judge(oracle)


def _judge(oracle: Oracle) -> Coverage:
    findings = []
    quirks: Counter[Quirk] = Counter()
    for finding in oracle.findings:
        for quirk in QUIRKS:
            if (
                finding.kind == quirk.kind
                and finding.operation.startswith(quirk.operation)
                and re.search(quirk.detail, finding.detail)
            ):
                quirks[quirk] += 1
                break
        else:
            findings.append(finding)
    return Coverage(oracle.checked, oracle.restored, findings, quirks)


def table(results: Mapping[int, Coverage]) -> str:
    """The coverage of several versions as a Markdown table."""
    operations = sorted(
        {name for result in results.values() for name in result.checked | result.restored},
        key=_sort_key,
    )
    # Up to 32 blocks of one kind: the first stands for all.
    operations = [name for name in operations if not re.match("XLOG FPI block [1-9]", name)]
    lines = [
        "| Operation, block id | " + " | ".join(str(version) for version in results) + " |",
        "| --- |" + " ---: |" * len(results),
    ]
    for operation in operations:
        cells = []
        for result in results.values():
            if result.checked[operation]:
                cells.append(str(result.checked[operation]))
            else:
                cells.append("image" if result.restored[operation] else "")
        lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _sort_key(operation: str) -> tuple[int, str, int]:
    name, _, block = operation.rpartition(" block ")
    rmgr = name.split()[0]
    return RMGR_NAMES.index(rmgr), name, int(block)


_HEAD = """# Redo, checked record by record

`wal_consistency_checking = all` makes a server add to each record the image of every block that
the record changed. The table counts, for one run of `tests/support/workload.py`, the records whose
redo was compared with that image under PostgreSQL's own mask, heap pages also under a stricter one.
*image*: the record always carries an image that is restored, so there is nothing to compute.

Made by `python -m tests.redo.coverage docs/evidence/coverage.md`.
"""


def main(target: Path) -> None:
    """Write the coverage of all versions; fail where redo and a server disagree."""
    results = {}
    for version in VERSIONS:
        results[version] = check_version(version, {"full_page_writes": False})
        for finding in results[version].findings[:50]:
            print(version, finding)
    known = [
        f"- {quirk.operation} ({quirk.kind}): {quirk.why}."
        for quirk in QUIRKS
        if any(result.quirks[quirk] for result in results.values())
    ]
    totals = ", ".join(
        f"{version}: {result.checked.total():,}" for version, result in results.items()
    )
    disagreements = sum(len(result.findings) for result in results.values())
    target.write_text(
        f"{_HEAD}\nRecord and block pairs compared: {totals}. Disagreements: {disagreements}.\n\n"
        "Differences between a primary and its own standby, which are not counted:\n\n"
        + "\n".join([*known, *_ALWAYS_KNOWN])
        + f"\n\n{table(results)}\n"
    )
    if disagreements:
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
