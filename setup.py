"""Builds the kernels: every module with a .pxd of the same name beside it is compiled.

The compilation is optional, all or nothing: kernels call each other in C. Without Cython or a C
compiler the very same .py files are used as they are, slower; ``walstream --version`` says which
build is in use.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None

# buffer.pxd holds inline accessors for the other kernels; buffer.py is their uncompiled form.
INLINE_ONLY = {"walstream/wal/buffer.py"}


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
    if cythonize is None:
        return []
    sources = sorted(
        str(pxd.with_suffix(".py"))
        for pxd in Path("walstream").rglob("*.pxd")
        if pxd.with_suffix(".py").exists()
    )
    extensions = [
        Extension(
            source.removesuffix(".py").replace("/", "."),
            [source],
            include_dirs=["walstream/wal"],
            extra_compile_args=["-O3", "-g0"],
        )
        for source in sources
        if source not in INLINE_ONLY
    ]
    return list(cythonize(extensions, quiet=True, compiler_directives=DIRECTIVES))


class BuildKernels(build_ext):
    """Compiles all kernels, or none where that fails."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except (BaseError, CCompilerError, OSError) as error:
            print(f"kernels are not compiled, walstream will be slower: {error}", file=sys.stderr)
            self.extensions = []


setup(
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
