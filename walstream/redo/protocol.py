"""The redo protocol: what a request looks like on a redo child's stdin.

This is the protocol of Neon's ``postgres --wal-redo``, byte for byte. All integers are big-endian.
A message is a type byte, a u32 length that counts itself and the payload, and the payload; a tag
is fork u8, spcNode u32, dbNode u32, relNode u32, block u32::

    B  begin   tag                   21    no reply
    P  push    tag, 8192 page bytes  8213  no reply
    A  apply   u64 end LSN, record   12+n  no reply
    G  get     tag                   21    8192 page bytes, no header
    H  ping                          4     8192 zero bytes

One request is B, an optional P, A oldest first, G. Replies carry no name: only their order tells
whose they are. This module knows bytes only; pipes are ``process.py``'s and ``child.py``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import cython

from walstream.errors import RedoProtocolError
from walstream.wal.model import BufferTag

if TYPE_CHECKING:
    from walstream.wal.buffer import Writable
if not cython.compiled:
    from walstream.redo.rules.messages import (
        APPLY,
        APPLY_LENGTH,
        BEGIN,
        BEGIN_LENGTH,
        GET,
        PING_KIND,
        PUSH,
        PUSH_LENGTH,
        SizeOfTag,
    )
    from walstream.wal.buffer import move, put8, put_be32
    from walstream.wal.bufpage import BLCKSZ
    from walstream.wal.layout import SizeOfXLogRecord

PING = b"H\x00\x00\x00\x04"
PING_REPLY = bytes(BLCKSZ)

MAX_RECORD = 128 * 1024 * 1024
"""Longest record that a request may carry; the longest that names blocks stays far below it."""
MAX_MESSAGE = MAX_RECORD + 13
MAX_REQUEST = 256 * 1024 * 1024

_TAGGED = Struct(">BIBIIII")
_HEADER = Struct(">BI")


# No page: pd_lsn is beyond all LSNs, and the text is no page header.
_ERROR_FRAME = b"\xff" * 8 + b"walstream-error\0"


class RedoRequest(NamedTuple):
    """Everything that a child needs to rebuild one page.

    ``base_page`` is the page to start from (8192 bytes), or None where the first record
    initialises it. ``records`` are (end LSN, whole record) pairs, oldest first.
    """

    tag: BufferTag
    base_page: bytes | None
    records: tuple[tuple[int, bytes], ...]


def encode_request(request: RedoRequest) -> bytes:
    """Returns the bytes B, P, A..., G of one request.

    Raises:
        RedoProtocolError: a page or a record has an impossible length, or the whole is longer
            than MAX_REQUEST.
    """
    (spc_oid, db_oid, rel_number, fork, block), base_page, records = request
    size = 2 * 22
    if base_page is not None:
        if len(base_page) != BLCKSZ:
            raise RedoProtocolError(f"base page: expected {BLCKSZ} bytes, got {len(base_page)}")
        size += 22 + BLCKSZ
    for _, record in records:
        length = len(record)
        if length < SizeOfXLogRecord or length > MAX_RECORD:
            raise RedoProtocolError(
                f"record length: expected {SizeOfXLogRecord} to {MAX_RECORD}, got {length}"
            )
        size += 13 + length
    if size > MAX_REQUEST:
        raise RedoProtocolError(f"request length: expected at most {MAX_REQUEST}, got {size}")
    data = bytearray(size)
    p = data
    put_tagged(p, 0, BEGIN, BEGIN_LENGTH, spc_oid, db_oid, rel_number, fork, block)
    at = 22
    if base_page is not None:
        put_tagged(p, at, PUSH, PUSH_LENGTH, spc_oid, db_oid, rel_number, fork, block)
        source = base_page
        move(p, at + 22, source, 0, BLCKSZ)
        at += 22 + BLCKSZ
    for end_lsn, record in records:
        length = len(record)
        put8(p, at, APPLY)
        put_be32(p, at + 1, APPLY_LENGTH + length)
        put_be32(p, at + 5, end_lsn >> 32)
        put_be32(p, at + 9, end_lsn & 0xFFFFFFFF)
        source = record
        move(p, at + 13, source, 0, length)
        at += 13 + length
    put_tagged(p, at, GET, BEGIN_LENGTH, spc_oid, db_oid, rel_number, fork, block)
    return bytes(data)


def put_tagged(
    p: Writable,
    at: int,
    kind: int,
    length: int,
    spc_oid: int,
    db_oid: int,
    rel_number: int,
    fork: int,
    block: int,
) -> None:
    """Writes the 22 bytes of a message that begins with a tag."""
    put8(p, at, kind)
    put_be32(p, at + 1, length)
    put8(p, at + 5, fork)
    put_be32(p, at + 6, spc_oid)
    put_be32(p, at + 10, db_oid)
    put_be32(p, at + 14, rel_number)
    put_be32(p, at + 18, block)


def encode_error(text: str) -> bytes:
    """Returns the 8192 bytes that answer a request which cannot be redone.

    An extension of ours (``--error-frames``): the plain protocol knows no errors but death. The
    frame is as long as a page, so that the pipe stays in step: eight bytes 0xFF where pd_lsn
    stands, ``walstream-error`` NUL, the text in UTF-8, NULs.
    """
    body = text.replace("\0", " ").encode("utf-8", "replace")[: BLCKSZ - len(_ERROR_FRAME)]
    return (_ERROR_FRAME + body).ljust(BLCKSZ, b"\0")


def decode_error(reply: bytes) -> str | None:
    """Returns the text of an error frame, None for every other reply."""
    if not reply.startswith(_ERROR_FRAME):
        return None
    return reply[len(_ERROR_FRAME) :].rstrip(b"\0").decode("utf-8", "replace")


def decode_requests(data: bytes) -> Iterator[RedoRequest | None]:
    """Yields the requests in ``data``, which must end where a request ends; None is a ping.

    The reverse of ``encode_request``, for dumps. Stricter than a child: the tags of one request
    agree, and nothing but pings stands between G and B.

    Raises:
        RedoProtocolError: anything else; the message names the offset.
    """
    view = memoryview(data)
    at = 0
    tag: BufferTag | None = None
    base_page: bytes | None = None
    records: list[tuple[int, bytes]] = []
    while at < len(view):
        kind, payload = _message(view, at)
        if kind == PING_KIND and tag is None and not payload:
            yield None
        elif kind == APPLY and tag is not None and len(payload) >= 8 + SizeOfXLogRecord:
            records.append((int.from_bytes(payload[:8], "big"), bytes(payload[8:])))
        elif kind == BEGIN and tag is None and len(payload) == SizeOfTag:
            tag = _tag(payload)
        elif kind == PUSH and len(payload) == SizeOfTag + BLCKSZ and _tag(payload) == tag:
            if base_page is not None or records:
                raise RedoProtocolError(f"a base page that does not follow B at offset {at}")
            base_page = bytes(payload[SizeOfTag:])
        elif kind == GET and len(payload) == SizeOfTag and _tag(payload) == tag:
            assert tag is not None
            yield RedoRequest(tag, base_page, tuple(records))
            tag, base_page, records = None, None, []
        else:
            raise RedoProtocolError(
                f"message {chr(kind)!r} with {len(payload)} payload bytes does not fit"
                f" {'inside' if tag else 'outside'} a request at offset {at}"
            )
        at += 5 + len(payload)
    if tag is not None:
        raise RedoProtocolError(f"the data ends inside a request at offset {at}")


def _message(view: memoryview, at: int) -> tuple[int, memoryview]:
    if len(view) - at < _HEADER.size:
        raise RedoProtocolError(f"the data ends inside a message header at offset {at}")
    kind, length = _HEADER.unpack_from(view, at)
    if not 4 <= length < MAX_MESSAGE:
        raise RedoProtocolError(
            f"message length: expected 4 to {MAX_MESSAGE - 1}, got {length} at offset {at}"
        )
    if len(view) - at - 1 < length:
        raise RedoProtocolError(
            f"message {chr(kind)!r} of {length} bytes is cut after"
            f" {len(view) - at - 1} at offset {at}"
        )
    return kind, view[at + 5 : at + 1 + length]


def _tag(payload: memoryview) -> BufferTag:
    _, _, fork, spc_oid, db_oid, rel_number, block = _TAGGED.unpack(bytes(5) + payload[:17])
    return BufferTag(spc_oid, db_oid, rel_number, fork, block)
