"""Every record of a real server's mixed workload, redone and compared with the server's pages.

``python -m tests.redo.test_oracle`` prints the coverage table that docs/redo-coverage.md keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.binaries import available_versions
from tests.redo.oracle import Oracle, records_of
from tests.servers import PostgresServer
from tests.workload import WORKLOAD_CONFIG, run_workload

SEGMENT_SIZE = 16 << 20


def check_workload(version: int, checksums: bool | None = None) -> Oracle:
    """Runs the workload under wal_consistency_checking and follows all of its WAL."""
    config = {**WORKLOAD_CONFIG, "wal_consistency_checking": "all"}
    with PostgresServer(
        version, segment_size=SEGMENT_SIZE, checksums=checksums, config=config
    ) as server:
        run_workload(server)
        stamps = server.execute("SHOW data_checksums") == [("on",)]
        oracle = Oracle(version, stamps)
        oracle.follow(records_of(server.wal_directory, version, SEGMENT_SIZE))
        return oracle


def report(oracle: Oracle) -> str:
    return "\n".join(str(finding) for finding in oracle.findings[:20])


def test_every_record_gives_the_servers_page(pg_version: int) -> None:
    oracle = check_workload(pg_version)
    assert not oracle.findings, report(oracle)
    assert len(oracle.checked) > 85
    assert oracle.checked["Heap2 VISIBLE block 0"] > 100


def coverage_table(versions: Iterable[int]) -> str:
    """Returns Markdown: how many records of each operation and block id were checked."""
    oracles = {version: check_workload(version) for version in versions}
    names = sorted(set().union(*(oracle.checked | oracle.restored for oracle in oracles.values())))
    lines = [
        "| Operation, block id | " + " | ".join(map(str, oracles)) + " |",
        "| --- |" + " ---: |" * len(oracles),
    ]
    for name in names:
        cells = [cell(name, oracle.checked, oracle.restored) for oracle in oracles.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    total = [str(sum(oracle.checked.values())) for oracle in oracles.values()]
    lines.append("| **all that were checked** | " + " | ".join(total) + " |")
    wrong = [str(len(oracle.findings)) for oracle in oracles.values()]
    lines.append("| **that differ** | " + " | ".join(wrong) + " |")
    return "\n".join(lines)


def cell(name: str, checked: Counter[str], restored: Counter[str]) -> str:
    if checked[name]:
        return str(checked[name])
    return f"({restored[name]})" if restored[name] else ""


if __name__ == "__main__":
    print(coverage_table(available_versions()))
