"""Every error of ours has an exit code, and the page about them is true."""

from __future__ import annotations

from pathlib import Path

from walstream import errors
from walstream.cli import exit_codes

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"


def test_the_page_lists_every_code() -> None:
    rows = [
        line for line in PAGE.read_text().split("\n## ")[0].splitlines() if line.startswith("| ")
    ][2:]
    assert rows == [f"| {code} | {text} |" for code, text in exit_codes.MEANINGS.items()]


def test_errors_have_the_code_of_their_kind() -> None:
    assert exit_codes.exit_code(errors.SegmentMissing("x")) == exit_codes.SEGMENT_MISSING
    assert exit_codes.exit_code(errors.WrongCluster("x")) == exit_codes.WRONG_CLUSTER
    assert exit_codes.exit_code(errors.StoreError("x")) == exit_codes.STORE
    assert exit_codes.exit_code(errors.WalGapError("x")) == exit_codes.WAL_DAMAGED
    assert exit_codes.exit_code(errors.NoBaseImage("x")) == exit_codes.PAGE
    assert exit_codes.exit_code(errors.WalstreamError("x")) == exit_codes.FAILED


def made(kind: type[errors.WalstreamError]) -> errors.WalstreamError:
    if issubclass(kind, errors.BackupDamaged):
        return kind("x", "path", "1", "2")
    if issubclass(kind, (errors.StorageError, errors.NoWalFound)):
        return kind("x", "path")
    return kind("x")


def test_every_error_has_a_code_that_says_what_it_is() -> None:
    def below(kind: type[errors.WalstreamError]) -> set[type[errors.WalstreamError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    for kind in below(errors.WalstreamError) - {errors.WalstreamError}:
        error = made(kind)
        assert exit_codes.exit_code(error) not in (exit_codes.OK, exit_codes.FAILED), kind


def test_reading_is_not_writing() -> None:
    assert exit_codes.exit_code(errors.ReadError("x", "p")) == exit_codes.READ
    assert exit_codes.exit_code(errors.NoSpace("x", "p")) == exit_codes.STORAGE
    assert exit_codes.exit_code(errors.NoWalFound("x", "p")) == exit_codes.SEGMENT_MISSING
    assert exit_codes.exit_code(errors.ConfigError("x", "p")) == exit_codes.USAGE
