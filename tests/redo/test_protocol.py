from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pure import pure
from walstream.errors import RedoProtocolError
from walstream.redo import protocol
from walstream.redo.protocol import (
    PING,
    RedoRequest,
    decode_error,
    decode_requests,
    encode_error,
    encode_request,
)
from walstream.wal.model import BufferTag

UNCOMPILED = pure("walstream.redo.protocol", {})
DATA = Path(__file__).parent.parent / "data"
U32 = st.integers(0, 2**32 - 1)
TAGS = st.builds(BufferTag, U32, U32, U32, st.integers(0, 3), U32)
REQUESTS = st.builds(
    RedoRequest,
    TAGS,
    st.none() | st.binary(min_size=1, max_size=64).map(lambda seed: (seed * 8192)[:8192]),
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=24, max_size=200)), max_size=5
    ).map(tuple),
)


def test_the_bytes_are_those_of_the_table() -> None:
    tag = BufferTag(spc_oid=0x11, db_oid=0x22, rel_number=0x33, fork=2, block=0x44)
    packed = bytes.fromhex("02 00000011 00000022 00000033 00000044")
    record = bytes(range(24))
    page = b"\xab" * 8192
    assert encode_request(RedoRequest(tag, page, ((0x0102030405060708, record),))) == (
        b"B\0\0\0\x15" + packed + b"P\0\0\x20\x15" + packed + page
        + b"A\0\0\0\x24" + bytes(range(1, 9)) + record + b"G\0\0\0\x15" + packed
    )  # fmt: skip
    assert len(encode_request(RedoRequest(tag, None, ()))) == 22 + 22
    assert PING == b"H\0\0\0\x04"


@given(st.lists(st.none() | REQUESTS, max_size=4))
def test_what_is_encoded_decodes_to_itself(requests: list[RedoRequest | None]) -> None:
    data = b"".join(PING if request is None else encode_request(request) for request in requests)
    assert list(decode_requests(data)) == requests


@pytest.mark.parametrize("name", ["neon_short_pg15.request", "neon_medium_pg15.request"])
def test_real_requests_survive_a_round_trip(name: str) -> None:
    data = (DATA / name).read_bytes()
    (request,) = decode_requests(data)
    assert request is not None
    assert encode_request(request) == data


@given(REQUESTS)
def test_both_builds_write_the_same_bytes(request: RedoRequest) -> None:
    assert UNCOMPILED.encode_request(request) == encode_request(request)


@given(REQUESTS, st.data())
def test_damaged_requests_raise_only_protocol_errors(
    request: RedoRequest, data: st.DataObject
) -> None:
    damaged = bytearray(encode_request(request))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(RedoProtocolError):
        list(decode_requests(bytes(damaged[:cut])))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"B\0\0", "ends inside a message header at offset 0"),
        (b"B\0\0\0\x15" + bytes(16), "'B' of 21 bytes is cut after 20"),
        (b"B\0\0\0\x15" + bytes(17), "ends inside a request at offset 22"),
        (b"H\0\0\0\x03", "expected 4 to 134217740, got 3"),
        (b"H\xff\xff\xff\xff", "got 4294967295 at offset 0"),
        (b"G\0\0\0\x15" + bytes(17), "does not fit outside a request"),
        (b"B\0\0\0\x15" + bytes(17) + PING, "'H' with 0 payload bytes does not fit inside"),
    ],
)
def test_errors_name_the_offset(data: bytes, words: str) -> None:
    with pytest.raises(RedoProtocolError, match=words):
        list(decode_requests(data))


TAG = BufferTag(1, 2, 3, 0, 4)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (RedoRequest(TAG, bytes(8191), ()), "base page: expected 8192 bytes, got 8191"),
        (RedoRequest(TAG, None, ((8, bytes(23)),)), "expected 24 to 134217728, got 23"),
    ],
)
def test_impossible_requests_are_refused(request_: RedoRequest, words: str) -> None:
    with pytest.raises(RedoProtocolError, match=words):
        encode_request(request_)


def test_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REQUEST", 1000)
    with pytest.raises(RedoProtocolError, match="expected at most 1000, got 1088"):
        encode_request(RedoRequest(TAG, None, ((8, bytes(900)), (16, bytes(118)))))


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=1000))
def test_an_error_frame_is_as_long_as_a_page_and_no_page(text: str) -> None:
    frame = encode_error(text)
    assert len(frame) == 8192
    assert decode_error(frame) == text
    assert decode_error(bytes(8192)) is None
