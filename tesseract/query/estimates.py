"""What a plan will cost before it is carried out: requests, bytes and rows of every slice. Pure, from manifests alone.

A segment's share is its share of the segment's time. Of the buffer nobody knows the rows before they are read: a group is taken to
write as fast as it did in its newest segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tesseract.config.tiers import UNITS
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN, DaySlice, LevelPlan, RawPlan, SegmentSlice, Stretch, day_text
from tesseract.utils.time_utils import from_micros, iso_seconds, to_micros

PAGE = 1 << 20  # bytes that one Query gives at most
ITEM = 250  # bytes of a raw item of five fields, about
LIVE_ITEM = 1000
KEPT = 400 * DAY  # µs that live items stay, about
MINUTE = 60 * 1_000_000
WHOLE = 256 * 1024  # a segment of fewer bytes is read with one request, another one with two: footer, rows


class Slice(NamedTuple):
    """A part of a plan: where it is read (`buffer`, `archive`, `live`, `snapshot`), what, and how much that is, about."""

    source: str
    group: str
    what: str
    start: int  # µs since 1970, as `end`; TIME_MIN and TIME_MAX stand for an open one
    end: int
    rows: int
    requests: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.source:8}  {self.group}  {self.what}  [{_moment(self.start)}, {_moment(self.end)})  "
            f"~{self.rows:,} rows, {self.requests} requests, ~{self.bytes:,} bytes"
        )


class Plan(NamedTuple):
    """What a query reads. `others` are the requests that find it out: watermarks, manifests, marks, and the groups."""

    slices: tuple[Slice, ...]
    others: int

    @property
    def requests(self) -> int:
        """All requests, about."""
        return self.others + sum(part.requests for part in self.slices)

    @property
    def bytes(self) -> int:
        """Bytes of rows, about."""
        return sum(part.bytes for part in self.slices)

    @property
    def rows(self) -> int:
        """Rows that are read, about; some may be met twice."""
        return sum(part.rows for part in self.slices)

    def __str__(self) -> str:
        total = f"~{self.rows:,} rows, {self.requests} requests, ~{self.bytes:,} bytes"
        return "\n".join([*map(str, self.slices), f"total     {total}"])


def estimated(plans: Iterable[object], others: int) -> Plan:
    """The slices of the plans of a query, in order."""
    slices: list[Slice] = []
    for plan in plans:
        if isinstance(plan, RawPlan):
            slices += _raw(plan)
        elif isinstance(plan, LevelPlan):
            slices += _level(plan)
    return Plan(tuple(slices), others)


def _raw(plan: RawPlan) -> list[Slice]:
    rate = _rate(plan.archive)
    return [
        *(_segment("archive", plan.group, part) for part in plan.archive),
        *(_day(plan.group, part, rate) for part in plan.buffer),
    ]


def _level(plan: LevelPlan) -> list[Slice]:
    live = [_live(plan, part) for part in plan.stretches if part.source == "live"]
    return [*(_segment("snapshot", plan.group, part) for part in plan.archive), *live]


def _segment(source: str, group: str, part: SegmentSlice) -> Slice:
    segment = part.segment
    first, last = segment.groups.get(group, (segment.first, segment.last))
    share = min(max((min(part.end, last + 1) - max(part.start, first)) / (last + 1 - first), 0), 1)
    if segment.groups:  # a bucket's groups are taken to be alike
        share /= len(segment.groups)
    size = segment.bytes if segment.bytes <= WHOLE else segment.footer_length + round(segment.bytes * share)
    rows = max(round(segment.rows * share), 1)
    return Slice(source, group, segment.key, part.start, part.end, rows, 1 if segment.bytes <= WHOLE else 2, size)


def _rate(parts: Sequence[SegmentSlice]) -> float:
    """Rows per µs of a group, by its newest segment; one a minute where it has none."""
    newest = max((part.segment for part in parts), key=lambda segment: segment.last, default=None)
    if newest is None:
        return 1 / MINUTE
    return newest.rows / max(newest.last - newest.first, 60 * MINUTE) / max(len(newest.groups), 1)


def _day(group: str, part: DaySlice, rate: float) -> Slice:
    rows = max(round((part.end - part.start) * rate), 1)
    size = rows * ITEM
    return Slice("buffer", group, f"day {day_text(part.day)}", part.start, part.end, rows, 1 + size // PAGE, size)


def _live(plan: LevelPlan, part: Stretch) -> Slice:
    end = min(part.end, plan.horizon)
    rows = max(round((end - max(part.start, end - KEPT)) / _length(plan.level)), 0)
    size = rows * LIVE_ITEM
    return Slice("live", plan.group, f"{plan.level} items", part.start, part.end, rows, 1 + size // PAGE, size)


def _length(level: str) -> float:
    """The µs of a period, about."""
    period = UNITS[level].period(from_micros(0))
    return to_micros(period.end) - to_micros(period.start)


def _moment(micros: int) -> str:
    return "…" if micros in (TIME_MIN, TIME_MAX) else iso_seconds(from_micros(micros))
