"""What every kind of query must answer, from the list of all writes: plain Python, which shares no code with the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.level_world import recomputed, shown

Row = dict[str, Any]
EPOCH, MONDAY = datetime(1970, 1, 1, tzinfo=UTC), date(1969, 12, 29)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STEPS = {
    "1min": MINUTE,
    "15min": 15 * MINUTE,
    "hourly": HOUR,
    "90min": 90 * MINUTE,
    "6h": 6 * HOUR,
    "12h": 12 * HOUR,
}
NUMBERS = ("f", "i", "d", "w")
OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Write:
    """One accepted write; `group` is the tuple of its parts."""

    group: tuple[str, ...]
    time: datetime
    ref: datetime | None
    fields: Row
    deleted: bool = False


@dataclass(frozen=True)
class Asked:
    """A query. `condition` says of a row whether it passes: True, False, or None where it has a null; `where` is its text."""

    groups: tuple[tuple[str, ...], ...]
    start: datetime | None = None
    end: datetime | None = None
    period: str = ""  # "": raw rows
    zone: str = ""
    fields: tuple[str, ...] | None = None
    where: str | None = None
    condition: Callable[[Row], bool | None] = lambda row: True
    limit: int | None = None
    newest_first: bool = False
    fill: Any = "none"


@dataclass
class Oracle:
    """The writes of a dataset in order, and what they show. `names` are the fields in order, as key → name."""

    by_ref: bool
    group_by: tuple[str, ...]
    names: dict[str, str]
    log: list[Write] = field(default_factory=list)

    # records ---------------------------------------------------------------------------------------------------------------

    def visible(self, log: Sequence[Write] | None = None) -> dict[tuple[tuple[str, ...], datetime], Write]:
        """(group, time) → the record that counts, in order, tombstones left out."""
        return {key: write for key, write in sorted(self._newest(log).items()) if not write.deleted}

    def _newest(self, log: Sequence[Write] | None = None) -> dict[tuple[tuple[str, ...], datetime], Write]:
        found: dict[tuple[tuple[str, ...], datetime], Write] = {}
        for write in self.log if log is None else log:
            old = found.get((write.group, write.time))
            if old is None or not self.by_ref or (write.ref or OLDEST) >= (old.ref or OLDEST):
                found[write.group, write.time] = write
        return found

    def revisions(self, group: tuple[str, ...], known_at: datetime | None = None) -> list[Row]:
        """Every revision of a group, of a ref time the last put; those alone that were known at a ref time."""
        newest = self._newest()
        found: dict[tuple[datetime, datetime], Write] = {}
        for write in self.log:
            if write.group == group and (write.ref or OLDEST) <= (newest[group, write.time].ref or OLDEST):
                found[write.time, write.ref or OLDEST] = write
        rows = [
            {
                **self._row(write, {} if write.deleted else write.fields),
                "deleted": write.deleted,
                "current": self._is(newest, write),
            }
            for (_, ref), write in sorted(found.items())
            if known_at is None or ref <= known_at or write.ref is None
        ]
        order = [*self.group_by, "valid_time", "ref_time", "deleted", "current", *self.names.values()]
        return [{name: row[name] for name in order} for row in rows]

    @staticmethod
    def _is(newest: dict[Any, Write], write: Write) -> bool:
        return newest[write.group, write.time].ref == write.ref

    def known(self, group: tuple[str, ...], at: datetime, asked: Asked) -> list[Row]:
        """The rows of a group as they were known at a ref time."""
        last = {row["valid_time"]: row for row in self.revisions(group, at)}
        rows = [{n: v for n, v in row.items() if n not in ("deleted", "current")} for row in last.values() if not row["deleted"]]
        return self._arranged([row for row in rows if _inside(row["valid_time"], asked)], asked)[: asked.limit]

    def latest(self, group: tuple[str, ...]) -> Row | None:
        """The newest visible record of a group."""
        own = [write for (name, _), write in self.visible().items() if name == group]
        return self._row(own[-1], own[-1].fields) if own else None

    def _row(self, write: Write, fields: Row) -> Row:
        values = {name: shown(key, fields.get(key)) for key, name in self.names.items()}
        return {**dict(zip(self.group_by, write.group, strict=True)), "valid_time": write.time, "ref_time": write.ref, **values}

    # answers ---------------------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked, log: Sequence[Write] | None = None) -> list[Row]:
        """The rows of an answer, of the groups in order."""
        visible, rows = self.visible(log), []
        for group in sorted(asked.groups):
            own = [write for (name, _), write in visible.items() if name == group]
            found = self._periods(own, asked) if asked.period else self._raw(own, asked)
            rows += self._arranged(found, asked)
        rows = rows if asked.limit is None else rows[: asked.limit]
        return filled(rows, len(self.group_by), asked) if asked.fill != "none" else rows

    def _raw(self, own: Sequence[Write], asked: Asked) -> list[Row]:
        return [self._row(write, write.fields) for write in own if _inside(write.time, asked)]

    def _periods(self, own: Sequence[Write], asked: Asked) -> list[Row]:
        periods: dict[datetime, list[Write]] = {}
        for write in own:
            start = begin(write.time, asked.period, asked.zone)
            if _inside(start, asked):
                periods.setdefault(start, []).append(write)
        return [
            {**dict(zip(self.group_by, writes[0].group, strict=True)), "period_start": start, "rows": len(writes)}
            | {
                f"{name}_{stat}": value
                for key, name in self.names.items()
                if key in NUMBERS
                for stat, value in recomputed(key, [write.fields for write in writes]).items()
            }
            for start, writes in sorted(periods.items())
        ]

    def _arranged(self, rows: list[Row], asked: Asked) -> list[Row]:
        """Those that pass, in order, with the columns asked for."""
        rows = [row for row in rows if asked.condition(row) is True]
        rows = rows[::-1] if asked.newest_first else rows
        if asked.fields is None:
            return rows
        fixed = [*self.group_by, *(("period_start", "rows") if asked.period else ("valid_time", "ref_time"))]
        chosen = [*fixed, *(name for name in asked.fields if name not in fixed)]
        whole = lambda name: [name] if not asked.period or name in rows[0] else [n for n in rows[0] if n.rpartition("_")[0] == name]
        columns = [column for name in chosen for column in whole(name)] if rows else []
        return [{name: row[name] for name in columns} for row in rows]


def _inside(at: datetime, asked: Asked) -> bool:
    return (asked.start is None or asked.start <= at) and (asked.end is None or at < asked.end)


# periods ---------------------------------------------------------------------------------------------------------------------


@lru_cache(100_000)
def begin(at: datetime, period: str, zone: str = "") -> datetime:
    """The start of the period that holds a moment, on the clock of a zone: by datetime's own arithmetic."""
    info = ZoneInfo(zone or "UTC")
    if period in STEPS:
        step = STEPS[period]
        return EPOCH + (at - EPOCH) // step * step if not zone else _shown(at, step, info)
    day = at.astimezone(info).date()
    match period:
        case "weekly" | "1w":
            day -= timedelta(days=day.weekday())
        case "2w":
            day = MONDAY + (day - MONDAY) // (14 * DAY) * 14 * DAY
        case "5d":
            day = EPOCH.date() + (day - EPOCH.date()) // (5 * DAY) * 5 * DAY
        case "monthly" | "1mo":
            day = day.replace(day=1)
        case "quarterly":
            day = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "yearly" | "1y":
            day = day.replace(month=1, day=1)
        case _:
            assert period in ("daily", "1d")
    return datetime(day.year, day.month, day.day, tzinfo=info).astimezone(UTC)


