"""Names of WAL files: one parser, and what it makes of anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from walstream.segments.names import (
    COMPLETE,
    KINDS,
    compression_of,
    history_file_name,
    is_archive_name,
    parse_history_name,
    parse_segment_name,
    segment_file_name,
    segment_names,
    segment_number,
)

SIZES = st.sampled_from([1 << 20, 16 << 20, 1 << 30])
TIMELINES = st.integers(1, 0xFFFFFFFF)


@given(TIMELINES, SIZES, st.data())
def test_every_name_says_what_it_was_made_of(timeline: int, size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, (1 << 64) // size - 1))
    names = list(segment_names(timeline, number, size))
    assert len({each.name for each in names}) == len(KINDS) == 11
    assert names[0].name == segment_file_name(timeline, number, size)
    for each in names:
        assert parse_segment_name(each.name) == each
        assert each.number(size) == segment_number(each.name, size) == number
        assert (each.timeline, each.stem) == (timeline, names[0].name)
        assert compression_of(each.name) == each.compression
    # Complete before unfinished, plain before compressed.
    assert [each.partial for each in names] == sorted(each.partial for each in names)
    assert not names[0].compression
    assert all(each.compression for each in names[1 : len(COMPLETE)])


@given(TIMELINES)
def test_histories(timeline: int) -> None:
    name = history_file_name(timeline)
    for suffix in ("", ".gz", ".lz4", ".zst"):
        found = parse_history_name(name + suffix)
        assert found is not None
        assert (found.timeline, found.compression) == (timeline, suffix)
    assert parse_history_name(name + ".partial") is None


def test_what_is_no_name() -> None:
    stem = "000000010000000000000001"
    for name in (
        "", stem[:-1], stem + "0", stem.replace("1", "g"), stem.lower() + "A", stem + ".bz2",
        stem + ".gz.lz4", stem + ".partial.partial", stem + ".gz.tmp", stem + ".00000028.backup",
        "." + stem, stem + "\n", stem + ".", "archive_status",
    ):  # fmt: skip
        assert parse_segment_name(name) is None, name


def test_a_number_that_segments_of_a_size_cannot_have() -> None:
    name = "0000000100000000000000FF"
    assert segment_number(name, 16 << 20) == 255
    assert segment_number(name, 1 << 30) is None


def test_what_an_archiver_calls_its_files() -> None:
    stem = "000000010000000000000001"
    for name in (stem, stem + ".partial", "00000002.history", stem + ".00000028.backup"):
        assert is_archive_name(name)
    for name in (stem + ".gz", "00000002.history.gz", "x", stem + ".backup", "../" + stem):
        assert not is_archive_name(name)
