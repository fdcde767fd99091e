"""CPU time of the redo engine alone: no pipe, no process, one core.

    python -m bench.redo_engine [--plain]

Each line is the median of several rounds of requests handed to ``Engine.process`` in batches of
at most 256 KB. ``--plain`` runs the engine uncompiled.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

from bench.redo_inputs import all_inputs

ROUNDS = 7
ROUND_S = 0.25
BATCH = 256 << 10
# PostgreSQL 15's own C code in a redo child, saturated, pipes included: child CPU us a request,
# for chains of such records (measured once, on the machine of docs/evidence/performance.md).
PEER = {
    "ping": 0.88,
    "neon short": 3.0,
    "base + 3": 4.0,
    "neon medium": 38.5,
    "base + 40": 12.4,
    "1000 heap inserts": 170.0,
    "1000 HOT updates, prunes": 170.0,
    "1000 btree inserts": 170.0,
}


def make_engine(plain: bool) -> Any:
    if plain:
        from tests.redo.builds import UNCOMPILED

        return UNCOMPILED.Engine(15, False)
    from walstream.redo.rules.engine import Engine

    return Engine(15, False)


def cpu_per_request(engine: Any, request: bytes) -> float:
    """Returns the seconds of CPU that one request takes."""
    copies = max(1, min(BATCH // len(request), 32))
    batch = bytearray(request * copies)
    samples = []
    for _ in range(ROUNDS):
        done = 0
        start = time.process_time()
        while (spent := time.process_time() - start) < ROUND_S:
            if engine.process(batch, len(batch)) != len(batch):
                raise RuntimeError("the engine left part of a whole request")
            engine.replies = bytearray()
            done += copies
        samples.append(spent / done)
    return median(samples)


def main() -> None:
    plain = "--plain" in sys.argv[1:]
    engine = make_engine(plain)
    module = sys.modules[type(engine).__module__] if not plain else None
    path = getattr(module, "__file__", "") or ""
    print(f"engine: {'compiled' if path.endswith('.so') else 'plain Python'}")
    print(f"{'request':26} {'bytes':>7} {'records':>7} {'us/request':>10} {'us/record':>9}  C code")
    for name, (request, records) in all_inputs().items():
        seconds = cpu_per_request(engine, request) * 1e6
        each = f"{seconds / records:9.3f}" if records else " " * 9
        peer = f"{PEER[name]:6.1f}" if name in PEER else ""
        print(f"{name:26} {len(request):7} {records:7} {seconds:10.2f} {each}  {peer}")


if __name__ == "__main__":
    main()
