"""Redo requests for the tests of rules: made by hand, or those of the vectors, damaged."""

from __future__ import annotations

from struct import pack, pack_into, unpack_from
from types import ModuleType

from hypothesis import strategies as st

from tests.redo.vectors import RedoCase
from tests.support.walgen import Block, record_body, record_bytes
from walstream.wal.model import BufferTag

END_LSN = 0x0000_0001_0000_2000


def tag(block: int) -> BufferTag:
    """Returns the tag of a block of the one relation that hand-made requests know."""
    return BufferTag(1663, 5, 16384, 0, block)


def wire_tag(of: BufferTag) -> bytes:
    return pack(">BIIII", of.fork, of.spc_oid, of.db_oid, of.rel_number, of.block)


def request(of: BufferTag, page: bytes | None, *records: tuple[int, bytes]) -> bytes:
    """Returns the messages that ask for one page: base page, (end LSN, record) each."""
    name = wire_tag(of)
    parts = [b"B\0\0\0\x15", name]
    if page is not None:
        parts += [b"P\0\0\x20\x15", name, page]
    for end_lsn, record in records:
        parts += [b"A", pack(">IQ", len(record) + 12, end_lsn), record]
    return b"".join([*parts, b"G\0\0\0\x15", name])


def redo(
    build: ModuleType,
    version: int,
    page: bytes | None,
    block: int,
    rmgr: int,
    info: int,
    blocks: list[Block],
    main_data: bytes,
) -> bytes:
    """Returns what one hand-made record makes of one page."""
    record = record_bytes(0, rmgr, info, 731, record_body(version, blocks, main_data))
    engine = build.Engine(version, False)
    engine.process(*with_length(request(tag(block), page, (END_LSN, record))))
    return bytes(engine.replies)


def with_length(data: bytes) -> tuple[bytes, int]:
    return data, len(data)


def last_record(data: bytes) -> tuple[int, int]:
    """Returns where the last record of a request starts and ends, its header included."""
    at, last = 0, (0, 0)
    while at < len(data):
        length = unpack_from(">I", data, at + 1)[0]
        if data[at : at + 1] == b"A":
            last = at + 13, at + 1 + length
        at += 1 + length
    return last


@st.composite
def damaged(draw: st.DrawFn, cases: list[RedoCase], rmgrs: tuple[int, ...]) -> bytes:
    """A request with bytes of its last record or its base page changed, or the record cut short.

    Now and then the record becomes one of another operation or resource manager.
    """
    data = bytearray(draw(st.sampled_from(cases)).request)
    start, end = last_record(bytes(data))
    places = st.integers(start + 24, min(end, start + 80) - 1) | st.integers(start + 24, end - 1)
    if data[22:23] == b"P":
        page = 22 + 22
        places |= st.integers(page + 12, page + 200) | st.integers(page + 8176, page + 8191)
        places |= st.integers(page + 12, page + 8191)
    values = st.sampled_from((0, 1, 2, 7, 8, 0x1F, 0x20, 0x7F, 0x80, 0xFF)) | st.integers(0, 255)
    for place in draw(st.lists(places, min_size=1, max_size=4)):
        data[place] = draw(values)
    kind = draw(st.integers(0, 9))
    if kind == 0:
        data[start + 16] = draw(st.integers(0, 15)) << 4
        data[start + 17] = draw(st.sampled_from(rmgrs))
    elif kind == 1:
        cut = draw(st.integers(1, min(40, end - start - 24)))
        del data[end - cut : end]
        pack_into(">I", data, start - 12, end - cut - start + 12)
        pack_into("<I", data, start, end - cut - start)
    return bytes(data)
