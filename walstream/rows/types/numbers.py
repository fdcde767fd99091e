"""Numbers as text: integers, floats (shortest), numeric, money, booleans."""

from __future__ import annotations

from fractions import Fraction
from struct import Struct

from walstream.errors import RowDamaged

_I16, _I32, _I64 = Struct("<h"), Struct("<i"), Struct("<q")
_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_F32, _F64 = Struct("<f"), Struct("<d")

NUMERIC_SIGN_MASK = 0xC000
NUMERIC_NEG = 0x4000
NUMERIC_SHORT = 0x8000
NUMERIC_SPECIAL = 0xC000
NUMERIC_SPECIALS = {0xC000: b"NaN", 0xD000: b"Infinity", 0xF000: b"-Infinity"}

# From here on a double's rounding interval may end at a decimal of 17 digits or fewer.
_BOUNDS_FROM = float(1 << 51)


def bool_out(value: bytes) -> bytes:
    return b"t" if value[0] else b"f"


def int2_out(value: bytes) -> bytes:
    return b"%d" % _I16.unpack(value)[0]


def int4_out(value: bytes) -> bytes:
    return b"%d" % _I32.unpack(value)[0]


def int8_out(value: bytes) -> bytes:
    return b"%d" % _I64.unpack(value)[0]


def uint4_out(value: bytes) -> bytes:
    return b"%d" % _U32.unpack(value)[0]


def uint8_out(value: bytes) -> bytes:
    return b"%d" % _U64.unpack(value)[0]


def _laid_out(negative: bool, digits: str, exponent: int, fixed_below: int) -> bytes:
    """Returns ``digits`` (without zeros at the end) times a power of ten as PostgreSQL writes it.

    ``exponent`` is that of the first digit.
    """
    sign = "-" if negative else ""
    if -4 <= exponent < fixed_below:
        if exponent < 0:
            text = "0." + "0" * (-exponent - 1) + digits
        elif len(digits) <= exponent + 1:
            text = digits + "0" * (exponent + 1 - len(digits))
        else:
            text = f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"
    else:
        point = "." if len(digits) > 1 else ""
        text = f"{digits[0]}{point}{digits[1:]}e{exponent:+03d}"
    return (sign + text).encode()


def _scientific(text: str) -> tuple[str, int]:
    """Returns digits and exponent of a positive number as ``repr`` or ``%e`` prints it."""
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) + len(whole) - 1
    if whole == "0":
        exponent -= len(fraction) - len(fraction.lstrip("0")) + 1
        exponent += 1 - len(whole)
    return digits.rstrip("0") or "0", exponent


def _shortest_within(value: Fraction, low: Fraction, high: Fraction) -> tuple[str, int]:
    """Returns the shortest decimal strictly between two numbers, the nearest to ``value``."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    if Fraction(10) ** exponent > value:
        exponent -= 1
    elif Fraction(10) ** (exponent + 1) <= value:
        exponent += 1
    for count in range(1, 20):
        unit = Fraction(10) ** (exponent - count + 1)
        below = value // unit
        found = [n for n in (below, below + 1) if low < n * unit < high]
        if found:
            best = min(found, key=lambda n: (abs(n * unit - value), n % 2))
            digits = str(best)
            # Rounded up to the next power of ten.
            return digits.rstrip("0"), exponent + len(digits) - count
    raise AssertionError("17 digits tell any two doubles apart")


def _special_float(value: float) -> bytes | None:
    if value != value:
        return b"NaN"
    if value in (float("inf"), float("-inf")):
        return b"Infinity" if value > 0 else b"-Infinity"
    if value == 0:
        return b"-0" if str(value)[0] == "-" else b"0"
    return None


def format_float8(value: float) -> bytes:
    """Returns a double as float8out does: the shortest text strictly inside its bounds.

    Python's repr takes a bound of the rounding interval where reading it back rounds to even.
    """
    special = _special_float(value)
    if special is not None:
        return special
    size = abs(value)
    if size < _BOUNDS_FROM or size > 1e42:
        digits, exponent = _scientific(repr(size))
    else:
        bits = _U64.unpack(_F64.pack(size))[0]
        exact = Fraction(size)
        above = (exact + Fraction(_F64.unpack(_U64.pack(bits + 1))[0])) / 2
        below = (exact + Fraction(_F64.unpack(_U64.pack(bits - 1))[0])) / 2
        text = repr(size)
        if below < Fraction(text) < above:
            digits, exponent = _scientific(text)
        else:
            digits, exponent = _shortest_within(exact, below, above)
    return _laid_out(value < 0, digits, exponent, 15)


def float8_out(value: bytes) -> bytes:
    return format_float8(_F64.unpack(value)[0])


def float4_out(value: bytes) -> bytes:
    number: float = _F32.unpack(value)[0]
    special = _special_float(number)
    if special is not None:
        return special
    size = abs(number)
    bits = _U32.unpack(value)[0] & 0x7FFFFFFF
    lower = _F32.unpack(_U32.pack(bits - 1))[0]
    # Exact in a double: one bit more than a float has.
    below = (size + lower) / 2
    above = size + (size - lower) / (2 if bits & 0x7FFFFF else 1)
    if bits & 0x7FFFFF:
        for count in range(9):
            text = f"{size:.{count}e}"
            near = float(text)
            if below < near < above or (
                near in (below, above) and below < Fraction(text) < Fraction(above)
            ):
                digits, exponent = _scientific(text)
                return _laid_out(number < 0, digits, exponent, 6)
    digits, exponent = _shortest_within(Fraction(size), Fraction(below), Fraction(above))
    return _laid_out(number < 0, digits, exponent, 6)


def numeric_out(value: bytes) -> bytes:
    """Returns a numeric (NumericData) with exactly its display scale."""
    header = _U16.unpack_from(value)[0]
    kind = header & NUMERIC_SIGN_MASK
    if kind == NUMERIC_SPECIAL:
        special = NUMERIC_SPECIALS.get(header & 0xF000)
        if special is None:
            raise RowDamaged(f"numeric: header 0x{header:04X}")
        return special
    if kind == NUMERIC_SHORT:
        negative = header & 0x2000
        scale = (header & 0x1F80) >> 7
        weight = (header & 0x3F) - (header & 0x40)
        at = 2
    else:
        negative = kind == NUMERIC_NEG
        scale = header & 0x3FFF
        weight = _I16.unpack_from(value, 2)[0]
        at = 4
    count, rest = divmod(len(value) - at, 2)
    digits = Struct(f"<{count}H").unpack_from(value, at)
    if rest or any(digit > 9999 for digit in digits):
        raise RowDamaged("numeric: a digit beyond 9999")
    whole = weight + 1
    if whole > 0:
        text = "".join([f"{digit:04d}" for digit in digits[:whole]])
        text = (text + "0000" * (whole - count)).lstrip("0") or "0"
    else:
        text = "0"
    if scale:
        fraction = "0000" * -whole if whole < 0 else ""
        fraction += "".join([f"{digit:04d}" for digit in digits[max(whole, 0) :]])
        text += "." + fraction[:scale].ljust(scale, "0")
    return (("-" if negative else "") + text).encode()


def money_out(value: bytes) -> bytes:
    """Returns money as lc_monetary C prints it (cash_out)."""
    cents = _I64.unpack(value)[0]
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(cents), 100)
    return f"{sign}${whole:,}.{part:02d}".encode()
