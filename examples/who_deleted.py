"""Says who deleted or updated a row, and when: who_deleted.py WAL RELATION CTID.

WAL is a store or any directory of WAL, RELATION a file such as base/5/16384, CTID '(0,7)'.
"""

import sys

from walstream import WalRecord, format_lsn, read_wal


def ends_tuple(record: WalRecord, block: int, offset: int) -> bool:
    """A DELETE names the tuple ``off``; an UPDATE ``old_off``, on block 1 if not on the same."""
    if not record.operation.startswith(("UPDATE", "HOT_UPDATE")):
        return record.operation == "DELETE" and record.fields["off"] == offset
    blocks = {ref.id: ref.tag.block for ref in record.blocks}
    return record.fields["old_off"] == offset and blocks.get(1, blocks[0]) == block


def main(wal: str, relation: str, ctid: str) -> None:
    block, offset = (int(number) for number in ctid.strip("()").split(","))
    for record in read_wal(wal, rmgr="Heap", relation=relation, block=block):
        if not ends_tuple(record, block, offset):
            continue
        print(f"{format_lsn(record.start_lsn)} {record.operation} by transaction {record.xid}")
        for end in read_wal(wal, record.end_lsn, rmgr="Transaction"):
            xact = end.xact_end
            if xact and record.xid in (end.xid, xact.twophase_xid, *xact.subxids):
                print(f"{format_lsn(end.start_lsn)} {end.operation} at {end.time}")
                break


if __name__ == "__main__":
    main(*sys.argv[1:4])
