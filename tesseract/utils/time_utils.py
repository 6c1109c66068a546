"""Time as Tesseract writes it: timezone-aware UTC, microseconds, ISO 8601 at a fixed width."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

from tesseract.errors import InputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_TIME = datetime.max.replace(tzinfo=UTC)

_RELATIVE = re.compile(r"^([+-]?)(\d+)(s|m|h|d|w)$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$")


def utc_now() -> datetime:
    """The clock. Only entry points call it: every decision takes `now` as an argument."""
    return datetime.now(UTC)


def iso_micros(moment: datetime) -> str:
    """`2013-01-01T06:00:00.000000Z`: fixed width, so that text order is time order."""
    if moment.tzinfo is UTC:  # as nearly always, and a tenth of the time
        text: str = msgspec.to_builtins(moment)  # ends in Z, and has six digits of a second or none
        return text[:-1] + ".000000Z" if len(text) == 20 else text
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").rjust(26, "0") + "Z"


def iso_seconds(moment: datetime) -> str:
    """`2013-01-01T06:00:00Z`, for moments on a whole second."""
    return iso_micros(moment)[:19] + "Z"


def iso_day(moment: datetime) -> str:
    """`2013-01-01`: the UTC day."""
    return iso_micros(moment)[:10]


def from_iso(text: str) -> datetime:
    """The inverse of `iso_micros`, `iso_seconds` and `iso_day`."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The inverse of `to_micros`."""
    return EPOCH + timedelta(microseconds=micros)


def parse_time(text: str, now: datetime, what: str = "time") -> datetime:
    """A moment that a person wrote: ISO 8601 with a zone, a bare day (UTC), `now`, or relative to now such as `-3h`.

    Raises InputError with what would be right.
    """
    text = text.strip()
    try:
        return _parsed(text, now, what)
    except OverflowError as error:
        raise InputError(f"{what} {text!r} lies beyond the years 1 to 9999") from error


def _parsed(text: str, now: datetime, what: str) -> datetime:
    if text == "now":
        return now
    relative = _RELATIVE.match(text)
    if relative:
        sign = -1 if relative[1] == "-" else 1
        return now + sign * timedelta(**{_UNITS[relative[3]]: int(relative[2])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{what} {text!r} is not a time", hint="write 2013-07-01T12:00:00Z, 2013-07-01, now or -3h") from error
    if moment.tzinfo is None:
        if len(text) > 10:
            raise InputError(f"{what} {text!r} has no time zone", hint=f"write {text}Z for UTC, or an offset")
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration without months and years, whose length the calendar decides. Raises ValueError."""
    match = _DURATION.match(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT1H or P1D")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
