"""Prints the records of a WAL segment: dump_records.py SEGMENT_FILE [RESOURCE_MANAGER]."""

import sys
from pathlib import Path

from walstream import rmgr
from walstream.wal.layout import rmgr_name
from walstream.wal.model import format_lsn
from walstream.wal.record import decode_wal_record
from walstream.wal.segment import parse_segment_file_name
from walstream.wal.stream import WalStreamDecoder


def main(path: Path, wanted: str | None) -> None:
    data = path.read_bytes()
    segment_size = int.from_bytes(data[32:36], "little")
    name = parse_segment_file_name(path.name, segment_size)
    assert name is not None, f"{path.name} is no segment file name"
    start_lsn = name.segment_number * segment_size
    decoder = WalStreamDecoder(None, segment_size, start_lsn, find_record=True)
    decoder.feed_bytes(start_lsn, data)
    while (raw := decoder.poll_decode()) is not None:
        record = decode_wal_record(raw, decoder.version)
        manager = rmgr_name(record.rmgr_id)
        if wanted in (None, manager):
            operation = rmgr.operation_name(decoder.version, record.rmgr_id, record.info)
            text = rmgr.describe(record, decoder.version)
            print(f"{format_lsn(record.start_lsn)} {manager}/{operation} {text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
