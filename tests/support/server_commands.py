"""walstream as a server's archive_command and restore_command run it: as the servers' user.

Tests that run as root start servers as ``nobody``, who can often not reach this interpreter or what
is installed for it (a home directory is in the way). Then both are copied to where it can: the
interpreter with its library, the packages that the commands import, and walstream itself.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import walstream
from tests.support.binaries import identity_arguments
from tests.support.clusters import directory_for_server, roomy_directory

_ASK = """
import sys, importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, module in sorted(sys.modules.items()):
    if "." not in name and "-packages" in (getattr(module, "__file__", None) or ""):
        print(module.__file__)
"""
_MODULES = (
    "walstream.cli.archive_push",
    "walstream.cli.restore_wal",
    "walstream.app.wal_directory",
    "lz4.frame",
    "walstream.store.archive_push",
    "walstream.store.restore_wal",
    "zstandard",
)
_NEEDLESS = ("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "*-packages")


def _runs(python: list[str]) -> bool:
    """Whether the servers' user can run walstream by this Python."""
    with contextlib.suppress(PermissionError):
        answer = subprocess.run(
            [*python, "-m", "walstream", "--version"], cwd="/", capture_output=True, check=False,
            **identity_arguments(),
        )  # fmt: skip
        return answer.returncode == 0
    return False


def _copy_interpreter(target: Path) -> list[str]:
    """Copies the interpreter and its library; returns the words that run it."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (target / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), target / "bin" / version)
    library = base / sys.platlibdir / version
    ignored = shutil.ignore_patterns(*_NEEDLESS, "config-*")
    shutil.copytree(library, target / sys.platlibdir / version, ignore=ignored)
    for shared in (base / "lib").glob(f"lib{version}*.so*"):
        shutil.copy(shared, target / "lib")
    return ["env", f"LD_LIBRARY_PATH={target / 'lib'}", str(target / "bin" / version)]


def _copy_packages(target: Path, modules: Sequence[str]) -> None:
    """Copies walstream and what these modules import."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK, *modules], check=True, capture_output=True, text=True
    )
    for line in asked.stdout.splitlines():
        path = Path(line)
        if path.name.startswith("__init__."):
            shutil.copytree(path.parent, target / path.parent.name, dirs_exist_ok=True)
            for libraries in path.parents[1].glob(f"{path.parent.name}*.libs"):
                shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, target)
    for metadata in path.parents[path.name.startswith("__init__.")].glob("*.dist-info"):
        shutil.copytree(metadata, target / metadata.name)  # some ask for their own version
    package = Path(walstream.__file__).parent
    shutil.copytree(package, target / package.name, dirs_exist_ok=True)


@contextlib.contextmanager
def python_for_servers(*modules: str) -> Iterator[list[str]]:
    """The words of a command that runs Python as a server would, with walstream and ``modules``."""
    if _runs([sys.executable]):
        yield [sys.executable]
        return
    with directory_for_server(roomy_directory()) as place:
        place.chmod(0o755)
        interpreter, packages = place / "python", place / "packages"
        interpreter.mkdir()
        packages.mkdir()
        _copy_packages(packages, modules)
        words = _copy_interpreter(interpreter)
        words.insert(1, f"PYTHONPATH={packages}")
        assert _runs(words), words
        yield words


@contextlib.contextmanager
def walstream_for_servers() -> Iterator[str]:
    """The start of a shell command that runs walstream as a server would."""
    with python_for_servers(*_MODULES) as words:
        yield shlex.join([*words, "-m", "walstream"])
