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


class Target:
    """What libFuzzer calls; it must use our mutator, or nearly all inputs die at a checksum."""

    def __init__(self) -> None:
        self.checked = 0
        self.mutated = 0

    def check(self, data: bytes) -> None:
        self.checked += 1
        assert self.mutated or self.checked < 20_000, "the mutator is not in use"
        check(data)

    def mutate(self, data: bytes, limit: int, seed: int) -> bytes:
        self.mutated += 1
        return Mutator(Random(seed), atheris.Mutate).mutate(bytes(data), limit)


def main() -> None:
    print(f"kernels: {record.__file__}, compiled: {record.COMPILED}", flush=True)
    target = Target()
    atheris.Setup(sys.argv, target.check, custom_mutator=target.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
