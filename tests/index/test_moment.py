"""Moments by name: what is understood, which LSN it is, what is refused and what is said then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.index.stored import end_list, xid_list
from walstream.errors import LsnNotAvailable
from walstream.index import keys
from walstream.index.ends import End
from walstream.index.moment import (
    Moment,
    MomentKind,
    find_moment,
    format_moment_time,
    parse_moment,
    time_to_us,
)
from walstream.index.page_index import Batch, PageIndex
from walstream.rmgr import xact

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def us(hour: int, minute: int = 0, second: int = 0) -> int:
    return time_to_us(datetime(2026, 11, 25, hour, minute, second, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("latest", MomentKind.LATEST, 0),
        ("0/16B3748", MomentKind.LSN, 0x16B3748),
        ("1f/0", MomentKind.LSN, 0x1F << 32),
        ("2026-11-25 10:00+01", MomentKind.TIME, us(9)),
        ("2026-11-25 10:00 +01:00", MomentKind.TIME, us(9)),
        ("2026-11-25T09:00:00Z", MomentKind.TIME, us(9)),
        ("2026-11-25 09:00 UTC", MomentKind.TIME, us(9)),
        ("2026-11-25 04:00:00.000-05", MomentKind.TIME, us(9)),
        ("5 minutes ago", MomentKind.TIME, us(11, 55)),
        ("1 hour ago", MomentKind.TIME, us(11)),
        ("xid:731", MomentKind.XID, 731),
        ("before xid:731", MomentKind.XID, 731),
        ("name:before the import", MomentKind.NAME, 0),
    ],
)
def test_each_form_is_understood(text: str, kind: str, value: int) -> None:
    found = parse_moment(f" {text} ", NOW)
    assert (found.kind, found.value) == (kind, value)
    assert found.included == (not text.startswith("before"))
    assert found.name == ("before the import" if kind == MomentKind.NAME else "")


@pytest.mark.parametrize(
    "text", ["", "yesterday", "0/", "2026-13-01 10:00Z", "xid:", "5 fortnights ago", "99999/0/1"]
)
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an LSN .* latest, xid:N"):
        parse_moment(text)


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="needs a zone, for example 2026-11-25 10:00"):
        parse_moment("2026-11-25 10:00")


# The server's clock went back after the commit of 10:30.
ENDS = [
    End(110, 100, 7, us(10), xact.COMMIT),
    End(210, 200, 8, us(10, 10), xact.ABORT),
    End(310, 300, 9, us(10, 30), xact.COMMIT),
    End(410, 400, 10, us(10, 20), xact.COMMIT),
    End(610, 600, 7, us(11), xact.COMMIT),
]


@pytest.fixture(scope="module", params=[1, 2, 5], ids="{} in a batch".format)
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageIndex]:
    index = PageIndex(tmp_path_factory.mktemp("moments") / "index")
    latest = 0
    for at in range(0, len(ENDS), request.param):
        ends = ENDS[at : at + request.param]
        batch = Batch()
        batch.pairs = [end_list(ends)]
        for end in ends:
            batch.pairs.append(xid_list(0, [(end.xid, end.end_lsn)]))
        # Of each batch only the first that is later than all before.
        later = [end for end in ends if end.time_us > latest][:1]
        for end in later:
            batch.pairs.append((keys.TIME_KEY.pack(b"t", end.time_us, end.end_lsn), b""))
        latest = max(latest, *(end.time_us for end in ends))
        index.write(batch)
    batch = Batch()
    name = b"n" + b"before the import" + b"\0" + (510).to_bytes(8, "big")
    batch.pairs = [(name, keys.NAMED.pack(500, us(10, 25)))]
    index.write(batch)
    yield index
    index.close()


def at(index: PageIndex, text: str) -> Moment:
    return find_moment(index, parse_moment(text, NOW), 50, 700, NOW)


@pytest.mark.parametrize(
    ("text", "lsn", "xid"),
    [
        ("latest", 700, 7),
        ("0/64", 100, None),
        ("0/6E", 110, 7),
        ("2026-11-25 10:00Z", 110, 7),
        ("2026-11-25 10:05Z", 110, 7),
        # Two commits are at or before it, but recovery stops at the first later one.
        ("2026-11-25 10:22Z", 110, 7),
        ("2026-11-25 10:45Z", 410, 10),
        ("2026-11-25 11:30Z", 610, 7),
        ("xid:9", 310, 9),
        ("before xid:9", 300, 7),
        ("xid:8", 210, 7),
        ("xid:7", 610, 7),
        ("name:before the import", 510, 10),
    ],
)
def test_each_form_is_found(index: PageIndex, text: str, lsn: int, xid: int | None) -> None:
    moment = at(index, text)
    assert moment.lsn == lsn
    assert (moment.last_commit.xid if moment.last_commit else None) == xid
    said = str(moment)
    assert ("no commit" in said) == (xid is None)
    if moment.last_commit is not None:
        assert format_moment_time(moment.last_commit.time_us) in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/1", "before the store begins: the earliest moment is 0/32"),
        ("1/0", "has not been reached: the newest moment is 0/2BC"),
        ("xid:99", "no commit or abort of transaction 99"),
        ("name:nothing", "there are before the import"),
        ("2026-11-25 13:00Z", "lies in the future: the newest moment is 0/2BC"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(index: PageIndex, text: str, said: str) -> None:
    with pytest.raises(LsnNotAvailable, match=said):
        at(index, text)


def test_a_time_without_a_commit_before_it_must_be_after_the_backup(index: PageIndex) -> None:
    asked = parse_moment("2026-11-25 09:00Z")
    moment = find_moment(index, asked, 50, 700, NOW, us(8, 59))
    assert (moment.lsn, moment.last_commit) == (50, None)
    for known in (None, us(9, 1)):
        with pytest.raises(LsnNotAvailable, match="before the store begins: the earliest"):
            find_moment(index, asked, 50, 700, NOW, known)


def test_a_time_before_the_backup_ends_is_refused(index: PageIndex) -> None:
    with pytest.raises(LsnNotAvailable, match="earliest moment is 0/CD, the first commit after"):
        find_moment(index, parse_moment("2026-11-25 10:05Z"), 205, 700, NOW)
