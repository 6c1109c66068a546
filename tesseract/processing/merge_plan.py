"""Which segments of a manifest are to be merged, and which merge comes first. Pure.

A period of a coarser tier takes up what finer tiers hold of it once it has ended. What comes late after that gathers beside the
large segment: it is merged among its like (four of about one size), so that a row is written once for each fourfold growth. The
large one is written again together with others of its size, or once nothing more has come for a week.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tesseract.config.tiers import UNITS, Period, tier_period
from tesseract.model import Manifest, Segment
from tesseract.utils.time_utils import from_micros, to_micros

LIKE = 4  # segments of one class are merged, and a class spans sizes up to fourfold
SMALL = 256  # rows: smaller ones are all of one class
MANY = 24  # segments of one period: each may be a read of every query on it
DAY = 86_400_000_000  # µs
QUIET = 7 * DAY  # a period that nothing came to for so long is merged into one segment: at most one rewrite a week


@dataclass(frozen=True)
class Merge:
    """Segments to be merged into one of `tier` and `period`, oldest window first."""

    tier: str
    period: Period
    inputs: tuple[Segment, ...]

    @property
    def step(self) -> str:
        """`daily→monthly`, or `monthly` where only segments of the tier itself are merged."""
        finer = sorted({segment.tier for segment in self.inputs} - {self.tier}, key=lambda tier: UNITS[tier].rank)
        return f"{'+'.join(finer)}{'→' if finer else ''}{self.tier}"

    @property
    def label(self) -> str:
        """`daily→monthly 2013-01`."""
        return f"{self.step} {UNITS[self.tier].label(self.period.start)}"

    @property
    def rows(self) -> int:
        """Rows to be read."""
        return sum(segment.rows for segment in self.inputs)

    def urgency(self, now: datetime) -> float:
        """How much readers gain: the segments that a query no longer opens, and queries ask for recent periods most."""
        days = max(to_micros(now) - to_micros(self.period.end), 0) / DAY
        return (len(self.inputs) - 1) / (30 + days)


def plan(manifest: Manifest, ladder: Sequence[str], now: datetime, through: int, whole: bool = False) -> list[Merge]:
    """The merges that a manifest is due, the most urgent first; no segment is an input of two.

    Only segments of windows that end by `through` take part: nothing older can still come. `whole` leaves one segment a period.
    """
    chain = tuple(ladder)
    pools: dict[tuple[str, Period], list[Segment]] = {}
    for segment in manifest.segments:
        if segment.window_end <= through:
            pools.setdefault(_home(segment, chain, now), []).append(segment)
    merges = []
    for (tier, period), found in pools.items():
        rises = all(segment.tier != tier for segment in found)
        merges += _climb(tier, period, found, chain) if rises else [Merge(tier, period, due) for due in _due(found, through, whole)]
    merges = [replace(merge, inputs=tuple(sorted(merge.inputs, key=lambda s: (s.window_end, s.key)))) for merge in merges]
    return sorted(merges, key=lambda merge: (-merge.urgency(now), merge.period, merge.label))


def _climb(tier: str, period: Period, found: Sequence[Segment], ladder: tuple[str, ...]) -> list[Merge]:
    """What takes the segments of a period that has none of its own tier up to it: the tiers between come first."""
    for step in ladder:
        if UNITS[step].rank >= UNITS[tier].rank:
            break
        below: dict[Period, list[Segment]] = {}
        for segment in found:
            if UNITS[segment.tier].rank <= UNITS[step].rank:
                below.setdefault(tier_period(ladder, step, from_micros(segment.start)), []).append(segment)
        merges = [Merge(step, at, tuple(own)) for at, own in below.items() if any(segment.tier != step for segment in own)]
        if merges:
            return merges
    return [Merge(tier, period, tuple(found))]


def _home(segment: Segment, ladder: tuple[str, ...], now: datetime) -> tuple[str, Period]:
    """The tier and period that a segment belongs to: the coarsest that has ended, else its own."""
    start, end = from_micros(segment.start), from_micros(segment.end)
    for tier in reversed(ladder):
        if UNITS[tier].rank > UNITS[segment.tier].rank:
            period = tier_period(ladder, tier, start)
            if period.end <= now and end <= period.end:
                return tier, period
    return segment.tier, Period(start, end)


def _due(found: list[Segment], through: int, whole: bool) -> list[tuple[Segment, ...]]:
    """The merges among one period's segments."""
    if len(found) < 2:
        return []
    largest = max(found, key=lambda segment: (segment.rows, segment.key))
    quiet = all(segment.window_end + QUIET <= through for segment in found if segment is not largest)
    if whole or quiet:
        return [tuple(found)]
    if len(found) > MANY:
        return [_lighter(found)]
    classes: dict[int, list[Segment]] = {}
    for segment in found:
        classes.setdefault(_class(segment.rows), []).append(segment)
    return [tuple(like) for like in classes.values() if len(like) >= LIKE]


def _class(rows: int) -> int:
    size = 0
    while rows > SMALL:
        rows //= LIKE
        size += 1
    return size


def _lighter(found: list[Segment]) -> tuple[Segment, ...]:
    """All but those that are large beside what is smaller than they: to write them again would cost more than it brings."""
    ordered = sorted(found, key=lambda segment: (segment.rows, segment.key))
    sums = 0
    taken: list[Segment] = []
    for place, segment in enumerate(ordered):
        if place >= LIKE and segment.rows > 2 * sums:
            break
        taken.append(segment)
        sums += segment.rows
    return tuple(taken)
