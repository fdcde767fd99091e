"""The coverage-guided fuzzer of the decoder (libFuzzer by way of atheris); see ``decoder``.

Runs on the kernels that ``build`` makes: it sees which of their branches an input takes, and those
of the Python code that describes records. Ends with libFuzzer's own report; an input that fails is
kept under its ``-artifact_prefix``.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["walstream"]):
    from tests.fuzz.checks import check
    from tests.fuzz.mutate import Mutator
    from walstream.wal import record


def mutate(data: bytes, limit: int, seed: int) -> bytes:
    return Mutator(Random(seed), atheris.Mutate).mutate(bytes(data), limit)


def main() -> None:
    print(f"kernels: {record.__file__}, compiled: {record.COMPILED}", flush=True)
    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
