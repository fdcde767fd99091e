"""The rules of Gin, Gist and SPGist: PostgreSQL's own pages, both builds, damaged input."""

from __future__ import annotations

from itertools import pairwise
from struct import pack_into, unpack_from
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.redo.builds import INSTALLED, UNCOMPILED
from tests.redo.vectors import RedoCase, redo_cases, without_checksum
from walstream.errors import RecordError, RedoError, RedoProtocolError, UnsupportedRecord

CASES = [case for case in redo_cases() if case.rmgr in (13, 14, 16)]


def answer(module: ModuleType, request: bytes, version: int = 15) -> tuple[int, bytes] | str:
    """Returns what the engine consumed and replied, or its error in words."""
    engine = module.Engine(version, False)
    try:
        return engine.process(request, len(request)), bytes(engine.replies)
    except (RedoError, RecordError, RedoProtocolError) as error:
        return f"{type(error).__name__}: {error}"


def record_range(request: bytes | bytearray) -> tuple[int, int]:
    """Returns where the last record of a request starts and ends, its header included."""
    at, last = 0, (0, 0)
    while at < len(request):
        length = unpack_from(">I", request, at + 1)[0]
        if request[at : at + 1] == b"A":
            last = at + 13, at + 1 + length
        at += 1 + length
    return last


