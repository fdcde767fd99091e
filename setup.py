"""Builds the kernels: every module with a .pxd of the same name beside it is compiled.

All or nothing: kernels call each other in C. Without Cython or a C compiler the very same .py files
are used as they are, slower; ``walstream --version`` says which build is in use.
``WALSTREAM_KERNELS`` decides at build time: ``auto`` (default) compiles where that is possible and
leaves a note of what failed in the package, which the program tells at its start; ``require`` fails
the installation where it is not possible; ``skip`` does not compile.

What was compiled is kept in ``build/kernels`` with a stamp of all that it was made from, so that
the next installation from the same tree copies it.
"""

import hashlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

WANTED = os.environ.get("WALSTREAM_KERNELS", "auto")
if WANTED not in ("auto", "require", "skip"):
    sys.exit(f"WALSTREAM_KERNELS is {WANTED!r}, expected auto, require or skip")

PACKAGE = Path("walstream")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
# What the program reads at its start (walstream/cli): why there are no kernels.
NOTE = "kernels_failed.txt"

# Their .pxd holds inline functions and constants for the other kernels; the .py is the same
# uncompiled.
INLINE_ONLY = {
    "walstream.redo.rules.index_layout",
    "walstream.redo.rules.messages",
    "walstream.rmgr.brin.layout",
    "walstream.rmgr.btree.layout",
    "walstream.rmgr.gin.layout",
    "walstream.rmgr.gist.layout",
    "walstream.rmgr.hash.layout",
    "walstream.rmgr.heap.layout",
    "walstream.rmgr.instructions",
    "walstream.rmgr.spgist.layout",
    "walstream.wal.buffer",
    "walstream.wal.bufpage",
    "walstream.wal.columns",
    "walstream.wal.layout",
    "walstream.wal.opcodes",
}

# What all C files of Cython have in common is generated and compiled once, as this module: 36
# copies of it were four fifths of the time that an installation took.
SHARED = "walstream._cython"

# Compiled with -O1, in two thirds of the time: what is not in any hot loop.
COLD = {
    "walstream.dump.json_lines",
    "walstream.redo.rules.bufmask",
    "walstream.rmgr.brin.redo",
    "walstream.rmgr.generic.redo",
    "walstream.rmgr.gin.posting",
    "walstream.rmgr.gin.redo",
    "walstream.rmgr.gist.redo",
    "walstream.rmgr.hash.redo",
    "walstream.rmgr.heap.mask",
    "walstream.rmgr.sequence.redo",
    "walstream.rmgr.spgist.page",
    "walstream.rmgr.spgist.redo",
    "walstream.rmgr.xlog.redo",
}

# Bounds checks are off: the kernels check every length and offset that comes from the bytes, in
# both builds. Annotations are for mypy; the C types are in the .pxd files.
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "auto_pickle": False,
    "emit_code_comments": False,
}


def extension(name: str, sources: list[str]) -> Extension:
    # What is shared makes memoryviews and the like, a few times a run.
    level = "-O0" if name == SHARED else "-O1" if name in COLD else "-O2"
    return Extension(
        name,
        sources,
        depends=["setup.py", *map(str, PACKAGE.rglob("*.h"))],
        include_dirs=["walstream/wal"],
        extra_compile_args=[level, "-g0"],
    )


def kernels() -> list[Extension]:
    if WANTED == "skip":
        return []
    sources = sorted(
        str(pxd.with_suffix(".py"))
        for pxd in PACKAGE.rglob("*.pxd")
        if pxd.with_suffix(".py").exists()
    )
    names = {source.removesuffix(".py").replace("/", "."): source for source in sources}
    found = [extension(name, [path]) for name, path in names.items() if name not in INLINE_ONLY]
    return [extension(SHARED, []), *found]


def installed_kernels() -> list[Path]:
    """Returns the kernels of this Python in the source tree, where editable builds put them."""
    return [path for path in PACKAGE.rglob(f"*{SUFFIX}") if path.is_file()]


