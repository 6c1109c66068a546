"""Calendar periods, and the ladder of tiers that a dataset's archive climbs. Pure arithmetic, UTC, half-open.

Tiers and levels count in the same calendar units: a daily tier and a daily level are cut at the same places. Months and
years have no fixed length here, ever. Levels up to a day are kept live, each period within one UTC day; coarser ones are merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tesseract.utils.time_utils import MAX_TIME, iso_day, iso_seconds


class Period(NamedTuple):
    """A half-open interval [start, end) of the calendar."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Unit:
    """A calendar unit: `1min`, `15min`, `hourly`, `daily`, `weekly` (ISO), `monthly`, `quarterly` or `yearly`."""

    name: str
    duration: str  # as archive_schedule writes it
    rank: int  # a higher rank is coarser

    def floor(self, moment: datetime) -> datetime:
        """The start of the period that contains `moment`."""
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        match self.name:
            case "1min":
                return moment.replace(second=0, microsecond=0)
            case "15min":
                return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
            case "hourly":
                return moment.replace(minute=0, second=0, microsecond=0)
            case "daily":
                return day
            case "weekly":  # 0001-01-01 is a Monday, so no week starts before the first day that a datetime has
                return day - timedelta(days=day.weekday())
            case "monthly":
                return day.replace(day=1)
            case "quarterly":
                return day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
            case _:
                return day.replace(day=1, month=1)

    def end(self, start: datetime) -> datetime:
        """The end of the period that starts at `start`; the end of time where the calendar has no later day."""
        months = {"monthly": 1, "quarterly": 3, "yearly": 12}.get(self.name)
        try:
            if months is None:
                return start + LENGTHS[self.name]
            index = start.year * 12 + start.month - 1 + months
            return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
        except (OverflowError, ValueError):
            return MAX_TIME

    def period(self, moment: datetime) -> Period:
        """The period that contains `moment`."""
        start = self.floor(moment)
        return Period(start, self.end(start))

    def periods(self, start: datetime, end: datetime) -> Iterator[Period]:
        """The periods whose start lies in [start, end), in order."""
        period = self.period(start)
        if period.start < start:
            period = Period(period.end, self.end(period.end))
        while period.start < end and period.start < period.end:
            yield period
            period = Period(period.end, self.end(period.end))

    def label(self, start: datetime) -> str:
        """A short name of the period that starts at `start`: `2013-01-01`, `2013-W01`, `2013-01`, `2013-Q1`, `2013`."""
        day = iso_day(start)
        match self.name:
            case "1min" | "15min":
                return iso_seconds(start)[:16]
            case "hourly":
                return iso_seconds(start)[:13]
            case "daily":
                return day
            case "weekly":
                year, week, _ = start.isocalendar()
                return f"{year:04d}-W{week:02d}"
            case "monthly":
                return day[:7]
            case "quarterly":
                return f"{day[:4]}-Q{(start.month + 2) // 3}"
            case _:
                return day[:4]


UNITS = {
    unit.name: unit
    for unit in (
        Unit("1min", "PT1M", 0),
        Unit("15min", "PT15M", 1),
        Unit("hourly", "PT1H", 2),
        Unit("daily", "P1D", 3),
        Unit("weekly", "P1W", 4),
        Unit("monthly", "P1M", 5),
        Unit("quarterly", "P3M", 6),
        Unit("yearly", "P1Y", 7),
    )
}
LENGTHS = {  # of the units that have one
    "1min": timedelta(minutes=1),
    "15min": timedelta(minutes=15),
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
}
HOURLY, DAILY = UNITS["hourly"], UNITS["daily"]
TIERS = tuple(name for name, unit in UNITS.items() if unit.rank >= DAILY.rank)
LIVE_LEVELS = ("1min", "15min", "hourly", "daily")
MERGED_LEVELS = ("weekly", "monthly")  # from daily states; no items of their own
LEVELS = LIVE_LEVELS + MERGED_LEVELS
DEFAULT_LADDER = ("daily", "monthly", "yearly")


def ladder_faults(names: tuple[str, ...]) -> list[str]:
    """What is wrong with a chain of tiers, as sentences; empty where nothing is."""
    if not names:
        return ["the ladder needs at least one tier, for example buffer_to_daily: P1D"]
    ranks = [UNITS[name].rank for name in names]
    if ranks != sorted(set(ranks)):
        return [f"the ladder {' → '.join(names)} must climb from fine to coarse"]
    return []


def first_tier(ladder: tuple[str, ...], starts: set[datetime], limit: int = 40) -> Unit:
    """The finest tier in which the days `starts` fill at most `limit` periods; the coarsest where none does.

    One commit writes one segment per period it touches, so a window that touches a year writes months, not days.
    """
    for name in ladder:
        unit = UNITS[name]
        if len({unit.floor(start) for start in starts}) <= limit:
            return unit
    return UNITS[ladder[-1]]


def tier_period(ladder: tuple[str, ...], tier: str, moment: datetime) -> Period:
    """The period of a tier's segment that holds `moment`: a week is cut where the ladder's next coarser tier is cut.

    Only weeks need it: every other unit lies inside one period of each coarser one.
    """
    unit = UNITS[tier]
    period = unit.period(moment)
    coarser = next((UNITS[name] for name in ladder if UNITS[name].rank > unit.rank), None)
    if tier != "weekly" or coarser is None:
        return period
    outer = coarser.period(moment)
    return Period(max(period.start, outer.start), min(period.end, outer.end))
