"""The fuzzer's checks on inputs changed at random, half a minute of it, without a sanitizer."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.fuzz.checks import check
from tests.fuzz.inputs import unpack
from tests.fuzz.mutate import LIMIT, Mutator, byte_changer
from tests.fuzz.seeds import seeds

SEEDS = [case.pack() for case in seeds()]
WALS = [data for data in SEEDS if data[0] == 0]
OTHERS = [data for data in SEEDS if data[0] != 0]


def test_inputs_pack_as_they_unpack() -> None:
    for data, case in zip(SEEDS, seeds(), strict=True):
        assert unpack(data) == case


def test_seeds() -> None:
    for data in SEEDS:
        check(data)


@pytest.mark.timeout(3600)  # 10,000 examples; the machine may be busy
@given(
    st.integers(0, len(WALS) - 1).map(WALS.__getitem__)
    | st.integers(0, len(OTHERS) - 1).map(OTHERS.__getitem__),
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=6),
)
@settings(max_examples=10_000, deadline=None)
def test_changed_inputs(data: bytes, changes: list[int]) -> None:
    for seed in changes:
        random = Random(seed)
        data = Mutator(random, byte_changer(random)).mutate(data, LIMIT)
    note(data.hex())
    check(data)