def _shown(at: datetime, step: timedelta, zone: ZoneInfo) -> datetime:
    """The last minute until a moment at which the wall showed a multiple of `step`, or was put forward over one."""
    minute = at.replace(second=0, microsecond=0)
    while True:
        wall, before = (_wall(moment, zone) for moment in (minute, minute - MINUTE))
        over = wall > before + MINUTE and wall // step != (before + MINUTE - timedelta(microseconds=1)) // step
        if not wall % step or over:
            return minute
        minute -= MINUTE


def _wall(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).replace(tzinfo=None) - datetime(1970, 1, 1)


def after(start: datetime, period: str, zone: str) -> datetime:
    """The start of the period behind one."""
    at = start + (STEPS.get(period, DAY)) + MINUTE
    while begin(at, period, zone) <= start:
        at += MINUTE if period in STEPS else DAY / 2
    return begin(at, period, zone)


# gaps ------------------------------------------------------------------------------------------------------------------------


def filled(rows: list[Row], parts: int, asked: Asked) -> list[Row]:
    """Rows of periods, by group and time, with those that are absent."""
    found: list[Row] = []
    for group in dict.fromkeys(tuple(row.values())[:parts] for row in rows):
        own = {row["period_start"]: row for row in rows if tuple(row.values())[:parts] == group}
        first = min(own) if asked.start is None else _ceiling(asked.start, asked)
        end = max(own) + MINUTE if asked.end is None else asked.end
        starts = []
        while first < end:
            starts.append(first)
            first = after(first, asked.period, asked.zone)
        found += [_filling(start, own, asked.fill) for start in starts]
    return found


