"""Protocol D, the routing: which days come from the buffer, which segments from the archive, which periods from where. Pure.

All times are µs since 1970, all ranges half-open, a day is a number (µs // DAY). Data only ever moves from the buffer to the
archive, and a reader reads the watermark first, then manifest and marks, then the buffer: so a day that the rule leaves out of the
buffer lies in the segments whole. (A write that was acknowledged before has its mark; if the mark is older than the watermark, its
row is in any manifest that is read after.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from tesseract.config.tiers import Unit
from tesseract.model import Manifest, Segment
from tesseract.utils.time_utils import MAX_TIME, from_micros, iso_day, iso_seconds, to_micros

DAY = 86_400 * 1_000_000
SKEW = 15 * 60 * 1_000_000
LATE = DAY + SKEW  # a write that is later than this after its day's end has marked the day
TIME_MIN = to_micros(datetime.min.replace(tzinfo=UTC))
TIME_MAX = to_micros(MAX_TIME)


class Range(NamedTuple):
    """[start, end). TIME_MIN and TIME_MAX stand for an open end."""

    start: int
    end: int


EVERYTHING = Range(TIME_MIN, TIME_MAX)


class Facts(NamedTuple):
    """What the rule looks at for one group.

    `through` is the watermark of the tier that is asked for: `archived_through` for raw, `snapshot_through` for a level. `marks`
    is day → marked_at. `floor` and `horizon` bound the days that can hold an unmarked record at all, so that an open range is
    finite; a marked day counts outside them too. While `trusted` is False, no live item counts: the stream may have lost changes.
    `settled` is `snapshot_through` as it is now, by which retention counts, whatever moment the rest is of.
    """

    through: int
    marks: Mapping[int, int]
    floor: int = TIME_MIN
    horizon: int = TIME_MAX
    trusted: bool = True
    settled: int = 0


class DaySlice(NamedTuple):
    """[start, end) of one UTC day of the buffer: one Query."""

    day: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"buffer   {day_text(self.day)}  {_span(self.start, self.end)}"


class SegmentSlice(NamedTuple):
    """[start, end) of one segment: one GET."""

    segment: Segment
    start: int
    end: int

    def __str__(self) -> str:
        return f"archive  {self.segment.key}  {_span(self.start, self.end)}"


class RawPlan(NamedTuple):
    """Where the raw rows of one group in `ranges` (sorted, disjoint) are. Rows met twice are merged by the total order."""

    group: str
    ranges: tuple[Range, ...]
    buffer: tuple[DaySlice, ...]
    archive: tuple[SegmentSlice, ...]

    def __str__(self) -> str:
        return "\n".join([f"raw {self.group}", *(f"  {part}" for part in (*self.archive, *self.buffer))])


class Stretch(NamedTuple):
    """[start, end) of period starts that come from live items or from snapshot rows."""

    source: Literal["live", "snapshot"]
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.source:8} {_span(self.start, self.end)}"


class LevelPlan(NamedTuple):
    """Where the periods of one group whose start lies in a range are; a period absent there is computed from raw rows."""

    group: str
    stretches: tuple[Stretch, ...]
    archive: tuple[SegmentSlice, ...]
    level: str = ""
    horizon: int = TIME_MAX  # no period begins after it

    def __str__(self) -> str:
        return "\n".join([f"{self.level} {self.group}", *(f"  {part}" for part in (*self.stretches, *self.archive))])


def day_text(day: int) -> str:
    """`2013-01-01`."""
    return iso_day(from_micros(day * DAY))


def day_number(text: str) -> int:
    """The inverse of `day_text`."""
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC)) // DAY


def is_hot(day: int, through: int, marks: Mapping[int, int]) -> bool:
    """The rule: whether a day is read from the buffer (a level's day: from live items)."""
    if through < (day + 1) * DAY + LATE:
        return True
    return day in marks and marks[day] >= through - SKEW


def hot_spans(wanted: Range, facts: Facts) -> list[Range]:
    """The parts of a range on days that the rule calls hot: sorted, disjoint, as long as they can be."""
    frontier = (facts.through - LATE) // DAY * DAY  # from this day on no day needs a mark
    spans = [Range(day * DAY, (day + 1) * DAY) for day in facts.marks if is_hot(day, facts.through, facts.marks)]
    spans.append(Range(frontier, TIME_MAX))
    return coalesce(clipped for span in spans if (clipped := _clip(span, wanted)) is not None)


def raw_plan(group: str, ranges: Sequence[Range], manifest: Manifest, facts: Facts) -> RawPlan:
    """The slices of the buffer and of the archive that hold every row of `ranges`, each source without overlap.

    Between two ranges a segment's slice may reach over the gap: a file is fetched once.
    """
    return RawPlan(group, tuple(ranges), tuple(hot_days(ranges, facts)), segment_slices(ranges, manifest))


def hot_days(ranges: Sequence[Range], facts: Facts) -> list[DaySlice]:
    """The slices of the buffer that hold what `ranges` (sorted, disjoint) have there, without overlap. More marks, more slices."""
    return [part for wanted in ranges for span in hot_spans(wanted, facts) for part in _days(span, facts)]


def level_plan(group: str, ranges: Sequence[Range], manifest: Manifest, facts: Facts) -> LevelPlan:
    """The stretches that cover the ranges (sorted, disjoint) exactly, in order, and the segments that the snapshot ones need."""
    stretches: list[Stretch] = []
    for wanted in ranges:
        at = wanted.start
        for span in hot_spans(wanted, facts):
            if at < span.start:
                stretches.append(Stretch("snapshot", at, span.start))
            stretches.append(Stretch("live", span.start, span.end))
            at = span.end
        if at < wanted.end:
            stretches.append(Stretch("snapshot", at, wanted.end))
    cold = [Range(part.start, part.end) for part in stretches if part.source == "snapshot"]
    return LevelPlan(group, tuple(stretches), segment_slices(cold, manifest), _level_name(manifest), facts.horizon)


def merged_plan(group: str, wanted: Range, unit: Unit, manifest: Manifest, facts: Facts) -> LevelPlan:
    """The same for a merged level, of whole periods: a period comes from its snapshot row only where all its days do.

    The rest, and what has no row, is merged from finer periods.
    """
    stretches: list[Stretch] = []
    for part in level_plan(group, [wanted], manifest, facts).stretches:
        start, end = ceiling(unit, part.start), floor(unit, part.end)
        if part.source == "snapshot" and start < end:
            stretches.append(Stretch("snapshot", start, end))
    cold = [Range(part.start, part.end) for part in stretches]
    return LevelPlan(group, tuple(stretches), segment_slices(cold, manifest), _level_name(manifest), facts.horizon)


def _level_name(manifest: Manifest) -> str:
    """The level that a partition is of: `hourly@…` is one of its lives."""
    return manifest.level.partition("@")[0]


def segment_slices(ranges: Sequence[Range], manifest: Manifest) -> tuple[SegmentSlice, ...]:
    """The segments that can hold rows of `ranges`, oldest window first, each with the hull of what is wanted of it."""
    slices: list[SegmentSlice] = []
    for segment in sorted(manifest.segments, key=lambda part: (part.window_end, part.key)):
        rows = Range(segment.first, segment.last + 1)
        parts = [clipped for wanted in ranges if (clipped := _clip(rows, wanted)) is not None]
        if parts:
            slices.append(SegmentSlice(segment, parts[0].start, parts[-1].end))
    return tuple(slices)


def gaps(ranges: Iterable[Range], unit: Unit, found: Sequence[int]) -> list[Range]:
    """The periods whose start lies in one of `ranges` (sorted, disjoint) and is not among `found` (sorted), as whole periods."""
    missing: list[Range] = []
    for wanted in ranges:
        at, stop = ceiling(unit, wanted.start), ceiling(unit, wanted.end)
        for start in found[bisect_left(found, at) : bisect_left(found, stop)]:
            if at < start:
                missing.append(Range(at, start))
            at = to_micros(unit.end(from_micros(start)))
        if at < stop:
            missing.append(Range(at, stop))
    return missing


def starting_in(unit: Unit, periods: Iterable[Range], spans: Iterable[Range]) -> list[Range]:
    """Of ranges of whole periods (sorted, disjoint), the periods that start in one of `spans` (likewise)."""
    spans = list(spans)
    found = [
        Range(ceiling(unit, part.start), ceiling(unit, part.end))
        for whole in periods
        for span in spans
        if (part := _clip(whole, span)) is not None
    ]
    return [part for part in coalesce(found) if part.start < part.end]


def ceiling(unit: Unit, micros: int) -> int:
    """The first period start that is not before a moment."""
    period = unit.period(from_micros(micros))
    start = to_micros(period.start)
    return start if start == micros else to_micros(period.end)


def floor(unit: Unit, micros: int) -> int:
    """The last period start that is not after a moment."""
    return to_micros(unit.floor(from_micros(micros)))


def coalesce(ranges: Iterable[Range], slack: int = 0) -> list[Range]:
    """Ranges sorted, those that overlap, touch or are at most `slack` apart made into one."""
    joined: list[Range] = []
    for part in sorted(ranges):
        if joined and part.start - joined[-1].end <= slack:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, part.end))
        else:
            joined.append(part)
    return joined


def _clip(span: Range, wanted: Range) -> Range | None:
    start, end = max(span.start, wanted.start), min(span.end, wanted.end)
    return Range(start, end) if start < end else None


def _days(span: Range, facts: Facts) -> list[DaySlice]:
    """The days of a hot span, those only that can hold a record."""
    low, high = max(span.start, facts.floor) // DAY, -(-min(span.end, facts.horizon) // DAY)
    numbers = set(range(low, high))
    numbers |= {day for day in facts.marks if day * DAY < span.end and (day + 1) * DAY > span.start}
    return [DaySlice(day, max(day * DAY, span.start), min((day + 1) * DAY, span.end)) for day in sorted(numbers)]


def _span(start: int, end: int) -> str:
    return f"[{_moment(start)}, {_moment(end)})"


def _moment(micros: int) -> str:
    return "…" if micros in (TIME_MIN, TIME_MAX) else iso_seconds(from_micros(micros))
