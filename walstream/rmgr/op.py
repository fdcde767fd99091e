"""What one operation of a resource manager is called, how its body lies, what is printed of it.

``text`` is a template: literal text and ``{field}``. Fields print as PostgreSQL prints their kind
(``lsn`` as X/X, ``locator`` as a/b/c, ``fullxid`` as epoch:xid, ``tid`` as block/offset). More:

- ``{field:02X}`` two hexadecimal digits;
- ``{field:yes|no}`` a choice by truth, ``{field&4:yes|no}`` by a bit;
- ``{field:names+}`` the names of the bits set, each with a space after it, and ``{field:names,}``
  the same joined by ``, `` (BIT_NAMES);
- ``{field:@names}`` the name of a value (VALUE_NAMES), ``?`` where it has none;
- ``{array:[]}`` the items of an array of integers, as array_desc of rmgrdesc_utils.c does;
- ``{field:number}`` a plain number, or a list of them for a kind that is several (jsonfields.py);
- ``{:prune}`` a whole PRUNE of 17 and later, which is frequent and no template could say;
- ``{:block0}`` what follows is printed only where block 0 has data.

Where that is not enough, ``text`` is a function of a ``View`` (view.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from walstream.rmgr.layout import Layout, Value

if TYPE_CHECKING:
    from walstream.rmgr.view import View

Describe = Callable[["View"], str]
Extend = Callable[["View", dict[str, Value]], None]

BIT_NAMES = {
    "infobits": ("IS_MULTI", "LOCK_ONLY", "EXCL_LOCK", "KEYSHR_LOCK", "KEYS_UPDATED"),
    "truncate": ("CASCADE", "RESTART_SEQS"),
    "old_truncate": ("cascade", "restart_seqs"),
}


EMPTY = Layout()
GONE = Layout()

VALUE_NAMES = {"wal_level": ("minimal", "replica", "logical")}


class Op(NamedTuple):
    """One operation from major version ``since`` on (until a later entry replaces it).

    ``name`` is None where PostgreSQL has no name for the code although it describes the body.
    ``extend`` adds the fields that a layout cannot say; where these are always the same, ``fields``
    is the template of all (jsonfields.py).
    """

    since: int
    name: str | None
    layout: Layout = EMPTY
    text: str | Describe = ""
    extend: Extend | None = None
    fields: str | None = None


Ops = Mapping[int, tuple[Op, ...]]
"""Operation code (``info & 0xF0``) -> its forms, oldest first."""


def ops_of(version: int, ops: Ops) -> dict[int, Op]:
    """Returns the operations that ``version`` has, each in its form of that version.

    A form whose layout is GONE ends the operation.
    """
    found = {}
    for code, forms in ops.items():
        fitting = [form for form in forms if form.since <= version]
        if fitting and fitting[-1].layout is not GONE:
            found[code] = fitting[-1]
    return found
