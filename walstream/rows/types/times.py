"""Dates, times, intervals as text: DateStyle ISO, IntervalStyle postgres, in a time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta, tzinfo
from struct import Struct

from walstream.rmgr.clock import POSTGRES_EPOCH

_I32, _I64 = Struct("<i"), Struct("<q")
_TIMETZ = Struct("<qi")
_INTERVAL = Struct("<qii")

DAY_US = 86_400_000_000
MAX_I32, MAX_I64 = (1 << 31) - 1, (1 << 63) - 1
_DAYS_TO_2000 = 730_425  # from 0000-03-01
# The calendar repeats after so many days and years.
_CYCLE_DAYS, _CYCLE_YEARS = 146_097, 400


def civil(days: int) -> tuple[int, int, int]:
    """Returns year (0 is 1 BC), month and day of a day counted from 2000-01-01."""
    cycle, day_of_cycle = divmod(days + _DAYS_TO_2000, _CYCLE_DAYS)
    year = (
        day_of_cycle - day_of_cycle // 1460 + day_of_cycle // 36524 - day_of_cycle // 146096
    ) // 365
    day_of_year = day_of_cycle - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year + cycle * _CYCLE_YEARS + (month <= 2), month, day


def _date(days: int) -> tuple[str, str]:
    """Returns a date, and what comes behind everything for one before our era."""
    year, month, day = civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}", ""
    return f"{1 - year:04d}-{month:02d}-{day:02d}", " BC"


def _clock(time_us: int) -> str:
    seconds, fraction = divmod(time_us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def _offset(east_s: int) -> str:
    sign = "-" if east_s < 0 else "+"
    minutes, second = divmod(abs(east_s), 60)
    hour, minute = divmod(minutes, 60)
    text = f"{sign}{hour:02d}"
    if minute or second:
        text += f":{minute:02d}"
    return f"{text}:{second:02d}" if second else text


def date_out(value: bytes) -> bytes:
    days = _I32.unpack(value)[0]
    if days == MAX_I32:
        return b"infinity"
    if days == -MAX_I32 - 1:
        return b"-infinity"
    return "".join(_date(days)).encode()


def time_out(value: bytes) -> bytes:
    return _clock(_I64.unpack(value)[0]).encode()


def timetz_out(value: bytes) -> bytes:
    time_us, west_s = _TIMETZ.unpack(value)
    return (_clock(time_us) + _offset(-west_s)).encode()


def _timestamp(time_us: int, zone: str = "") -> bytes:
    days, time_of_day = divmod(time_us, DAY_US)
    date, era = _date(days)
    return f"{date} {_clock(time_of_day)}{zone}{era}".encode()


def timestamp_out(value: bytes) -> bytes:
    time_us = _I64.unpack(value)[0]
    if time_us == MAX_I64:
        return b"infinity"
    if time_us == -MAX_I64 - 1:
        return b"-infinity"
    return _timestamp(time_us)


def _utc_offset_s(time_us: int, zone: tzinfo) -> int:
    """Returns how far east of UTC the zone's clocks were at that moment, in seconds."""
    # datetime knows the years 1 to 9999; the rules beyond are those of the same day of the cycle.
    seconds = time_us // 1_000_000
    cycle_s = _CYCLE_DAYS * 86400
    lowest, highest = -62_000_000_000, 250_000_000_000
    if seconds < lowest:
        seconds = lowest + (seconds - lowest) % cycle_s
    elif seconds > highest:
        seconds = highest - (highest - seconds) % cycle_s
    moment = POSTGRES_EPOCH + timedelta(seconds=seconds)
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)


def timestamptz_out(zone: tzinfo | None) -> Callable[[bytes], bytes]:
    """Returns the output function for a time zone; None is UTC."""

    def output(value: bytes) -> bytes:
        time_us = _I64.unpack(value)[0]
        if time_us == MAX_I64:
            return b"infinity"
        if time_us == -MAX_I64 - 1:
            return b"-infinity"
        if zone is None:
            return _timestamp(time_us, "+00")
        east_s = _utc_offset_s(time_us, zone)
        return _timestamp(time_us + east_s * 1_000_000, _offset(east_s))

    return output


def interval_out(version: int) -> Callable[[bytes], bytes]:
    """Returns the output function of a major version: 17 made intervals that do not end."""

    def output(value: bytes) -> bytes:
        time_us, days, months = _INTERVAL.unpack(value)
        if version >= 17:
            if (time_us, days, months) == (MAX_I64, MAX_I32, MAX_I32):
                return b"infinity"
            if (time_us, days, months) == (-MAX_I64 - 1, -MAX_I32 - 1, -MAX_I32 - 1):
                return b"-infinity"
        return _interval(time_us, days, months).encode()

    return output


def _interval(time_us: int, days: int, months: int) -> str:
    """Mirrors EncodeInterval of style postgres: a sign shows again after a negative field."""
    sign = -1 if months < 0 else 1
    years, months = abs(months) // 12 * sign, abs(months) % 12 * sign
    parts = []
    before_negative = False
    for count, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if count:
            plus = "+" if before_negative and count > 0 else ""
            parts.append(f"{plus}{count} {unit}{'' if count == 1 else 's'}")
            before_negative = count < 0
    if time_us or not parts:
        plus = "-" if time_us < 0 else "+" if before_negative else ""
        parts.append(plus + _clock(abs(time_us)))
    return " ".join(parts)
