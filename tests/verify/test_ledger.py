"""What ``verify`` remembers of a store, and what makes it forget."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.archives import mixed_wal, write_segments
from walstream.scanning.opening import open_wal
from walstream.segments.names import segment_file_name
from walstream.verify.check import verify
from walstream.verify.ledger import LEDGER, Ledger
from walstream.verify.report import Report, Verdict
from walstream.verify.segments import verify_segments


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "wal").mkdir()
    write_segments(tmp_path / "wal", mixed_wal().close())
    return tmp_path


def check(store: Path, *, fresh: bool = False, writable: bool = True) -> Report:
    with Ledger(store, fresh=fresh, writable=writable) as ledger:
        report = verify_segments(open_wal(store / "wal"), threads=2, ledger=ledger)
        ledger.save()
    report.seconds = 0.0
    return report


def test_the_report_is_the_same(store: Path) -> None:
    first = check(store)
    assert first.remembered == 0 and first.segments == 4
    in_one_go = verify(open_wal(store / "wal"))
    in_one_go.seconds = 0.0
    assert first == in_one_go
    again = check(store)
    # The last segment ends within zeros: it may grow.
    assert again.remembered == 3
    again.remembered = 0
    assert again == first
    assert check(store, fresh=True).remembered == 0


def test_a_file_that_changed_is_read_again(store: Path) -> None:
    first = check(store)
    for number in range(3):
        path = sorted((store / "wal").iterdir())[number]
        status = path.stat()
        data = path.read_bytes()
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        assert check(store).problems, path.name
        path.write_bytes(data)
        assert check(store).problems == []
        # Another file under the same name, of the same length and time.
        path.with_name("other").write_bytes(data)
        path.with_name("other").rename(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert check(store).remembered <= 2
    assert check(store).records == first.records


def test_the_next_segment_that_goes(store: Path) -> None:
    """A record that goes on into the next segment is proven by that too."""
    check(store)
    (store / "wal" / segment_file_name(1, 5, 1 << 20)).unlink(missing_ok=True)
    path = sorted((store / "wal").iterdir())[1]
    path.rename(store / "away")
    report = check(store)
    assert report.problems and report.remembered < 3
    (store / "away").rename(path)
    assert check(store).problems == []


def test_what_gc_took_away_is_not_missing(store: Path) -> None:
    sound = check(store)
    size = sound.segment_size
    numbers = range(sound.start_lsn // size, sound.end_lsn // size + 1)
    gone = numbers[1]
    (store / "wal" / segment_file_name(1, gone, size)).unlink()
    there = gone * size, (gone + 1) * size
    for removed in ([], [(0, there[0])], [(there[0], there[1] - 1)], [(there[0] + 8, there[1])]):
        report = verify_segments(open_wal(store / "wal"), removed=removed)
        assert [problem.kind for problem in report.problems] == ["missing"]
        assert report.verdict is Verdict.MISSING
    for report in (
        verify(open_wal(store / "wal"), removed=[there]),
        verify_segments(open_wal(store / "wal"), removed=[there]),
    ):
        assert report.problems == []
        assert report.verdict is Verdict.SOUND
        assert report.end_lsn == sound.end_lsn


def test_lines_that_are_no_lines(store: Path) -> None:
    check(store)
    path = store / LEDGER
    text = path.read_text()
    path.write_text(text[: len(text) // 2] + '\n{"format": 99}\n[]\nnull\n{}\n\0\n')
    report = check(store)
    assert 0 < report.remembered < 3 and not report.problems
    assert check(store).remembered == 3


def test_a_store_that_is_only_read(store: Path) -> None:
    assert check(store, writable=False).remembered == 0
    assert not (store / LEDGER).exists()


def test_files_of_base_backups(store: Path) -> None:
    (store / "base").mkdir()
    (store / "base" / "file").write_text("content")
    with Ledger(store) as ledger:
        assert not ledger.recalls_file("base/file")
        ledger.note_file("base/file")
        ledger.note_file("base/nowhere")
    with Ledger(store) as ledger:
        assert ledger.recalls_file("base/file")
        assert not ledger.recalls_file("base/nowhere")
        (store / "base" / "file").write_text("other content")
        assert not ledger.recalls_file("base/file")