def _ceiling(at: datetime, asked: Asked) -> datetime:
    start = begin(at, asked.period, asked.zone)
    return start if start == at else after(start, asked.period, asked.zone)


def _filling(start: datetime, own: dict[datetime, Row], fill: Any) -> Row:
    if start in own:
        return {**own[start], "filled": False}
    like: Row = next(iter(own.values()))
    row: Row = {}
    for name, value in like.items():
        stat = name.rpartition("_")[2]
        if name == "period_start":
            row[name] = start
        elif name == "rows" or stat == "count":
            row[name] = 0
        elif stat in ("sum", "avg", "min", "max", "first", "last"):
            row[name] = _between(start, name, own, fill)
        else:
            row[name] = None if stat == "std" else value
    return {**row, "filled": True}


def _between(start: datetime, name: str, own: dict[datetime, Row], fill: Any) -> Any:
    if fill == "null":
        return None
    if fill not in ("previous", "linear"):
        return fill
    known = [at for at in sorted(own) if own[at][name] is not None]
    before, behind = [at for at in known if at < start], [at for at in known if at > start]
    if not before or (fill == "linear" and not behind):
        return None
    left = own[before[-1]][name]
    if fill == "previous":
        return left
    right = own[behind[0]][name]
    share = Fraction((start - before[-1]) // timedelta(microseconds=1), (behind[0] - before[-1]) // timedelta(microseconds=1))
    line = Fraction(left) + (Fraction(right) - Fraction(left)) * share
    if isinstance(left, float):
        return float(line)
    scale = 2 if name.startswith("d_") else 0
    whole = math.floor(line * 10**scale + Fraction(1, 2))
    return Decimal(whole).scaleb(-scale) if scale else whole


# equal -----------------------------------------------------------------------------------------------------------------------


def difference(found: Iterable[Row], wanted: Sequence[Row], near: Callable[[str], bool]) -> str:
    """What is the first difference of two lists of rows; "" if none is. Columns that are `near` may differ by 1e-12 of them."""
    found = list(found)
    for place, (row, expected) in enumerate(zip(found, wanted, strict=False)):
        for name in expected.keys() | row.keys():
            if name not in row or name not in expected:
                return f"row {place} has columns {list(row)}, not {list(expected)}"
            if not _same(row[name], expected[name], near(name)):
                return f"row {place}: {name} is {row[name]!r}, not {expected[name]!r}: {row}, right is {expected}"
        if list(row) != list(expected):
            return f"row {place} has columns {list(row)}, not {list(expected)}"
    return (
        ""
        if len(found) == len(wanted)
        else f"{len(found)} rows, not {len(wanted)}: {found[len(wanted) :][:2]} {wanted[len(found) :][:2]}"
    )


def _same(value: Any, expected: Any, near: bool) -> bool:
    if value is None or expected is None:
        return value is expected
    if isinstance(value, datetime):
        return value.astimezone(UTC) == expected.astimezone(UTC)
    if near and not isinstance(value, bool):
        return math.isclose(value, expected, rel_tol=1e-12)
    return bool(value == expected)


__all__ = ["Asked", "Oracle", "Row", "Write", "begin", "difference", "pairwise"]
