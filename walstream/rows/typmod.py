"""Types with their modifiers, as format_type prints them: varchar(20), numeric(10,2)."""

from __future__ import annotations

VARHDRSZ = 4
_INTERVAL_FIELDS = {
    1 << 2: " year",
    1 << 1: " month",
    1 << 3: " day",
    1 << 10: " hour",
    1 << 11: " minute",
    1 << 12: " second",
    1 << 2 | 1 << 1: " year to month",
    1 << 3 | 1 << 10: " day to hour",
    1 << 3 | 1 << 10 | 1 << 11: " day to minute",
    1 << 3 | 1 << 10 | 1 << 11 | 1 << 12: " day to second",
    1 << 10 | 1 << 11: " hour to minute",
    1 << 10 | 1 << 11 | 1 << 12: " hour to second",
    1 << 11 | 1 << 12: " minute to second",
    0x7FFF: "",
}
FULL_PRECISION = 0xFFFF


def numeric_typmod(typmod: int, version: int) -> tuple[int, int]:
    """Returns precision and scale of a numeric's modifier; the scale may be negative since 15."""
    value = typmod - VARHDRSZ
    scale = value & 0xFFFF if version < 15 else ((value & 0x7FF) ^ 1024) - 1024
    return value >> 16 & 0xFFFF, scale


def with_typmod(name: str, typmod: int, version: int) -> str:
    """Returns the name of a type with its modifier; -1 is none."""
    array = "[]" if name.endswith("[]") else ""
    base = name.removesuffix("[]")
    if typmod < 0:
        # A bpchar without a length is not character.
        return {"character": "bpchar"}.get(base, base) + array
    if base in ("character varying", "character"):
        shown = f"{base}({typmod - VARHDRSZ})"
    elif base in ("bit", "bit varying"):
        shown = f"{base}({typmod})"
    elif base == "numeric":
        precision, scale = numeric_typmod(typmod, version)
        shown = f"numeric({precision},{scale})"
    elif base.startswith(("time ", "timestamp ")):
        first, _, rest = base.partition(" ")
        shown = f"{first}({typmod}) {rest}"
    elif base == "interval":
        shown = base + _INTERVAL_FIELDS.get(typmod >> 16 & 0x7FFF, "")
        if typmod & 0xFFFF != FULL_PRECISION:
            shown += f"({typmod & 0xFFFF})"
    else:
        shown = base
    return shown + array
