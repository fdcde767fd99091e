"""A pglz compressor for the tests: greedy, slow, and correct."""

from __future__ import annotations


def pglz_compress(data: bytes) -> bytes:
    """Returns ``data`` as pglz, matches found by the last three bytes seen."""
    out = bytearray()
    seen: dict[bytes, int] = {}
    at = 0
    control_at = -1
    bit = 8
    while at < len(data):
        if bit == 8:
            control_at = len(out)
            out.append(0)
            bit = 0
        key = data[at : at + 3]
        start = seen.get(key, -1) if len(key) == 3 else -1
        step = 1
        if start >= 0 and at - start < 4096:
            while at + step < len(data) and step < 273 and data[start + step] == data[at + step]:
                step += 1
        if step >= 3:
            distance = at - start
            out[control_at] |= 1 << bit
            low = min(step - 3, 15)
            out += bytes(((distance >> 4) & 0xF0 | low, distance & 0xFF))
            if low == 15:
                out.append(step - 18)
        else:
            step = 1
            out.append(data[at])
        for passed in range(at, at + step):
            seen[data[passed : passed + 3]] = passed
        at += step
        bit += 1
    return bytes(out)
