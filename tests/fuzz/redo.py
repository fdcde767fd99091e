"""Feeds damaged requests to the compiled redo rules, for a build with AddressSanitizer.

::

    python -m tests.fuzz.redo --seconds 300

``build`` makes the kernels. The process ends by the sanitizer's report, or with a line that says
how many requests gave a page and how many an error. ``--verbose`` prints the seed of each round;
``--seed`` repeats it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.build import Build
from tests.fuzz.inputs import exact
from tests.redo.rules.test_mutations import messages_of
from tests.redo.vectors import redo_cases
from walstream.errors import WalstreamError
from walstream.redo.rules import engine as engine_module
from walstream.redo.rules.engine import Engine

_INTERESTING = (0, 1, 2, 4, 7, 8, 16, 24, 64, 127, 128, 192, 254, 255)
_HEADER = 40


def damage(request: bytes, random: Random) -> bytes:
    """Returns the request with some bytes of its records and its base page changed or cut off."""
    messages = messages_of(request)
    last = messages[-2]
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        message = last if random.random() < 0.7 else random.choice(messages)
        body = 13 if message[0] == 0x41 else 22
        if len(message) <= body:
            continue
        place = random.randrange(body, len(message))
        if random.random() < 0.5:
            place = min(len(message) - 1, body + random.randrange(_HEADER))
        message[place] = random.choice(
            (random.choice(_INTERESTING), message[place] ^ 1 << random.randrange(8))
        )
    if last[0] == 0x41 and random.random() < 0.25:
        length = random.randrange(24, len(last) - 12)
        del last[13 + length :]
        if random.random() < 0.5:
            last += random.randbytes(random.randrange(32))
        last[1:5] = (len(last) - 1).to_bytes(4, "big")
        last[13:17] = (len(last) - 13).to_bytes(4, "little")
    return b"".join(messages)


def run(seconds: float, seed: int, verbose: bool) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        random = Random(seed)
        if verbose:
            print(seed, flush=True)
        for case in redo_cases():
            # A copy of exactly its length: what lies behind it is the sanitizer's.
            request = exact(damage(case.request, random))
            engine = Engine(random.choice((14, 15, 15, 16, 17, 18)), random.random() < 0.5)
            try:
                engine.process(request, len(request))
            except WalstreamError:
                outcomes["error"] += 1
            else:
                outcomes["page"] += 1
        seed += 1
    return outcomes


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the redo rules.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0x7FFFFFFF)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--build", type=Path, help="where to build (and find) the kernels")
    parser.add_argument("--here", action="store_true", help="on the kernels as they are imported")
    options = parser.parse_args(arguments)
    if options.here:
        print(f"rules: {engine_module.__file__}, seed {options.seed}", flush=True)
        print(dict(run(options.seconds, options.seed, options.verbose)))
        return 0
    with tempfile.TemporaryDirectory(prefix="walstream-fuzz-") as temporary:
        build = Build(options.build or Path(temporary))
        return build.run("tests.fuzz.redo", "--here", *arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
