"""Where PostgreSQL's clock begins, and timestamps as pg_waldump prints them.

That is timestamptz_to_str of its compat.c: local time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from walstream.wal.model import POSTGRES_EPOCH_S

POSTGRES_EPOCH = datetime.fromtimestamp(POSTGRES_EPOCH_S, UTC)

_FIRST_S = -62_135_596_800 + 86_400
_LAST_S = 253_402_300_799 - 86_400

_seconds: dict[int, tuple[str, str]] = {}


def second_text(unix_s: int) -> tuple[str, str]:
    """Returns ``YYYY-MM-DD HH:MM:SS`` and the zone's abbreviation, remembered per second."""
    found = _seconds.get(unix_s)
    if found is None:
        if len(_seconds) > 4096:
            _seconds.clear()
        if _FIRST_S <= unix_s <= _LAST_S:
            moment = datetime.fromtimestamp(unix_s, UTC).astimezone()
            found = (f"{moment:%Y-%m-%d %H:%M:%S}".rjust(19, "0"), moment.tzname() or "")
        else:
            # Years that Python's calendar lacks: the same calendar repeats every 400 years.
            cycles, rest = divmod(unix_s, 12_622_780_800)
            moment = datetime(1970, 1, 1) + timedelta(seconds=rest)
            found = (f"{moment.year + 400 * cycles}-{moment:%m-%d %H:%M:%S}", "UTC")
        _seconds[unix_s] = found
    return found


def format_time(time_us: int) -> str:
    """Returns ``2026-11-21 20:46:43.123456 UTC`` for microseconds since 2000-01-01."""
    # C division: towards zero, and a negative remainder keeps its sign.
    seconds, rest = divmod(abs(time_us), 1_000_000)
    if time_us < 0:
        seconds, rest = -seconds, -rest
    text, zone = second_text(seconds + POSTGRES_EPOCH_S)
    return f"{text}.{rest:06d} {zone}"
