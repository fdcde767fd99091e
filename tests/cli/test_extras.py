"""Every command whose extra is not installed says what to install; those that need none run."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import walstream.cli
from walstream.cli.group import COMMANDS
from walstream.extras import EXTRAS, missing_extra

ROOT = Path(__file__).parent.parent.parent
WITHOUT = (
    "import sys\n"
    f"for name in {sorted(EXTRAS)}: sys.modules[name] = None\n"
    "from walstream.cli import main\nmain()"
)
BLOCK = ("base/5/16384", "0")
NEEDS = {
    "demo": ([], "demo"),
    "history": (["STORE", *BLOCK], "run"),
    "page": (["STORE", *BLOCK, "--at", "0/1000000"], "run"),
    "receive": (["-D", "STORE", "-d", "host=/nonexistent"], "receive"),
    "reindex": (["STORE"], "run"),
    "run": (["host=/nonexistent", "--store", "STORE"], "run"),
    "status": (["STORE"], "run"),
}


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", NEEDS)
def test_a_missing_extra_is_one_line(command: str, tmp_path: Path) -> None:
    arguments, extra = NEEDS[command]
    answer = call(command, *(str(tmp_path) if word == "STORE" else word for word in arguments))
    assert (answer.returncode, answer.stdout) == (1, ""), answer.stderr
    assert answer.stderr.startswith(f"walstream: error: walstream {command} needs ")
    assert answer.stderr.endswith(f"pip install 'walstream[{extra}]'\n")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_needs_no_extra(command: str) -> None:
    answer = call(command, "--help")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("command", ["dump", "stats", "verify"])
def test_reading_wal_needs_no_extra(command: str, tmp_path: Path) -> None:
    answer = call(command, str(tmp_path))
    assert "pip install" not in answer.stderr
    assert "Traceback" not in answer.stderr


def test_extras_are_those_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {name.replace("_", "-") for name in EXTRAS}
    packages = {
        name: extra
        for extra, needs in project["optional-dependencies"].items()
        for name in wanted
        if any(need.startswith(name) for need in needs)
    }
    assert packages.keys() == wanted
    assert not any(need.startswith(tuple(wanted)) for need in project["dependencies"])


def test_other_modules_are_not_explained() -> None:
    assert missing_extra(ModuleNotFoundError("no", name="walstream.nothing"), "dump") is None


def test_kernels_that_were_not_compiled_are_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "kernels_failed.txt"
    note.write_text("command 'cc' failed\n")
    monkeypatch.setattr(walstream.cli, "KERNELS_NOTE", note)
    for arguments, told in ((["--version"], True), (["archive-push", "--help"], False)):
        monkeypatch.setattr(sys, "argv", ["walstream", *arguments])
        with pytest.raises(SystemExit) as ended:
            walstream.cli.main()
        assert ended.value.code == 0
        captured = capsys.readouterr()
        assert ("kernels are not compiled" in captured.err) is told
        assert ("command 'cc' failed" in captured.err) is told
        assert "not compiled" not in captured.out
