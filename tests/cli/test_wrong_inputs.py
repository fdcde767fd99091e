"""Wrong inputs of every command: one line, the right code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import mixed_wal, write_segments
from walstream.cli.exit_codes import (
    CONNECTION,
    FAILED,
    READ,
    SEGMENT_MISSING,
    STORAGE,
    STORE,
    USAGE,
)

# Arguments ({wal}: a directory of WAL, {tmp}: an empty one), and the exit code.
CASES = [
    ("dump /etc/hostname", SEGMENT_MISSING),
    ("dump {tmp}", SEGMENT_MISSING),
    ("dump {tmp}/none", READ),
    ("dump -p {wal} 0000000100000000000000FF", SEGMENT_MISSING),
    ("dump -s 1/x {wal}", USAGE),
    ("dump -t 0 {wal}", USAGE),
    ("dump -B -1 -R 1/1/1 {wal}", USAGE),
    ("dump -B 1 {wal}", USAGE),
    ("dump -R 1/2 {wal}", USAGE),
    ("dump -F other {wal}", USAGE),
    ("dump -x 5000000000 {wal}", USAGE),
    ("dump -r Nothing {wal}", USAGE),
    ("dump --fo {wal}", USAGE),
    ("dump --nothing {wal}", USAGE),
    ("dump --format parquet {wal}", USAGE),
    ("dump -o {tmp}/none/file {wal}", STORAGE),
    ("stats /etc/hostname", SEGMENT_MISSING),
    ("stats {tmp}", SEGMENT_MISSING),
    ("stats {tmp}/none", USAGE),
    ("stats -s nonsense {wal}", USAGE),
    ("stats -t 0 {wal}", USAGE),
    ("stats -t 9 {wal}", SEGMENT_MISSING),
    ("stats -o {tmp}/none/file {wal}", STORAGE),
    ("stats -j 0 {wal}", USAGE),
    ("verify /etc/hostname", SEGMENT_MISSING),
    ("verify {tmp}", SEGMENT_MISSING),
    ("verify -t 5000000000 {wal}", USAGE),
    ("verify -t 9 {wal}", SEGMENT_MISSING),
    ("sql /etc/hostname SELECT", SEGMENT_MISSING),
    ("sql {tmp} SELECT", SEGMENT_MISSING),
    ("sql {wal} SELECT", FAILED),
    ("sql -t 0 {wal} SELECT", USAGE),
    ("page {tmp} 1663/5/1 0", STORE),
    ("page {tmp}/none 1663/5/1 0", USAGE),
    ("page {tmp} non/sense 0", USAGE),
    ("page {tmp} nonsense 0", STORE),  # a name, which a store would know
    ("rows {tmp} nonsense", STORE),
    ("base list {tmp}", STORE),
    ("base verify {tmp}", STORE),
    ("base create {tmp} -d host=nowhere", STORE),
    ("base create {tmp}", USAGE),
    ("base advance {tmp}", STORE),
    ("base advance {tmp} --rate-limit 0", USAGE),
    ("base advance {tmp} --rate-limit fast", USAGE),
    ("base advance {tmp} --at yesterday-ish", USAGE),
    ("rows {tmp} nonsense --at nonsense", USAGE),
    ("find {tmp}", USAGE),
    ("undo {tmp} --table t", USAGE),
    ("page {tmp} 1663/5/1 -1", USAGE),
    ("page {tmp} 1663/5/1 4294967295", USAGE),
    ("page {tmp} 1663/5/1 0 --fork other", USAGE),
    ("page {tmp} 1663/5/1 0 --at nonsense", USAGE),
    ("history {tmp} 1663/5/1 0", STORE),
    ("history {tmp} 1663/5/1 x", USAGE),
    ("history {tmp} 1663/5/1 0 -n 0", USAGE),
    ("run port=1 --store /etc/hostname", USAGE),
    ("run port=1 --store {tmp}/s -s -1", USAGE),
    ("run port=1 --store {tmp}/s --metrics nonsense", USAGE),
    ("run postgresql://127.0.0.1:1/ --store {tmp}/s -n", CONNECTION),
    ("receive", USAGE),
    ("receive -D {tmp}/none -h 127.0.0.1 -p 1", STORE),
    ("receive -D /etc/hostname -h 127.0.0.1 -p 1", STORE),
    ("receive -D {tmp} -h 127.0.0.1 -p 1", CONNECTION),
    ("receive -D {tmp} -h 127.0.0.1 -p abc", CONNECTION),
    ("receive -D {tmp} -h 127.0.0.1 -p 99999", CONNECTION),
    ("receive -D {tmp} -Z nonsense", USAGE),
    ("receive -D {tmp} -E 5", USAGE),
    ("receive -D {tmp} --config {tmp}/none", USAGE),
    ("receive --create-slot --drop-slot -S s", USAGE),
    ("status {tmp}", STORE),
    ("status {tmp}/none", USAGE),
    ("status /etc/hostname", USAGE),
    ("reindex {tmp}", STORE),
    ("materialize {tmp} -D {tmp}/m", USAGE),
    ("materialize {tmp} --at nonsense -D {tmp}/m", USAGE),
    ("materialize {tmp} --at latest -D {tmp}/m", STORE),
    ("tables {tmp}", STORE),
    ("diff {tmp} t latest latest", STORE),
    ("undo {tmp} --xid 5", USAGE),
    ("find {tmp} --dropped t", STORE),
    ("gc {tmp} --keep-window 7d", STORE),
    ("gc {tmp}", USAGE),
    ("gc {tmp} --keep-window 7", USAGE),
    ("gc {tmp} --keep-window 7d --keep-size 1GB", USAGE),
    ("gc {tmp} --keep-size 1gb", USAGE),
    ("gc {tmp} --keep-from nonsense", USAGE),
    ("gc {tmp} --keep-from 0/1 --keep-daily -1", USAGE),
    ("gc {tmp} --config {tmp}/none", USAGE),
    ("gc {tmp}/none --keep-window 7d", USAGE),
    ("gc undo {tmp}", STORE),
    ("hold {tmp} latest --until 90d --reason r", STORE),
    ("hold {tmp} latest --reason r", USAGE),
    ("hold {tmp} latest --until 90d", USAGE),
    ("hold {tmp} nonsense --until 90d --reason r", USAGE),
    ("hold {tmp} latest..nonsense --until 90d --reason r", USAGE),
    ("hold {tmp} latest --until nonsense --reason r", USAGE),
    ("hold {tmp} latest --until latest --reason r", USAGE),
    ("hold {tmp} latest --until 90d --reason r --name a/b", USAGE),
    ("hold list {tmp}", STORE),
    ("hold release {tmp} a", STORE),
    ("window {tmp}", STORE),
    ("window {tmp}/none", USAGE),
    ("run port=1 --store {tmp}/s --config {tmp}/none", USAGE),
    ("restore-wal {tmp} 000000010000000000000001 {tmp}/x", FAILED),
    ("restore-wal {tmp}/none 000000010000000000000001 {tmp}/x", 200 + USAGE),
    ("restore-wal {tmp}", 200 + USAGE),
    ("archive-push {tmp} {tmp}/none", USAGE),
    ("archive-push {tmp} /etc/hostname", USAGE),
    ("redo replay {tmp}/none", USAGE),
    ("redo replay /etc/hostname", USAGE),
    ("demo --nothing", USAGE),
    ("nothing", USAGE),
]
PLAIN = [
    "dump {wal}", "dump --stats {wal}", "dump --format json {wal}", "dump -r list", "stats {wal}",
    "verify {wal}", "--help", "dump --help", "dump --version",
]  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    wal = tmp_path_factory.mktemp("wal")
    write_segments(wal, mixed_wal(2).close())
    return {"wal": wal, "tmp": tmp_path_factory.mktemp("empty")}


def walstream(arguments: str, places: dict[str, Path], stdout: int) -> tuple[int, str]:
    words = [word.format(**places) for word in arguments.split()]
    result = subprocess.run(
        [sys.executable, "-m", "walstream", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    return result.returncode, result.stderr.decode()


@pytest.mark.parametrize(("arguments", "code"), CASES)
def test_one_line_and_the_code(arguments: str, code: int, places: dict[str, Path]) -> None:
    got, said = walstream(arguments, places, subprocess.DEVNULL)
    lines = [line for line in said.splitlines() if "rror: " in line]
    assert got == code, said
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert code in (USAGE, 200 + USAGE) or said.splitlines() == lines


@pytest.mark.parametrize("arguments", PLAIN)
def test_output_that_cannot_be_written(arguments: str, places: dict[str, Path]) -> None:
    with Path("/dev/full").open("wb") as full:
        got, said = walstream(arguments, places, full.fileno())
    assert (got, len(said.splitlines())) == (STORAGE, 1), said
    assert said.startswith("walstream: error: could not write")


@pytest.mark.parametrize("module", ["pyarrow", "duckdb"])
def test_a_package_that_is_not_installed(
    module: str, places: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('no', name='{module}')")
    commands = [["sql", str(places["wal"]), "SELECT 1"]]
    if module == "pyarrow":
        commands.append(["dump", "--format", "arrow", str(places["wal"])])
    for command in commands:
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        program += f"sys.argv[1:] = {command!r}\nfrom walstream.cli import main\nmain()"
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=120, check=False
        )
        assert result.returncode == FAILED
        assert result.stderr.decode().splitlines() == [
            f"Error: {module} is not installed: pip install 'walstream[sql]'"
        ]
