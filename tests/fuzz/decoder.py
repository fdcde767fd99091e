"""Fuzzes all that reads WAL: stream and scan, records, images, descriptions, posting lists.

::

    python -m tests.fuzz.decoder --seconds 600
    python -m tests.fuzz.decoder FILE ...        # those inputs again, on the kernels as installed

Guided by coverage, on kernels that ``build`` makes with sanitizers. What is checked of each
input says ``checks``, how they are changed ``mutate``, what they mean ``inputs``. An input that
fails is kept in ``--failures``. ``test_decoder`` does the same blindly, in CI.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.build import Build
from tests.fuzz.checks import check
from tests.fuzz.mutate import LIMIT
from tests.fuzz.seeds import seeds


def keep(data: bytes, directory: Path) -> Path:
    """Writes an input to a file of ``directory`` and returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def guided(seconds: int, seed: int, build: Path, failures: Path, corpus: Path) -> int:
    failures.mkdir(parents=True, exist_ok=True)
    for case in seeds():
        keep(case.pack(), corpus)
    return Build(build).run(
        "tests.fuzz.guided",
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={LIMIT}",
        "-len_control=0",
        "-timeout=30",
        "-rss_limit_mb=3000",
        "-malloc_limit_mb=200",
        "-print_final_stats=1",
        f"-artifact_prefix={failures}/",
        str(corpus),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the decoder.")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to check again")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0x7FFFFFFF)
    parser.add_argument("--build", type=Path, help="where to build (and find) the kernels")
    parser.add_argument("--corpus", type=Path, help="where inputs that reach new code are kept")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz-failures"))
    options = parser.parse_args(arguments)
    if options.files:
        for path in options.files:
            print(path, check(path.read_bytes()))
        return 0
    with tempfile.TemporaryDirectory(prefix="walstream-fuzz-") as temporary:
        build = options.build or Path(temporary) / "build"
        corpus = options.corpus or Path(temporary) / "corpus"
        failures = options.failures.resolve()
        return guided(options.seconds, options.seed, build, failures, corpus)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
