"""What kernels take for bytes, compiled and not: contiguous unsigned bytes, nothing else."""

from __future__ import annotations

from array import array
from types import ModuleType

import pytest

from tests.wal.builds import IDS, RECORDS, STREAMS

WRONG = {
    "str": ("text", TypeError),
    "none": (None, TypeError),
    "words": (array("I", bytes(64)), ValueError),
    "signed": (array("b", bytes(64)), ValueError),
    "every second byte": (memoryview(bytes(128))[::2], BufferError),
    "two dimensions": (memoryview(bytes(64)).cast("B", (8, 8)), ValueError),
}
RIGHT = (bytes(64), bytearray(64), memoryview(bytes(128))[32:96], memoryview(bytearray(64)))


@pytest.mark.parametrize("stream", STREAMS, ids=IDS)
@pytest.mark.parametrize("name", WRONG)
def test_feed_refuses_and_takes_nothing(stream: ModuleType, name: str) -> None:
    data, error = WRONG[name]
    decoder = stream.WalStreamDecoder(18)
    with pytest.raises(error):
        decoder.feed_bytes(0, data)
    assert decoder.feed_lsn == 0
    assert decoder.poll_decode() is None


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
@pytest.mark.parametrize("name", WRONG)
def test_read_refuses(record: ModuleType, name: str) -> None:
    data, error = WRONG[name]
    with pytest.raises(error):
        record.RecordReader(18).read_bytes(data)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_read_takes_every_kind_of_bytes(record: ModuleType) -> None:
    assert len({record.RecordReader(18).read_bytes(data) for data in RIGHT}) == 1
    assert record.RecordReader(18).read_bytes(b"") != 0


@pytest.mark.parametrize("stream", STREAMS, ids=IDS)
def test_a_piece_that_was_walked_is_let_go(stream: ModuleType) -> None:
    decoder = stream.WalStreamDecoder(18, find_record=True)
    piece = bytearray(20)
    decoder.feed_bytes(0, piece)
    decoder.poll_decode()
    piece.extend(b"more")  # BufferError while somebody holds a view of it
