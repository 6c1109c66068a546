"""The periods that rows are gathered in: calendar units, or any interval, cut by the clock of UTC or of a time zone. Pure.

    90s, 15min, 6h, 1d    of equal length, counted from 1970-01-01T00:00      2w    from Monday, 1969-12-29
    1mo, 3mo, 6mo         from the start of the year                          2y    from 1970

In a time zone the clock on the wall counts. A day is from midnight to midnight, be it 23 or 25 hours long. Where the clock is put
back, a step of less than a day begins anew at a time that comes twice; where it is put forward, what would begin in between begins
at that moment. All times are µs since 1970.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np

from tesseract.errors import InputError
from tesseract.query.catalog import nearest
from tesseract.query.integers import Ints
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN
from tesseract.utils.time_utils import MICROSECOND, from_micros, to_micros

SECOND = 1_000_000
MONDAY = -3 * DAY
_LENGTHS = {"s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": DAY, "w": 7 * DAY}
_MONTHS = {"mo": 1, "y": 12}
_MOST_MONTHS = 12 * 10_000  # all years that there are
_STEP = re.compile(r"(\d+)\s*([a-z]+)")
_HINT = "write 90s, 15min, 6h, 1d, 1w, 1mo or 1y"
_NAMED = {
    "1min": "1min",
    "15min": "15min",
    "hourly": "1h",
    "daily": "1d",
    "weekly": "1w",
    "monthly": "1mo",
    "quarterly": "3mo",
    "yearly": "1y",
}


class Step(NamedTuple):
    """An interval on a clock: of so many months, else of so many µs, counted from `origin`."""

    months: int
    micros: int
    origin: int = 0

    @property
    def length(self) -> int:
        """µs, of months about."""
        return self.months * 30 * DAY + self.micros

    @property
    def by_days(self) -> bool:
        """Whether it begins at midnight, always."""
        return bool(self.months) or (self.micros % DAY == 0 and self.origin % DAY == 0)

    @property
    def counts_weeks(self) -> bool:
        """Whether it is one of whole weeks."""
        return not self.months and self.origin == MONDAY and self.micros % (7 * DAY) == 0

    def floor(self, times: Ints) -> Ints:
        """The starts of the intervals that hold `times`."""
        if not self.months:
            return (times - self.origin) // self.micros * self.micros + self.origin
        index = times.astype("M8[us]").astype("M8[M]").astype(np.int64) // self.months * self.months
        found: Ints = index.astype("M8[M]").astype("M8[us]").astype(np.int64)
        return found

    def within(self, start: int, end: int) -> Ints:
        """The starts that lie in [start, end)."""
        if self.months:
            low, high = (np.array([start, end]).astype("M8[us]").astype("M8[M]").astype(np.int64)).tolist()
            months = np.arange(low // self.months * self.months, high + 1, self.months)
            found: Ints = months.astype("M8[M]").astype("M8[us]").astype(np.int64)
            return found[(found >= start) & (found < end)]
        first = -(-(start - self.origin) // self.micros) * self.micros + self.origin
        return np.arange(first, end, self.micros)


class Span(NamedTuple):
    """From `start` on the clock of a zone is `offset` ahead of UTC."""

    start: int
    offset: int


class Buckets(NamedTuple):
    """All intervals of a step, on the clock of a zone; "" is UTC."""

    name: str
    step: Step
    zone: str = ""

    @property
    def length(self) -> int:
        """µs of an interval, about."""
        return self.step.length

    def starts(self, times: Ints) -> Ints:
        """The starts of the intervals that hold `times` (sorted)."""
        if not self.zone or not len(times):
            return self.step.floor(times)
        return self._local(int(times[0]), int(times[-1])).starts(times)

    def within(self, start: int, end: int) -> Ints:
        """The starts that lie in [start, end), sorted."""
        return self._local(start, end).within(start, end) if self.zone else self.step.within(start, end)

    def ceiling(self, micros: int) -> int:
        """The first start that is not before a moment; an open end stays open."""
        if micros in (TIME_MIN, TIME_MAX):
            return micros
        found = self.within(micros, micros + self.length + self.length // 10 + 4 * DAY)
        return min(int(found[0]), TIME_MAX)

    def divisible(self, length: int, start: int, end: int) -> bool:
        """Whether periods of `length` (µs, at most a day, counted from 1970) are never cut by an edge within [start, end]."""
        step = self.step
        if not step.by_days and (step.micros % length or step.origin % length):
            return False
        spans = self._local(start, end).spans if self.zone else ()
        return all(span.offset % length == 0 and (span.start % length == 0 or span.start <= start) for span in spans)

    def _local(self, start: int, end: int) -> _Local:
        return _Local(self.step, tuple(_spans(self.zone, start - self.length - 3 * DAY, end + 3 * DAY)))


class _Local(NamedTuple):
    """A step on a clock that changes: its spans, the first of which begins before everything that is asked for."""

    step: Step
    spans: tuple[Span, ...]

    def starts(self, times: Ints) -> Ints:
        begins = np.array([span.start for span in self.spans])
        offsets = np.array([span.offset for span in self.spans])
        walls = self.step.floor(times + offsets[np.searchsorted(begins, times, side="right") - 1])
        found = np.empty(len(times), np.int64)
        edges = [0, *np.searchsorted(times, begins[1:]).tolist(), len(times)]
        for place, (low, high) in enumerate(pairwise(edges)):
            own = walls[low:high]
            found[low:high] = own - self.spans[place].offset
            for wall in self._elsewhere(own, place):
                found[low:high][own == wall] = self._moment(int(wall), place)
        return found

    def _elsewhere(self, walls: Ints, place: int) -> Ints:
        """Those of the starts on the wall that were shown before a span began, if only for the first time."""
        if not place:
            return walls[:0]
        before, span = self.spans[place - 1], self.spans[place]
        bound = span.start + span.offset
        if self.step.by_days:
            bound = max(bound, span.start + before.offset)
        return np.unique(walls[: np.searchsorted(walls, bound)])

    def _moment(self, wall: int, place: int) -> int:
        """When the wall showed a time: at a step of days the first time, else the last one before the end of a span."""
        span = self.spans[place]
        if place and wall < span.start + span.offset:
            before = self.spans[place - 1]
            return span.start if wall >= span.start + before.offset else self._moment(wall, place - 1)
        if place and self.step.by_days and wall < span.start + self.spans[place - 1].offset:
            return self._moment(wall, place - 1)
        return wall - span.offset

    def within(self, start: int, end: int) -> Ints:
        found = np.concatenate([self._of_span(place, start, end) for place in range(len(self.spans))])
        return np.unique(found)

    def _of_span(self, place: int, start: int, end: int) -> Ints:
        """The starts that lie in a span and in [start, end)."""
        span = self.spans[place]
        low = max(span.start, start)
        high = min(self.spans[place + 1].start, end) if place + 1 < len(self.spans) else end
        walls = self.step.within(low + span.offset, high + span.offset) if low < high else np.zeros(0, np.int64)
        if not place or not low <= span.start < high:
            return walls - span.offset
        shown = span.start + self.spans[place - 1].offset  # what the wall showed until then
        if self.step.by_days:
            walls = walls[walls >= shown]
        skipped = self.step.within(shown, span.start + span.offset)
        return np.concatenate([[span.start] if len(skipped) else [], walls - span.offset]).astype(np.int64)


def _spans(zone: str, start: int, end: int) -> list[Span]:
    """The offsets of a zone from `start` to `end`."""
    first, last = (from_micros(min(max(micros, TIME_MIN + 2 * DAY), TIME_MAX - 2 * DAY)) for micros in (start, end))
    found = [Span(start, _offset(ZoneInfo(zone), to_micros(first)))]
    for year in range(first.year, last.year + 1):
        found += [span for span in _changes(zone, year) if start < span.start <= end]
    return found


@lru_cache(4096)
def _changes(zone: str, year: int) -> tuple[Span, ...]:
    """Where the offset of a zone changes within a year."""
    info, found = ZoneInfo(zone), []
    days = datetime(year, 12, 31, tzinfo=UTC).timetuple().tm_yday
    edges = [to_micros(datetime(year, 1, 1, tzinfo=UTC)) + day * DAY for day in range(days + 1)]
    edges = [min(max(edge, TIME_MIN + 2 * DAY), TIME_MAX - 2 * DAY) for edge in edges]
    for low, high in pairwise(edges):
        before, after = _offset(info, low), _offset(info, high)
        if before != after:
            while high - low > SECOND:
                middle = (low + high) // 2 // SECOND * SECOND
                low, high = (middle, high) if _offset(info, middle) == before else (low, middle)
            found.append(Span(high, after))
    return tuple(found)


def _offset(zone: ZoneInfo, micros: int) -> int:
    offset = from_micros(micros).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // MICROSECOND


# as people write them ---------------------------------------------------------------------------------------------------


def calendar(unit: str, zone: str = "") -> Buckets:
    """The periods of a calendar unit (`hourly`, `weekly`, …)."""
    return parse(_NAMED[unit], zone)._replace(name=unit)


def parse(text: str, zone: str = "") -> Buckets:
    """The intervals that a person names: `90s`, `15min`, `6h`, `1d`, `1w`, `1mo`, `1y`. Raises InputError where it is none."""
    match = _STEP.fullmatch(text.strip()) if isinstance(text, str) else None
    unit = match[2] if match else ""
    if match is None or unit not in {*_LENGTHS, *_MONTHS}:
        raise InputError(f"every {text!r} is no interval", hint=_HINT)
    count = int(match[1])
    if not 1 <= count <= 10_000_000 or count * _MONTHS.get(unit, 0) > _MOST_MONTHS:
        raise InputError(f"every {text!r} is no interval that there is", hint=_HINT)
    zone = checked(zone)
    if unit in _MONTHS:
        months = count * _MONTHS[unit]
        if 12 % months and months % 12:
            raise InputError(f"every {text!r} does not fit into a year", hint="1mo, 2mo, 3mo, 4mo, 6mo, or whole years")
        return Buckets(text.strip(), Step(months, 0), zone)
    return Buckets(text.strip(), Step(0, count * _LENGTHS[unit], MONDAY if unit == "w" else 0), zone)


def checked(zone: str) -> str:
    """A zone by its IANA name; "" for UTC. Raises InputError where there is none of that name."""
    if not zone or zone == "UTC":
        return ""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        hint = nearest(zone, sorted(available_timezones()))
        hint = hint if hint.startswith("did") else "write a name such as Europe/Zurich"  # hundreds are known
        raise InputError(f"there is no time zone {zone!r}", hint=hint) from error
    return zone
