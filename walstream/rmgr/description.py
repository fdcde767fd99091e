"""The friendly face: name, fields and description of a decoded record."""

from __future__ import annotations

from functools import cache

from walstream.errors import RecordError
from walstream.rmgr.layout import Value
from walstream.rmgr.program import Describer
from walstream.rmgr.table import operations_of
from walstream.rmgr.view import View
from walstream.wal.layout import XLR_RMGR_INFO_MASK
from walstream.wal.model import XLogRecord
from walstream.wal.reason import in_record


@cache
def describer(version: int) -> Describer:
    """Returns the description printer of a major version (14 to 18)."""
    return Describer(version)


def identify(version: int, rmgr_id: int, info: int) -> str | None:
    """Returns the name of an operation (rm_identify), None where PostgreSQL has none."""
    op = operations_of(version, rmgr_id).get(info & XLR_RMGR_INFO_MASK)
    return None if op is None else op.name


def operation_name(version: int, rmgr_id: int, info: int) -> str:
    """Returns what pg_waldump prints as the name: ``UNKNOWN (70)`` where there is none."""
    return identify(version, rmgr_id, info) or f"UNKNOWN ({info & XLR_RMGR_INFO_MASK:x})"


def describe(record: XLogRecord, version: int) -> str:
    """Returns the description that pg_waldump of that version prints (rm_desc).

    Empty where the operation is unknown. Custom resource managers: ``rmid: N``.

    Raises:
        RecordError: the body is shorter than the operation says.
    """
    try:
        text = describer(version).describe_bytes(record.data)
    except RecordError as error:
        raise in_record(error, record.start_lsn) from error
    return text.decode("utf-8", "backslashreplace")


def fields(record: XLogRecord, version: int) -> dict[str, Value]:
    """Returns the body of a record as named fields; empty where it is not known.

    Raises:
        RecordError: the body is shorter than the operation says.
    """
    op = operations_of(version, record.rmgr_id).get(record.info & XLR_RMGR_INFO_MASK)
    if op is None:
        return {}
    try:
        values = op.layout.unpack(record.main_data)
        if op.extend is not None:
            op.extend(View.of(record.data, version), values)
    except RecordError as error:
        raise in_record(error, record.start_lsn) from error
    return values
