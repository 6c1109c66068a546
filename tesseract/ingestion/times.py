"""Times as records write them: ISO 8601 in its usual forms, or numbers since 1970. Pure.

A time is kept to the nearest microsecond; one half way between two becomes the later one. 24:00 is the start of the next day, and a
leap second (23:59:60 UTC) is the start of the next second, since UTC as computers count it has no room for either.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Context, Decimal
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tesseract.config.dataset import TimeFormat
from tesseract.ingestion.rejections import Fault
from tesseract.utils.time_utils import EPOCH, from_micros, iso_seconds

UNITS = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds", "epoch_ns": "nanoseconds"}
PER_SECOND = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
_LIKELY = range(10**8, 10**10)  # seconds since 1970: from 1973 to 2286, what a number is probably meant to be

_ISO = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})|(?P<month_>[0-9]{2})(?P<day_>[0-9]{2})"
    r"|-?W(?P<week>[0-9]{2})-?(?P<weekday>[1-7])|-?(?P<ordinal>[0-9]{3}))"
    r"(?:[Tt ](?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2}))?)?(?:[.,](?P<fraction>[0-9]+))?"
    r"(?P<zone>[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2})(?::?(?P<seconds>[0-9]{2}))?)?)?)?"
)
_FAR = 20  # a number of more digits is beyond the years in every unit
_FRACTION_DIGITS = 40  # more cannot change the nearest microsecond
_SECONDS = Context(prec=40, Emax=999_999, Emin=-999_999)
_MICRO = Decimal("1e-6")


class Iso(NamedTuple):
    """What a text says: a wall-clock time, its offset from UTC if it has one, and whether it is in a leap second.

    The wall clock of a leap second shows the last second before it.
    """

    wall: datetime
    offset: timedelta | None
    leap: bool


def parse_moment(text: str) -> datetime:
    """A time as records write it, to the nearest microsecond, naive if it has no zone. Raises ValueError.

    RFC 3339 first, as the validator's fast road reads it: both must see the same instant. Then the other forms of ISO 8601.
    """
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        pass
    try:
        wall, offset, leap = parse_iso(text)
        moment = wall if offset is None else wall.replace(tzinfo=timezone(offset))
        return moment + timedelta(seconds=1) if leap else moment
    except OverflowError as error:
        raise ValueError(f"{text[:40]!r} is outside the years 1 to 9999") from error


def parse_iso(text: str) -> Iso:
    """A date, or a date and a time: extended or basic, by month, week or day of the year. Raises ValueError, OverflowError."""
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not ISO 8601")
    part = match.groupdict()
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    unit = 1_000_000 if part["second"] else 60_000_000 if part["minute"] else 3_600_000_000
    micros = _fraction(part["fraction"], unit)
    if hour == 24 and (minute or second or micros):
        raise ValueError("24:00 is the end of a day, and nothing is later")
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError("there is no such time of day")
    leap = second == 60
    clock = timedelta(hours=hour, minutes=minute, seconds=second - leap, microseconds=micros)
    return Iso(_date(part) + clock, _offset(part), leap)


def _date(part: dict[str, str | None]) -> datetime:
    year = int(part["year"] or 0)
    if not year:
        raise OverflowError("there is no year 0")
    if part["week"]:
        return datetime.fromisocalendar(year, int(part["week"]), int(part["weekday"] or 0))
    if part["ordinal"]:
        day = datetime(year, 1, 1) + timedelta(days=int(part["ordinal"]) - 1)  # noqa: DTZ001 - a wall clock
        if day.year != year:
            raise ValueError("the year has no such day")
        return day
    return datetime(year, int(part["month"] or part["month_"] or 0), int(part["day"] or part["day_"] or 0))  # noqa: DTZ001


def _offset(part: dict[str, str | None]) -> timedelta | None:
    if part["zone"] is None:
        return None
    hours, minutes, seconds = (int(part[name] or 0) for name in ("hours", "minutes", "seconds"))
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("there is no such offset")
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return -offset if part["sign"] == "-" else offset


def _fraction(digits: str | None, unit: int) -> int:
    """Microseconds of a fraction of `unit` microseconds, half way to the later one."""
    if not digits:
        return 0
    digits = digits[:_FRACTION_DIGITS]
    scale: int = 10 ** len(digits)
    return (2 * int(digits) * unit // scale + 1) // 2


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


class TimeReader:
    """Reads the times of one format; `zone` is the IANA name of those without one, empty where such a time is a fault."""

    def __init__(self, form: TimeFormat, zone: str = "") -> None:
        self.form, self._zone = form, _zone(zone) if zone else None
        self.iso = form == "iso8601"

    def read(self, name: str, value: Any) -> datetime:
        """The moment in UTC of any value, found at `name`. Raises Fault."""
        try:
            return self._text(name, value) if self.iso else from_micros(self._micros(name, value))
        except OverflowError as error:
            raise Fault(name, value, "outside", lambda: self._probable(value)) from error

    def utc(self, name: str, moment: datetime, text: str = "") -> datetime:
        """A moment of any zone, or of none, in UTC. Raises Fault, and OverflowError outside the years."""
        if moment.tzinfo is UTC:
            return moment
        return self._local(name, moment, text) if moment.tzinfo is None else moment.astimezone(UTC)

    def future(self, name: str, value: Any, moment: datetime, limit: datetime, now: datetime) -> Fault:
        """The fault of a valid time that lies later than `limit`: by how much, or what the number probably is."""
        skew = f"lies {span(moment - now)} ahead of the clock here; check the producer's, or raise max_future"
        return Fault(name, value, "future", lambda: self._probable(value) or skew, limit=iso_seconds(limit))

    def past(self, name: str, value: Any, moment: datetime, limit: datetime, now: datetime) -> Fault:
        """The fault of a valid time that lies before `limit`: how far back it lies, or what the number probably is."""
        gone = f"lies {span(now - moment)} back; what is so old is removed, or has been: see retention"
        return Fault(name, value, "past", lambda: self._probable(value) or gone, limit=iso_seconds(limit))

    def _text(self, name: str, value: Any) -> datetime:
        if isinstance(value, datetime):  # the fast road's
            return self.utc(name, value)
        if not isinstance(value, str):
            raise Fault(name, value, "time_text", lambda: self._probable(value))
        try:
            return self.utc(name, msgspec.convert(value, datetime), value)
        except msgspec.ValidationError:
            pass
        try:
            wall, offset, leap = parse_iso(value)
        except ValueError as error:
            raise Fault(name, value, "not_time") from error
        moment = self._local(name, wall, value) if offset is None else (wall - offset).replace(tzinfo=UTC)
        if not leap:
            return moment
        if (moment.hour, moment.minute) != (23, 59):
            raise Fault(name, value, "leap", "seconds go from 0 to 59")
        return moment + timedelta(seconds=1)

    def _local(self, name: str, wall: datetime, text: str) -> datetime:
        """A wall-clock time of the zone in UTC: of two the first, and a fault where there is none."""
        if self._zone is None:
            raise Fault(name, text, "no_zone", "" if text[10:] else "a date alone needs the dataset's time_zone")
        offset, other = (self._zone.utcoffset(wall.replace(fold=fold)) or timedelta() for fold in (0, 1))
        if offset < other:  # the clocks went from the one to the other, and skipped what lies between
            after = EPOCH.astimezone(timezone(other)).isoformat()[19:]
            raise Fault(name, text, "skipped", f"send UTC, or an offset such as {after}", zone=self._zone.key)
        return (wall - offset).replace(tzinfo=UTC)

    def _micros(self, name: str, value: Any) -> int:
        unit, per_second = UNITS[self.form], PER_SECOND[self.form]
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise Fault(name, value, "time_number", f"such as {1_767_610_800 * per_second}", unit=unit)
        if isinstance(value, Decimal):
            if not value.is_finite() or value.adjusted() > _FAR:
                raise OverflowError
            if per_second == 1:
                rounding = ROUND_HALF_DOWN if value < 0 else ROUND_HALF_UP  # half way: the later one
                return int(value.quantize(_MICRO, rounding, _SECONDS).scaleb(6, _SECONDS))
            if value != value.to_integral_value():
                raise Fault(name, value, "time_whole", unit=unit)
        whole = int(value)
        return (whole + 500) // 1000 if per_second == 10**9 else whole * (10**6 // per_second)

    def _probable(self, value: Any) -> str:
        """What a number that is no good time may be, nothing where it is none."""
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or Decimal(value).adjusted() > _FAR:
            return ""
        found = next((form for form, unit in PER_SECOND.items() if int(value) // unit in _LIKELY), self.form)
        return "" if found == self.form else f"it looks like {UNITS[found]} since 1970, which time_format {found} reads"


def span(length: timedelta) -> str:
    """A length of time in the largest unit that it has two of: `73 years`."""
    seconds = length // timedelta(seconds=1)
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
