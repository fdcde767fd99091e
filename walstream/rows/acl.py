"""aclitem as text: grantee=rights/grantor."""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct

from walstream.text import encode

LETTERS = "arwdDxtXUCTcsAm"
# 15 added s and A, 17 m; bits in the order of the letters.
_OLD, _NEW = Struct("<III"), Struct("<IIQ")
_SAFE = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+")


def acl_name(name: str) -> str:
    """Returns a role's name as putid writes it: quoted unless of letters, digits, underscores."""
    return name if _SAFE.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def acl_out(version: int, roles: dict[int, str]) -> Callable[[bytes], bytes]:
    """Returns aclitemout of a major version: 16 made the item longer."""

    def role(oid: int) -> str:
        name = roles.get(oid)
        return str(oid) if name is None else acl_name(name)

    def output(value: bytes) -> bytes:
        grantee, grantor, bits = (_NEW if version >= 16 else _OLD).unpack(value)
        half = 32 if version >= 16 else 16
        text = "" if grantee == 0 else role(grantee)
        text += "="
        for number, letter in enumerate(LETTERS):
            if bits >> number & 1:
                text += letter
                if bits >> (half + number) & 1:
                    text += "*"
        return encode(f"{text}/{role(grantor)}")

    return output
