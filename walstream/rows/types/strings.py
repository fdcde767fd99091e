"""Text, bits, identifiers and network addresses as text."""

from __future__ import annotations

import re
from struct import Struct

from walstream.errors import RowDamaged

_U16, _U32, _U64, _I32 = Struct("<H"), Struct("<I"), Struct("<Q"), Struct("<i")
_TID = Struct("<HHH")
_LSN = Struct("<Q")

PGSQL_AF_INET, PGSQL_AF_INET6 = 2, 3


def text_out(value: bytes) -> bytes:
    return value


def name_out(value: bytes) -> bytes:
    return value.split(b"\0", 1)[0]


def cstring_out(value: bytes) -> bytes:
    return value.rstrip(b"\0")


def char_out_raw(value: bytes) -> bytes:
    """The type "char" of 14: the byte as it is, nothing for 0."""
    return b"" if value == b"\0" else value


def char_out(value: bytes) -> bytes:
    """The type "char" since 15: bytes that are no ASCII in octal."""
    byte = value[0]
    if byte >= 0x80:
        return b"\\%03o" % byte
    return value if byte else b""


def bytea_out(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode()


def uuid_out(value: bytes) -> bytes:
    digits = value.hex()
    groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(groups).encode()


def tid_out(value: bytes) -> bytes:
    high, low, offset = _TID.unpack(value)
    return b"(%d,%d)" % (high << 16 | low, offset)


def pg_lsn_out(value: bytes) -> bytes:
    lsn = _LSN.unpack(value)[0]
    return b"%X/%X" % (lsn >> 32, lsn & 0xFFFFFFFF)


def bit_out(value: bytes) -> bytes:
    """bit and varbit: number of bits, then bytes with the high bit first."""
    count = _I32.unpack_from(value)[0]
    digits = "".join([f"{byte:08b}" for byte in value[4:]])
    if not 0 <= count <= len(digits):
        raise RowDamaged(f"bit string: {count} bits in {len(digits)}")
    return digits[:count].encode()


def macaddr_out(value: bytes) -> bytes:
    return value.hex(":").encode()


def _ipv6(address: bytes) -> str:
    """Returns an address as PostgreSQL's inet_net_ntop writes it, the way of BIND 8."""
    words = [address[at] << 8 | address[at + 1] for at in range(0, 16, 2)]
    best_start, best_length = -1, 1
    at = 0
    while at < 8:
        run = at
        while run < 8 and words[run] == 0:
            run += 1
        if run - at > best_length:
            best_start, best_length = at, run - at
        at = max(run, at + 1)
    text = ""
    for at, word in enumerate(words):
        if best_start <= at < best_start + best_length and best_start >= 0:
            text += ":" if at == best_start else ""
            continue
        text += ":" if at else ""
        if at == 6 and best_start == 0 and _ends_dotted(words, best_length):
            return text + ".".join(str(byte) for byte in address[12:])
        text += f"{word:x}"
    return text + ":" if best_start >= 0 and best_start + best_length == 8 else text


def _ends_dotted(words: list[int], length: int) -> bool:
    return length == 6 or (length == 7 and words[7] != 1) or (length == 5 and words[5] == 0xFFFF)


def _network(value: bytes, always_bits: bool) -> bytes:
    family, bits, address = value[0], value[1], value[2:]
    if family == PGSQL_AF_INET and len(address) == 4:
        text, most = ".".join(str(byte) for byte in address), 32
    elif family == PGSQL_AF_INET6 and len(address) == 16:
        text, most = _ipv6(address), 128
    else:
        raise RowDamaged(f"inet: family {family} with {len(address)} bytes")
    if bits > most:
        raise RowDamaged(f"inet: {bits} bits of {most}")
    return (f"{text}/{bits}" if always_bits or bits != most else text).encode()


def inet_out(value: bytes) -> bytes:
    return _network(value, False)


def cidr_out(value: bytes) -> bytes:
    return _network(value, True)


def snapshot_out(value: bytes) -> bytes:
    """pg_snapshot and txid_snapshot: count, xmin, xmax, xids in progress."""
    count = _U32.unpack_from(value)[0]
    if len(value) != 20 + 8 * count:
        raise RowDamaged(f"snapshot: {count} xids in {len(value)} bytes")
    xmin, xmax, *xids = Struct(f"<{count + 2}Q").unpack_from(value, 4)
    return b"%d:%d:%s" % (xmin, xmax, b",".join([b"%d" % xid for xid in xids]))


_XML = re.compile(
    rb"""\s*<\?xml\s+version\s*=\s*(?P<v>"[^"]*"|'[^']*')"""
    rb"""(?:\s+encoding\s*=\s*(?:"[^"]*"|'[^']*'))?"""
    rb"""(?:\s+standalone\s*=\s*(?P<s>"(?:yes|no)"|'(?:yes|no)'))?\s*\?>"""
)


def xml_out(value: bytes) -> bytes:
    """Returns xml without its encoding; its declaration only where that says more than the default.

    Mirrors xml_out_internal and print_xml_decl.
    """
    found = _XML.match(value) if value.startswith(b"<?xml") else None
    if found is None:
        return value
    version = found["v"][1:-1]
    standalone = found["s"]
    rest = value[found.end() :]
    if version == b"1.0" and standalone is None:
        return rest.removeprefix(b"\n")
    declaration = b'<?xml version="%s"' % version
    if standalone is not None:
        declaration += b' standalone="%s"' % standalone[1:-1]
    return declaration + b"?>" + rest
