"""Builds the kernels with clang's sanitizers and coverage in a copy of the tree.

``Build(directory)`` copies setup.py, walstream and tests there, compiles what has changed since,
and ``run`` starts a module of tests on these kernels. It needs clang with its sanitizer runtime
(Debian: clang, libclang-rt-14-dev) and the package atheris, whose ``asan_with_fuzzer.so`` is the
runtime of both. ``PYTHONMALLOC=malloc`` gives every buffer an allocation of its own, so that a read
beyond it is seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TREE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "walstream", "tests")
FLAGS = (
    "-O1 -gline-tables-only -fno-omit-frame-pointer -w -fsanitize=address,undefined,fuzzer-no-link "
    "-fno-sanitize=function,vptr -fno-sanitize-recover=undefined"
)
# What is preloaded is not for programs that Python or the sanitizer starts (the symbolizer).
START = (
    "import os, runpy, sys; del os.environ['LD_PRELOAD'], sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


class Build:
    """Kernels with sanitizers in ``directory``, which is made or brought up to date."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.compile()

    def compile(self) -> None:
        clang = shutil.which("clang") or shutil.which("clang-14")
        if clang is None:
            raise SystemExit("no clang: apt-get install clang libclang-rt-14-dev")
        tree = self.directory
        headers = self.copy_tree()
        # Our flags behind those of setup.py, which has its own optimisation and no debug lines.
        compiler = tree / "cc"
        compiler.write_text(f'#!/bin/sh\nexec {clang} "$@" {FLAGS}\n')
        compiler.chmod(0o755)
        force = ["--force"] if headers else []
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace", *force],
            cwd=tree,
            env={**os.environ, "CC": str(compiler), "LDSHARED": f"{compiler} -shared"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        for pxd in tree.glob("walstream/**/*.pxd"):
            if pxd.stem != "buffer" and not list(pxd.parent.glob(f"{pxd.stem}.*.so")):
                raise SystemExit(f"{pxd.stem} was not compiled")

    def copy_tree(self) -> bool:
        """Makes the copy what the tree is now; returns whether a C header changed.

        Files that are the same keep their time, so that only what changed is compiled.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        headers = False
        wanted = set()
        for name in TREE:
            for source in [ROOT / name, *(ROOT / name).rglob("*")]:
                target = self.directory / source.relative_to(ROOT)
                if "__pycache__" in source.parts or source.suffix in (".so", ".c"):
                    continue
                wanted.add(target)
                if source.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                elif not target.exists() or target.read_bytes() != source.read_bytes():
                    shutil.copyfile(source, target)
                    headers |= source.suffix == ".h"
        for target in self.directory.glob("walstream/**/*.p*"):
            if target.suffix in (".py", ".pxd") and target not in wanted:
                for made in target.parent.glob(f"{target.stem}.*"):
                    made.unlink()
        return headers

    def run(self, module: str, *arguments: str) -> int:
        """Runs a module on these kernels; returns its exit code."""
        import atheris

        (mutator,) = Path(atheris.path(), "atheris").glob("custom_mutator.*.so")
        environment = {
            **os.environ,
            # libFuzzer looks for a mutator only among what is loaded with it.
            "LD_PRELOAD": f"{atheris.path()}/asan_with_fuzzer.so:{mutator}",
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(self.directory),
        }
        symbolizer = shutil.which("llvm-symbolizer") or shutil.which("llvm-symbolizer-14")
        if symbolizer is not None:
            environment["ASAN_SYMBOLIZER_PATH"] = symbolizer
        command = [sys.executable, "-P", "-c", START, module, *arguments]
        return subprocess.run(command, env=environment, check=False).returncode
