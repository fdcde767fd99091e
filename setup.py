"""Builds the kernels: every module with a .pxd of the same name beside it is compiled.

All or nothing: kernels call each other in C. Without Cython or a C compiler the very same .py files
are used as they are, slower; ``walstream --version`` says which build is in use.
``WALSTREAM_KERNELS`` decides at build time: ``auto`` (default) compiles where that is possible,
``require`` fails the installation where it is not, ``skip`` does not compile.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

WANTED = os.environ.get("WALSTREAM_KERNELS", "auto")
if WANTED not in ("auto", "require", "skip"):
    sys.exit(f"WALSTREAM_KERNELS is {WANTED!r}, expected auto, require or skip")

try:
    from Cython.Build import cythonize
except ImportError:
    if WANTED == "require":
        raise
    cythonize = None

# buffer.pxd holds inline accessors for the other kernels; buffer.py is their uncompiled form.
INLINE_ONLY = {"walstream/wal/buffer.py"}

# What all C files of Cython have in common is generated and compiled once, as this module: 36
# copies of it were four fifths of the time that an installation took.
SHARED = "walstream._cython"

# Bounds checks are off: the kernels check every length and offset that comes from the bytes, in
# both builds. Annotations are for mypy; the C types are in the .pxd files.
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}


def kernels() -> list[Extension]:
    if cythonize is None or WANTED == "skip":
        return []
    sources = sorted(
        str(pxd.with_suffix(".py"))
        for pxd in Path("walstream").rglob("*.pxd")
        if pxd.with_suffix(".py").exists()
    )
    names = [source for source in sources if source not in INLINE_ONLY]
    extensions = [
        Extension(
            source.removesuffix(".py").replace("/", "."),
            [source],
            include_dirs=["walstream/wal"],
            extra_compile_args=["-O2", "-g0"],
        )
        for source in names
    ]
    shared = Extension(SHARED, [], extra_compile_args=["-O2", "-g0"])
    return list(
        cythonize(
            [shared, *extensions],
            quiet=True,
            nthreads=os.cpu_count() or 1,
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED,
        )
    )


class BuildKernels(build_ext):
    """Compiles all kernels, or none where that fails."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Here and not in setup.cfg's way: an editable installation does not read that.
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except (BaseError, CCompilerError, OSError) as error:
            if WANTED == "require":
                raise
            print(f"kernels are not compiled, walstream will be slower: {error}", file=sys.stderr)
            self.extensions = []


setup(
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
)
