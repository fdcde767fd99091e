"""Hostile requests: an error of ours or a page, the same from the compiled and the plain engine.

The plain engine is also the judge of bounds: where a rule would leave a buffer, Python raises
IndexError there, and the test fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.redo.builds import INSTALLED, UNCOMPILED
from tests.redo.rules.requests import damaged
from tests.redo.vectors import redo_cases
from walstream.errors import WalstreamError

# The index access methods whose operations a damaged record may take for another's.
INDEXES = (11, 12, 13, 14, 16, 17)


class Edit(NamedTuple):
    """Puts ``value`` at a place of one message: ``message`` counts from the end of the request."""

    message: int
    place: float
    value: int


EDITS = st.lists(
    st.builds(
        Edit,
        st.sampled_from((2, 2, 2, 3, 4, 8)),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.sampled_from((0, 1, 4, 127, 128, 255)), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=12,
)


def messages_of(request: bytes) -> list[bytearray]:
    messages = []
    at = 0
    while at < len(request):
        end = at + 1 + int.from_bytes(request[at + 1 : at + 5], "big")
        messages.append(bytearray(request[at:end]))
        at = end
    return messages


def outcome(engine: Any, request: bytes) -> tuple[object, ...]:
    try:
        consumed = engine.process(request, len(request))
    except WalstreamError as error:
        return type(error), str(error)
    assert len(engine.replies) == 8192
    return consumed, bytes(engine.replies)


def mutate(request: bytes, edits: list[Edit], cut: float | None) -> bytes:
    messages = messages_of(request)
    for edit in edits:
        message = messages[-min(edit.message, len(messages) - 1)]
        # Only what the messages carry, not their own type and length.
        body = 13 if message[0] == 0x41 else 22
        if len(message) > body:
            # Squared, so that most edits hit headers.
            message[body + int(edit.place**2 * (len(message) - body))] = edit.value
    last = messages[-2]
    if cut is not None and last[0] == 0x41:
        length = 24 + int(cut * (len(last) - 13 - 24))
        del last[13 + length :]
        last[1:5] = (12 + length).to_bytes(4, "big")
        last[13:17] = length.to_bytes(4, "little")
    return b"".join(messages)


@settings(max_examples=400)
@given(
    st.sampled_from(redo_cases()),
    EDITS,
    st.one_of(st.none(), st.floats(0, 1)),
    st.sampled_from((14, 15, 15, 16, 17, 18)),
    st.booleans(),
)
def test_mutated_requests(case: Any, edits: Any, cut: Any, version: int, stamp_hints: bool) -> None:
    request = mutate(case.request, edits, cut)
    compiled = outcome(INSTALLED.Engine(version, stamp_hints), request)
    assert compiled == outcome(UNCOMPILED.Engine(version, stamp_hints), request)


@pytest.mark.parametrize("rmgr", INDEXES)
@settings(max_examples=250, deadline=None)
@given(data=st.data(), version=st.sampled_from((14, 15, 16, 17, 18)))
def test_damaged_requests_of_indexes(rmgr: int, data: st.DataObject, version: int) -> None:
    """As above, with many an edit that leaves the record's headers right."""
    cases = [case for case in redo_cases() if case.rmgr == rmgr]
    request = data.draw(damaged(cases, INDEXES))
    compiled = outcome(INSTALLED.Engine(version, False), request)
    assert compiled == outcome(UNCOMPILED.Engine(version, False), request)


@settings(max_examples=100)
@given(st.sampled_from(redo_cases()), st.data())
def test_any_cut_of_the_input(case: Any, data: st.DataObject) -> None:
    """Feeding a request in pieces gives the same page; nothing is consumed of half a message."""
    cut = data.draw(st.integers(0, len(case.request)))
    engine = INSTALLED.Engine(15, False)
    consumed = engine.process(case.request[:cut], cut)
    assert consumed <= cut
    rest = case.request[consumed:]
    assert consumed + engine.process(rest, len(rest)) == len(case.request)
    whole = INSTALLED.Engine(15, False)
    whole.process(case.request, len(case.request))
    assert engine.replies == whole.replies


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    engine = INSTALLED.Engine(18, True)
    try:
        consumed = engine.process(data, len(data))
    except WalstreamError:
        return
    assert 0 <= consumed <= len(data)
