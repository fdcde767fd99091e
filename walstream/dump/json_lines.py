"""Prints records as JSON, one object a line, as docs/reference/dump.md describes it.

``ObjectWriter`` is a kernel, as its base: see ``lines.py``. Descriptions and fields come from
``rmgr.program``, the rest stands in the headers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cython

from walstream.errors import RecordError
from walstream.rmgr.description import operation_name
from walstream.rmgr.rmgrlist import rmgr_name

if TYPE_CHECKING:
    from walstream.wal.buffer import Bytes
if not cython.compiled:
    from walstream.dump.lines import RecordWriter
    from walstream.rmgr.program import Describer
    from walstream.rmgr.text import Text
    from walstream.wal.layout import (
        BKPBLOCK_HAS_IMAGE,
        BKPBLOCK_WILL_INIT,
        COMPRESSION_LZ4,
        COMPRESSION_NONE,
        COMPRESSION_PGLZ,
        FSM_FORKNUM,
        INIT_FORKNUM,
        MAIN_FORKNUM,
        VISIBILITYMAP_FORKNUM,
    )


class ObjectWriter(RecordWriter):
    """Writes the objects of one major version (14 to 18) into ``text``."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.fields = Describer(version, fields=True)

    def literals_of(self, rmgr_id: int) -> list[str]:
        names = [operation_name(self.version, rmgr_id, op) for op in range(0, 256, 16)]
        head = f', "rmgr": {json.dumps(rmgr_name(rmgr_id))}, "operation": '
        return [head, *(f'{json.dumps(name)}, "info": ' for name in names)]

    def write(self, p: Bytes, at: int, start_lsn: int, end_lsn: int) -> int:
        reader = self.reader
        out = self.text
        out.put_bytes(b'{"start_lsn": "')
        out.put_lsn(start_lsn, 1)
        out.put_bytes(b'", "end_lsn": "')
        out.put_lsn(end_lsn, 1)
        out.put_bytes(b'", "prev_lsn": "')
        out.put_lsn(reader.prev, 1)
        out.put_bytes(b'", "xid": ')
        out.put_unsigned(reader.xid, 0)
        self.put_manager(out)
        self.put_operation(out)
        out.put_unsigned(reader.info, 0)
        out.put_bytes(b', "record_length": ')
        out.put_unsigned(reader.total_length - self.image_bytes(), 0)
        out.put_bytes(b', "total_length": ')
        out.put_unsigned(reader.total_length, 0)
        out.put_bytes(b', "origin": ')
        out.put_unsigned(reader.origin, 0)
        out.put_bytes(b', "toplevel_xid": ')
        out.put_unsigned(reader.toplevel_xid, 0)
        out.put_bytes(b', "description": "')
        self.put_description(p, at, out)
        out.put_bytes(b'", "fields": {')
        self.put_fields(p, at, out)
        out.put_bytes(b'}, "blocks": [')
        for i in range(reader.block_count):
            self.put_block(i, out)
        out.put_bytes(b"]}\n")
        return 0

    def put_description(self, p: Bytes, at: int, out: Text) -> int:
        """Appends the description as it stands between quotes."""
        mark = out.used
        self.describe(p, at, out)
        if not out.is_plain(mark):
            text = bytes(out.store[mark : out.used]).decode("utf-8", "backslashreplace")
            out.cut(mark)
            quoted = json.dumps(text, ensure_ascii=False)
            out.put_bytes(quoted[1 : len(quoted) - 1].encode())
        return 0

    def put_fields(self, p: Bytes, at: int, out: Text) -> int:
        mark = out.used
        try:
            self.fields.describe(self.reader, p, at, out)
        except RecordError as error:
            out.cut(mark)
            out.put_bytes(f'"error": {json.dumps(str(error))}'.encode())
        return 0

    def put_block(self, i: int, out: Text) -> int:
        """Appends one block reference."""
        reader = self.reader
        if i > 0:
            out.put_bytes(b", ")
        out.put_bytes(b'{"id": ')
        out.put_unsigned(reader.block_id[i], 0)
        out.put_bytes(b', "relation": "')
        out.put_unsigned(reader.block_spc[i], 0)
        out.put_byte(47)
        out.put_unsigned(reader.block_db[i], 0)
        out.put_byte(47)
        out.put_unsigned(reader.block_rel[i], 0)
        out.put_bytes(b'", "fork": "')
        fork = reader.block_fork[i]
        if fork == MAIN_FORKNUM:
            out.put_bytes(b"main")
        elif fork == FSM_FORKNUM:
            out.put_bytes(b"fsm")
        elif fork == VISIBILITYMAP_FORKNUM:
            out.put_bytes(b"vm")
        elif fork == INIT_FORKNUM:
            out.put_bytes(b"init")
        else:
            out.put_unsigned(fork, 0)
        out.put_bytes(b'", "block": ')
        out.put_unsigned(reader.block_number[i], 0)
        if reader.block_flags[i] & BKPBLOCK_WILL_INIT:
            out.put_bytes(b', "will_init": true, "data_length": ')
        else:
            out.put_bytes(b', "will_init": false, "data_length": ')
        out.put_unsigned(reader.data_length[i], 0)
        if reader.block_flags[i] & BKPBLOCK_HAS_IMAGE:
            self.put_image(i, out)
        return out.put_byte(125)

    def put_image(self, i: int, out: Text) -> int:
        reader = self.reader
        out.put_bytes(b', "image": {"length": ')
        out.put_unsigned(reader.image_length[i], 0)
        out.put_bytes(b', "hole_offset": ')
        out.put_unsigned(reader.hole_offset[i], 0)
        out.put_bytes(b', "hole_length": ')
        out.put_unsigned(reader.hole_length[i], 0)
        compression = reader.image_compression[i]
        if compression == COMPRESSION_NONE:
            out.put_bytes(b', "compression": "none", "apply": ')
        elif compression == COMPRESSION_PGLZ:
            out.put_bytes(b', "compression": "pglz", "apply": ')
        elif compression == COMPRESSION_LZ4:
            out.put_bytes(b', "compression": "lz4", "apply": ')
        else:
            out.put_bytes(b', "compression": "zstd", "apply": ')
        if reader.image_apply[i]:
            out.put_bytes(b"true}")
        else:
            out.put_bytes(b"false}")
        return 0
