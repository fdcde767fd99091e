"""The exit codes of restore-wal: 1 for "not there", more than 125 for everything else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.receiving import wait_until
from tests.support.walgen import SEGMENT, WalWriter
from walstream.cli import exit_codes
from walstream.restore_command import restore_exit_code
from walstream.segments.names import segment_file_name

NAME = segment_file_name(1, 1, SEGMENT)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    wal = WalWriter()
    while wal.lsn < 2 * SEGMENT:
        wal.add_of_length(1000)
    (path / NAME).write_bytes(wal.data[:SEGMENT])
    return path


def run(*arguments: object, prelude: str = "", **environment: str) -> tuple[int, str]:
    """Runs restore-wal as a script would, after ``prelude``; returns exit code and messages."""
    code = f"import sys; {prelude}\nfrom walstream.__main__ import main\nmain()"
    words = [sys.executable, "-c", code, "restore-wal", *map(str, arguments)]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.returncode, done.stderr


def test_success_and_not_there(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "RECOVERYXLOG"
    assert run(archive, NAME, target) == (0, "")
    assert target.read_bytes() == (archive / NAME).read_bytes()
    for name in (segment_file_name(1, 2, SEGMENT), "00000002.history"):
        code, text = run(archive, name, tmp_path / "other")
        assert code == 1
        assert f"{name} is not in {archive}" in text
    assert not (tmp_path / "other").exists()


def test_everything_else_stops_a_recovery(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "RECOVERYXLOG"
    truncated = segment_file_name(1, 3, SEGMENT)
    (archive / truncated).write_bytes((archive / NAME).read_bytes()[:8192])
    foreign = tmp_path / "store"
    (foreign / "wal").mkdir(parents=True)
    (foreign / "walstream.toml").write_text("format = 99\n")
    expected = {
        (archive, truncated, target): 207,
        (archive, "x", target): 202,
        (archive, target, NAME): 202,
        (tmp_path / "unmounted", NAME, target): 202,
        (archive, NAME): 202,
        (archive, NAME, target, "--no-such-option"): 202,
        (archive, NAME, tmp_path / "missing" / "RECOVERYXLOG"): 206,
        (archive, NAME, archive / NAME / "RECOVERYXLOG"): 206,
        (foreign, NAME, target): 205,
        (): 202,
    }
    assert {arguments: run(*arguments)[0] for arguments in expected} == expected
    assert not target.exists()


@pytest.mark.parametrize(
    ("module", "suffix"), [("fcntl", ""), ("zstandard", ".zst"), ("lz4", ".lz4")]
)
def test_a_broken_installation_stops_a_recovery(
    archive: Path, tmp_path: Path, module: str, suffix: str
) -> None:
    (archive / NAME).rename(archive / (NAME + suffix))
    broken = f"sys.modules[{module!r}] = None"
    code, text = run(archive, NAME, tmp_path / "target", prelude=broken)
    assert code == 201
    assert "ImportError" in text or "ModuleNotFoundError" in text


def test_without_click(archive: Path, tmp_path: Path) -> None:
    """As a server calls it, it needs no click; what click would have to explain is no success."""
    target = tmp_path / "target"
    broken = "sys.modules['click'] = None"
    assert run(archive, NAME, target, prelude=broken) == (0, "")
    assert target.read_bytes() == (archive / NAME).read_bytes()
    for arguments in ((archive, NAME), (tmp_path / "unmounted", NAME, target), ("--help",)):
        assert run(*arguments, prelude=broken)[0] == 201


@pytest.mark.parametrize("error", ["MemoryError()", "KeyboardInterrupt()", "OSError(5, 'x')"])
def test_an_error_of_any_kind_stops_a_recovery(archive: Path, tmp_path: Path, error: str) -> None:
    prelude = (
        f"import walstream.segments.files as c\ndef fail(path): raise {error}\nc.read_file = fail\n"
    )
    assert run(archive, NAME, tmp_path / "target", prelude=prelude)[0] >= 200
    assert not (tmp_path / "target").exists()


def test_a_full_disk_stops_a_recovery(archive: Path, tmp_path: Path) -> None:
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    code, text = run(archive, NAME, tmp_path / "target", prelude=prelude)
    assert code == 206
    assert "File too large" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_kills(archive: Path, tmp_path: Path, number: signal.Signals) -> None:
    reading = tmp_path / "reading"
    prelude = (
        "import walstream.segments.files as c, pathlib, time\n"
        f"def wait(path):\n    pathlib.Path({str(reading)!r}).touch()\n    time.sleep(600)\n"
        "c.read_file = wait\n"
    )
    code = f"import sys; {prelude}\nfrom walstream.__main__ import main\nmain()"
    words = [sys.executable, "-c", code, "restore-wal", str(archive), NAME, str(tmp_path / "t")]
    with subprocess.Popen(words) as process:
        wait_until(reading.exists, lambda: "it did not begin to read")
        process.send_signal(number)
        assert process.wait() == -number
    assert not (tmp_path / "t").exists()


def test_nobody_listens_to_what_it_says(archive: Path, tmp_path: Path) -> None:
    words = f'"{sys.executable}" -m walstream restore-wal {archive}'
    for closed in (">&- 2>&-", "> /dev/full 2> /dev/full"):
        for name, expected in ((NAME, 0), (segment_file_name(1, 2, SEGMENT), 1), ("x", 202)):
            line = f"{words} {name} {tmp_path / 'target'} {closed}"
            assert subprocess.run(line, shell=True, check=False).returncode == expected, line


def test_every_code_has_its_place() -> None:
    for code in exit_codes.MEANINGS:
        got = restore_exit_code(code)
        assert got == {0: 0, exit_codes.SEGMENT_MISSING: 1}.get(code, 200 + code)
    assert restore_exit_code("text") == 201
