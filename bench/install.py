"""What the first command of the README costs: a fresh clone, an environment, the build, the demo.

    python bench/install.py [--python PYTHON] [--kernels auto|skip]

Prints CPU and wall seconds of each step, then of an installation with another extra into the same
environment, which does not compile again. Downloads are in it, as far as pip has not kept them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--kernels", default="auto")
    options = parser.parse_args()
    environment = {**os.environ, "WALSTREAM_KERNELS": options.kernels}
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "walstream")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
        programs = tree / ".venv/bin"
        pip = [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", "-e"]
        steps = (
            ("python -m venv", [options.python, "-m", "venv", ".venv"]),
            ("pip install -e '.[demo]'", [*pip, ".[demo]"]),
            ("walstream demo", [str(programs / "walstream"), "demo"]),
            ("again, -e '.[run]'", [*pip, ".[run]"]),
        )
        first_wall_s = first_cpu_s = 0.0
        for name, command in steps:
            started_s, used_s = time.perf_counter(), cpu_s()
            subprocess.run(
                command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, check=True
            )
            wall_s, spent_s = time.perf_counter() - started_s, cpu_s() - used_s
            print(f"{name:26} {spent_s:7.1f} s of CPU {wall_s:7.1f} s of wall", flush=True)
            if not name.startswith("again"):
                first_wall_s += wall_s
                first_cpu_s += spent_s
        print(f"{'the first command':26} {first_cpu_s:7.1f} s of CPU {first_wall_s:7.1f} s of wall")


if __name__ == "__main__":
    main()