def fingerprint() -> str:
    """Returns a digest of all that decides what the compiled kernels are."""
    import Cython

    inputs = [sys.version, Cython.__version__, sysconfig.get_platform()]
    inputs += [os.environ.get(name, "") for name in ("CC", "CFLAGS", "LDSHARED", "LDFLAGS")]
    digest = hashlib.sha256("\0".join(inputs).encode())
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".pxd", ".h")]
    files += [path.with_suffix(".py") for path in files if path.with_suffix(".py").exists()]
    for path in [Path("setup.py"), *sorted(files)]:
        data = path.read_bytes()
        digest.update(f"\0{path}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


class Progress:
    """Tells how far the compiler is, on the terminal itself: pip shows no output of a build."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.say(f"compiling {total} kernels of walstream, which takes about a minute")

    def say(self, text: str) -> None:
        try:
            with open("/dev/tty", "w") as terminal:  # noqa: PTH123
                terminal.write(f"\r\n  {text}")
        except OSError:
            print(text, flush=True)

    def one_more(self) -> None:
        self.done += 1
        if self.done % 10 == 0 or self.done == self.total:
            self.say(f"{self.done} of {self.total} kernels compiled")


class BuildKernels(build_ext):
    """Compiles all kernels, or none where that fails, or copies them where nothing has changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Here and not as an option of setup(): an editable installation does not read that.
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        # setuptools builds as if it were not in place, and copies then.
        self.in_tree = bool(self.inplace or self.editable_mode)
        super().run()

    def build_extensions(self) -> None:
        for path in (PACKAGE / NOTE, Path(self.build_lib, PACKAGE, NOTE)):
            path.unlink(missing_ok=True)
        try:
            self.build_or_copy()
        except (ImportError, BaseError, CCompilerError, OSError, ValueError) as error:
            if WANTED == "require":
                raise
            print(f"kernels are not compiled, walstream will be slower: {error}", file=sys.stderr)
            self.extensions = []
            if self.in_tree:
                for path in installed_kernels():
                    path.unlink()
            target = PACKAGE if self.in_tree else Path(self.build_lib, PACKAGE)
            target.mkdir(parents=True, exist_ok=True)
            (target / NOTE).write_text(" ".join(str(error).split()) + "\n")

    def build_or_copy(self) -> None:
        stamp = fingerprint()
        cache = Path("build", "kernels", f"{SUFFIX.strip('.')}")
        stamped = cache / "stamp"
        built = {cache / f"{ext.name}{SUFFIX}": ext.name for ext in self.extensions}
        kept = stamped.exists() and stamped.read_text() == stamp
        if kept and not self.force and all(path.exists() for path in built):
            for path, name in built.items():
                target = Path(self.get_ext_fullpath(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            return
        self.translate()
        self.progress = Progress(len(self.extensions))
        super().build_extensions()
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        for path, name in built.items():
            shutil.copyfile(self.get_ext_fullpath(name), path)
        stamped.write_text(stamp)

    def translate(self) -> None:
        """Makes C of the kernels that have changed."""
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError

        changed_s = Path("setup.py").stat().st_mtime
        older = [path for path in PACKAGE.rglob("*.c") if path.stat().st_mtime < changed_s]
        try:
            translated = cythonize(
                [extension(ext.name, ext.sources) for ext in self.extensions],
                quiet=True,
                force=bool(older),
                nthreads=os.cpu_count() or 1,
                compiler_directives=DIRECTIVES,
                shared_utility_qualified_name=SHARED,
            )
        except CompileError as error:
            raise BaseError(f"Cython: {error}") from error
        sources = {ext.name: ext.sources for ext in translated}
        for ext in self.extensions:
            ext.sources = sources[ext.name]

    def build_extension(self, ext: Extension) -> None:
        super().build_extension(ext)
        self.progress.one_more()


if WANTED == "skip" and "editable_wheel" in sys.argv:
    for kernel in installed_kernels():
        kernel.unlink()
if WANTED == "skip":
    (PACKAGE / NOTE).unlink(missing_ok=True)

setup(
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
)
