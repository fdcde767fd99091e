"""Writes docs/evidence/descriptions.md: which operations were compared with pg_waldump by line.

python -m tests.rmgr.coverage docs/evidence/descriptions.md
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.rmgr.test_parity import NAME, compare
from tests.support.servers import PostgresServer
from tests.support.workload import WORKLOAD_CONFIG, run_workload
from walstream.rmgr.rmgrlist import rmgr_name
from walstream.rmgr.table import operations
from walstream.wal.versions import VERSIONS

HEAD = """# Descriptions, compared with pg_waldump

For one run of `tests/support/workload.py`: how many lines of each operation were the same as those
that pg_waldump of that major version prints, short and with `--bkp-details`. 14 is compared with
the pg_waldump of 15, on WAL rewritten to its page magic and flags (`tests/rmgr/translate.py`);
PREPARE of 14, whose body differs, is not. Empty: the version has no such operation. 0: the workload
does not write it.

Made by `python -m tests.rmgr.coverage docs/evidence/descriptions.md`.

Lines compared: {lines}. Differences: 0.

| Operation | 14 | 15 | 16 | 17 | 18 |
| --- | ---: | ---: | ---: | ---: | ---: |
"""
Counts = Counter[tuple[str, str]]


def count(version: int) -> Counts:
    """Returns how often each operation was compared; raises where a line differs."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer(version, config=WORKLOAD_CONFIG) as server,
    ):
        run_workload(server)
        server.stop()
        return Counter(NAME.findall(compare(version, server.wal_directory, Path(scratch))))


def main() -> None:
    counts: dict[int, Counts] = {version: count(version) for version in VERSIONS}
    names: dict[tuple[int, str], set[int]] = {}
    for version in VERSIONS:
        for (rmgr_id, _), op in sorted(operations(version).items()):
            if op.name is not None:
                names.setdefault((rmgr_id, op.name), set()).add(version)
    lines = ", ".join(f"{version}: {sum(counts[version].values()):,}" for version in VERSIONS)
    text = HEAD.format(lines=lines)
    for (rmgr_id, name), versions in sorted(names.items()):
        cells = (
            f"{counts[version][rmgr_name(rmgr_id), name]}" if version in versions else ""
            for version in VERSIONS
        )
        text += f"| {rmgr_name(rmgr_id)} {name} | {' | '.join(cells)} |\n"
    Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