def case_of(name: str) -> RedoCase:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("build", [INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_page_of_postgres(case: RedoCase, build: ModuleType) -> None:
    engine = build.Engine(15, False)
    assert engine.process(case.request, len(case.request)) == len(case.request)
    assert without_checksum(bytes(engine.replies)) == without_checksum(case.page)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some bytes of its last record, or of its base page, changed."""
    request = bytearray(draw(st.sampled_from(CASES)).request)
    start, end = record_range(request)
    places = st.integers(start + 24, end - 1)
    if request[22:23] == b"P":
        # The header and line pointers, and the special space: what rules read first.
        page = 22 + 22
        places |= st.integers(page + 12, page + 200) | st.integers(page + 8176, page + 8191)
        places |= st.integers(page + 12, page + 8191)
    for place in draw(st.lists(places, min_size=1, max_size=4)):
        request[place] = draw(st.sampled_from((0, 1, 2, 3, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
    if draw(st.booleans()):
        # Another operation, another resource manager of the three.
        request[start + 16] = draw(st.integers(0, 15)) << 4
        request[start + 17] = draw(st.sampled_from((13, 14, 16)))
    return bytes(request)


@settings(max_examples=400, deadline=None)
@given(damaged(), st.sampled_from((14, 15, 16, 18)))
def test_damaged_requests_end_alike_in_both_builds(request: bytes, version: int) -> None:
    """Only the three errors come out, and the same one, or the same page, in both builds."""
    installed = answer(INSTALLED, request, version)
    assert installed == answer(UNCOMPILED, request, version)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 200))
def test_records_cut_short(case: RedoCase, cut: int) -> None:
    """Main data or block data that ends early is refused, or what is missing was not needed."""
    start, end = record_range(case.request)
    cut = min(cut, end - start - 24)
    request = bytearray(case.request[: end - cut] + case.request[end:])
    pack_into(">I", request, start - 12, end - start - cut + 12)
    pack_into("<I", request, start, end - start - cut)
    assert answer(INSTALLED, bytes(request)) == answer(UNCOMPILED, bytes(request))


@pytest.mark.parametrize("rmgr", [13, 14, 16])
def test_unknown_operations_are_unsupported(rmgr: int) -> None:
    for info in (0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0):
        request = bytearray(case_of("14/00/b0/redo").request)
        start, _ = record_range(request)
        request[start + 16] = info
        request[start + 17] = rmgr
        engine = INSTALLED.Engine(15, False)
        with pytest.raises(UnsupportedRecord, match="unknown"):
            engine.process(bytes(request), len(request))


@pytest.mark.parametrize("build", [INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
def test_gist_image_still_follows_right(build: ModuleType) -> None:
    """An image of the left half of a split has the flag yet; redo clears it and stamps the NSN."""
    case = case_of("14/00/b1/redo")
    image = bytearray(case.page)
    image[8176:8184] = bytes(8)
    image[8188] |= 0x08
    start, end = record_range(case.request)
    record = case.request[start:end]
    length = 8192
    # Block 1 alone, with a whole image that is to be applied, where it had no image before.
    tag = case.request[5:22]
    block = bytes((1, 0x10, 0, 0)) + pack_image(length) + rel_and_block(tag)
    main = bytes((255, 4, 1, 0, 2, 0))
    new = bytearray(record[:24]) + block + main[:2] + bytes(image) + main[2:]
    pack_into("<I", new, 0, len(new))
    end_lsn = unpack_from(">Q", case.request, start - 8)[0]
    request = (
        b"B\0\0\0\x15" + tag
        + b"A" + (len(new) + 12).to_bytes(4, "big") + end_lsn.to_bytes(8, "big") + bytes(new)
        + b"G\0\0\0\x15" + tag
    )  # fmt: skip
    answered = answer(build, request)
    assert not isinstance(answered, str)
    assert without_checksum(answered[1]) == without_checksum(case.page)


def pack_image(length: int) -> bytes:
    """The image header of 15: length, no hole, bimg_info with the apply bit."""
    return length.to_bytes(2, "little") + bytes((0, 0, 0x02))


def rel_and_block(tag: bytes) -> bytes:
    """The relation and block of a protocol tag as a record has them: little-endian."""
    return b"".join(tag[at : at + 4][::-1] for at in (1, 5, 9, 13))


def segment(items: list[tuple[int, int]]) -> bytes:
    """Encodes items as ginCompressPostingList does."""
    numbers = [block << 11 | offset for block, offset in items]
    data = bytearray()
    for before, number in pairwise(numbers):
        delta = number - before
        while delta > 0x7F:
            data.append(0x80 | delta & 0x7F)
            delta >>= 7
        data.append(delta)
    return plain(items[:1]) + len(data).to_bytes(2, "little") + data + bytes(len(data) & 1)


def plain(items: list[tuple[int, int]]) -> bytes:
    return b"".join(
        (block >> 16).to_bytes(2, "little")
        + (block & 0xFFFF).to_bytes(2, "little")
        + offset.to_bytes(2, "little")
        for block, offset in items
    )


def data_leaf(content: bytes, *, compressed: bool = True, maxoff: int = 0) -> bytes:
    """A posting tree leaf as it stands on disk."""
    page = bytearray(8192)
    flags = 0x83 if compressed else 0x03
    lower = 32 + len(content) if compressed else 32
    pack_into("<HHHHHI", page, 10, 0, lower, 8184, 8184, 0x2004, 0)
    pack_into("<IHH", page, 8184, 0xFFFFFFFF, maxoff, flags)
    page[32 : 32 + len(content)] = content
    return bytes(page)


def recompress(build: ModuleType, page: bytes, actions: bytes) -> tuple[int, bytes] | str:
    """Applies a Gin VACUUM_DATA_LEAF_PAGE record with these segment actions."""
    tag = bytes(17)
    header = bytearray(24)
    header[16:18] = 0x90, 13
    block = bytes((0, 0x20)) + len(actions).to_bytes(2, "little") + rel_and_block(tag)
    record = header + block + actions
    pack_into("<I", record, 0, len(record))
    request = (
        b"B\0\0\0\x15" + tag + b"P\0\0\x20\x15" + tag + page
        + b"A" + (len(record) + 12).to_bytes(4, "big") + (0x2000).to_bytes(8, "big") + record
        + b"G\0\0\0\x15" + tag
    )  # fmt: skip
    return answer(build, request)


def segments_of(page: bytes) -> bytes:
    return page[32 : unpack_from("<H", page, 12)[0]]


ITEMS = st.lists(
    st.tuples(st.integers(0, 2**32 - 2) | st.integers(0, 300), st.integers(1, 2047)),
    min_size=1,
    max_size=40,
    unique=True,
).map(sorted)


@settings(max_examples=80, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=5), st.data())
def test_segment_actions_against_a_model(
    segments: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    """Delete, insert, replace and add items, against lists; an item in both is kept once."""
    wanted = []
    actions = bytearray()
    count = 0
    for number, items in enumerate(segments):
        kind = data.draw(st.sampled_from((0, 1, 2, 3, 4)))
        new = data.draw(ITEMS) if kind >= 2 else []
        if kind == 0:
            wanted.append(items)
            continue
        count += 1
        actions += bytes((number, kind))
        if kind in (2, 3):
            actions += segment(new)
            wanted.append(new)
        if kind == 2:
            wanted.append(items)
        if kind == 4:
            actions += len(new).to_bytes(2, "little") + plain(new)
            wanted.append(sorted(set(items) | set(new)))
    body = count.to_bytes(2, "little") + actions
    page = data_leaf(b"".join(map(segment, segments)))
    for build in (INSTALLED, UNCOMPILED):
        answered = recompress(build, page, bytes(body))
        assert not isinstance(answered, str)
        assert segments_of(answered[1]) == b"".join(map(segment, wanted))


@pytest.mark.parametrize("build", [INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
def test_leaf_of_before_9_4_is_compressed_first(build: ModuleType) -> None:
    items = [(block, offset) for block in (3, 70000) for offset in range(1, 200)]
    page = data_leaf(plain(items), compressed=False, maxoff=len(items))
    add = b"\x01\0" + bytes((0, 4, 1, 0)) + plain([(4, 5)])
    answered = recompress(build, page, add)
    assert not isinstance(answered, str)
    assert segments_of(answered[1]) == segment(sorted([*items, (4, 5)]))
    assert unpack_from("<HH", answered[1], 8188) == (0, 0x83)


@pytest.mark.parametrize("build", [INSTALLED, UNCOMPILED], ids=["installed", "uncompiled"])
def test_segments_that_do_not_fit_are_refused(build: ModuleType) -> None:
    full = [segment([(number, 1)]) for number in range(1019)]
    page = data_leaf(b"".join(full))
    insert = b"\x01\0" + bytes((0, 2)) + segment([(2000, 1)])
    assert "no room" in str(recompress(build, page, insert))
    many = [(number * 9, 1) for number in range(10000)]
    add = b"\x01\0" + bytes((0, 4)) + len(many).to_bytes(2, "little") + plain(many)
    assert "no room" in str(recompress(build, data_leaf(segment([(1, 1)])), add))
    beyond = b"\x01\0" + bytes((7, 1))
    assert "cut short" in str(recompress(build, data_leaf(full[0]), beyond))
