"""The fields of a record's body as JSON: a template made from its layout, where that can say it.

So the fields are printed by the same instructions as descriptions (program.py). Bodies that a
template cannot say take the way over Python values. Neither writes the braces of the object.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from walstream.rmgr.layout import Field
from walstream.wal.model import RelFileLocator

if TYPE_CHECKING:
    from walstream.rmgr.op import Describe, Op
    from walstream.rmgr.view import View

# Numbers, and lists of a few.
NUMBERS = {
    "u8", "u16", "u32", "u64", "i8", "i32", "i64", "xid", "oid", "block", "lsn", "fullxid", "time",
    "blockid", "tid", "pair", "member", "lock", "state",
}  # fmt: skip
ARRAYS = {"u8", "u16", "u32", "xid", "oid", "block"}


def plain(value: Any) -> Any:
    """Returns a field's value as JSON has it: bytes in hexadecimal, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, RelFileLocator):
        return str(value)
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: plain(item) for name, item in value._asdict().items()}
        return [plain(item) for item in value]
    return value


def field_text(field: Field) -> str | None:
    """Returns the template of one field, None where there is none."""
    kind = field.kind
    if field.counted_by:
        known = kind in ARRAYS and field.counted_by != "*"
        value = f"{{{field.name}:[]}}" if known else None
    elif kind == "bool":
        value = f"{{{field.name}:true|false}}"
    elif kind == "locator":
        value = f'"{{{field.name}}}"'
    elif kind in NUMBERS:
        value = f"{{{field.name}:number}}"
    else:
        value = None
    return None if value is None else f'"{field.name}": {value}'


def fields_text(op: Op) -> str | Describe:
    """Returns the template, or the function, that prints the fields of an operation."""
    if op.fields is not None:
        return op.fields
    texts = [field_text(field) for field in op.layout.fields]
    known = [text for text in texts if text is not None]
    if op.extend is None and len(known) == len(texts):
        return ", ".join(known)

    def text(view: View) -> str:
        values = view.unpack(op.layout)
        if op.extend is not None:
            op.extend(view, values)
        whole = {name: plain(value) for name, value in values.items()}
        return json.dumps(whole, ensure_ascii=False)[1:-1]

    return text
