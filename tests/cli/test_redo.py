from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from walstream.cli.group import cli

DATA = Path(__file__).parent.parent / "data"
SHORT = (DATA / "neon_short_pg15.request").read_bytes()
PAGE = (DATA / "neon_short_pg15.page").read_bytes()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["redo", *map(str, arguments)])


def test_replay_shows_and_writes_the_page(tmp_path: Path) -> None:
    dump = tmp_path / "redo-pg15-20261121T204646.123456-7.request"
    dump.write_bytes(SHORT)
    result = run("replay", dump, "--output", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert "request 1: block 0 of 1663/13010/1259 fork 0, no base page, 2 records" in result.output
    assert "page: lsn 0/16D4080 flags 0x1 lower 212 upper 7584 special 8192" in result.output
    assert (tmp_path / "page").read_bytes() == PAGE


def test_replay_shows_the_error_and_goes_on(tmp_path: Path) -> None:
    dump = tmp_path / "input"
    unknown = SHORT[:939] + b"\xc8" + SHORT[940:]
    dump.write_bytes(SHORT + unknown + SHORT)
    result = run("replay", dump, "--pg-version", "15", "--hex")
    assert result.exit_code == 9, result.output
    assert result.output.count("page: lsn 0/16D4080") == result.output.count("page: ") == 2
    assert "failed: " in result.output
    assert "0000  00 00 00 00 80 40 6d 01" in result.output


def test_replay_needs_a_version_and_a_redo_input(tmp_path: Path) -> None:
    dump = tmp_path / "input"
    dump.write_bytes(SHORT[:100])
    result = run("replay", dump)
    assert result.exit_code == 2
    assert "use --pg-version" in result.output
    result = run("replay", dump, "--pg-version", "15")
    assert result.exit_code == 2
    assert "is not a redo input" in result.output


def test_check_shows_the_sandbox() -> None:
    result = run("check")
    assert result.exit_code == 0, result.output
    assert "seccomp       on(refused:open,socket,fork,exec,ptrace,kill)" in result.output
    assert run("check", "--no-sandbox").output.splitlines()[-1].split() == ["off"]
