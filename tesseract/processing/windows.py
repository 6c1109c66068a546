"""Which export windows to open, and which exports to ask for. Pure: facts in, steps out.

Windows abut exactly, are at most a day long (AWS allows no more), and never reach into the last `export_lag`. What can no longer be
had change by change, because point-in-time recovery was off or has forgotten it, is closed by a full export: one window of any
length, whose export time is its end and the start of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Window
from tesseract.utils.time_utils import EPOCH, from_micros, parse_duration, to_micros

LONGEST = timedelta(hours=24)
SOONER = timedelta(hours=1)  # a window's length while items wait for a repair
SECOND = timedelta(seconds=1)
MOST_OPEN = 40  # windows on their way at once: enough for the 35 days that AWS remembers
SLOWEST_EXPORT = timedelta(hours=24)  # one that is not collected after that is asked for anew
SLOWEST_ARCHIVING = timedelta(days=13)  # the bucket removes the files of an export after 14 days
# shortest length of a first tier's period
LENGTHS = {"daily": 1, "weekly": 7, "monthly": 28, "quarterly": 90, "yearly": 365}


@dataclass(frozen=True)
class Settings:
    """A stage's settings of exports: what AWS needs before it has a write, its shortest window, and how often we want one."""

    export_lag: timedelta = timedelta(minutes=5)
    min_window: timedelta = timedelta(minutes=15)
    cadence: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Facts:
    """What the plan looks at. `windows` are those from `started` on, oldest first; the first begins there. `failed` are the ids
    of windows whose export failed, or that AWS does not know; `earliest` is the earliest restorable time of the table.

    `waiting`: items wait for a repair, which a closed window brings. With `force` a window is opened as soon as the shortest
    length allows, and with `covering` no sooner than that it can end at or after that moment.
    """

    windows: tuple[Window, ...]
    started: datetime
    settings: Settings
    failed: frozenset[str] = frozenset()
    earliest: datetime = EPOCH
    waiting: bool = False
    force: bool = False
    covering: datetime | None = None


class Open(NamedTuple):
    """Record a new window and ask for its export."""

    window: Window


class Ask(NamedTuple):
    """Ask for the export of a window that has none, under the token of its attempt."""

    window: Window


class Retry(NamedTuple):
    """Begin a new attempt: the export failed, has vanished, or takes for ever."""

    window: Window


class Widen(NamedTuple):
    """Begin a new attempt by a full export as of `end` (µs), since the window's changes cannot be had any more."""

    window: Window
    end: int


class Cover(NamedTuple):
    """Close a window whose changes cannot be had any more: a full window spans it."""

    window: Window


Step = Open | Ask | Retry | Widen | Cover


def settings_from(environment: Mapping[str, str], datasets: Iterable[Dataset]) -> Settings:
    """The settings of TESSERACT_EXPORT_LAG and TESSERACT_MIN_WINDOW (seconds) and TESSERACT_CADENCE (`auto`, or a duration).

    `auto` is the shortest first step of the datasets' ladders. Raises InputError where a value is not one.
    """
    default = Settings()
    cadence = environment.get("TESSERACT_CADENCE") or "auto"
    try:
        return Settings(
            _seconds(environment.get("TESSERACT_EXPORT_LAG"), default.export_lag),
            _seconds(environment.get("TESSERACT_MIN_WINDOW"), default.min_window),
            shortest_step(datasets) if cadence == "auto" else parse_duration(cadence),
        )
    except ValueError as error:
        raise InputError(
            f"a setting of the export windows is wrong: {error}",
            hint="TESSERACT_EXPORT_LAG and TESSERACT_MIN_WINDOW in seconds, TESSERACT_CADENCE as auto or PT1H",
        ) from error


def shortest_step(datasets: Iterable[Dataset]) -> timedelta:
    """The shortest first step of the datasets' ladders, at most a day: an export holds no more, and rows must not wait."""
    return min(LONGEST, timedelta(days=min((LENGTHS[dataset.ladder[0]] for dataset in datasets), default=1)))


def _seconds(text: str | None, default: timedelta) -> timedelta:
    return timedelta(seconds=float(text)) if text else default


def plan(facts: Facts, now: datetime) -> list[Step]:
    """What to do next, in order: mend what is under way, then open what is due."""
    again = [window for window in facts.windows if window.unasked or broken(window, facts, now)]
    lost = [window for window in again if _is_lost(window, facts.earliest)]
    spans = [window for window in facts.windows if window.kind == "full" and window not in lost]
    steps: list[Step] = []
    for window in again:
        if any(span.start < window.start and window.end <= span.end for span in spans):
            steps.append(Cover(window))
        elif window not in lost:
            steps.append(Ask(window) if window.unasked else Retry(window))
    lost = [window for window in lost if Cover(window) not in steps]
    if lost:
        bridge = _bridge(lost, facts, now)
        if bridge is None and to_micros(previous_end(facts)) < to_micros(facts.earliest):
            return steps  # the gap reaches up to now: what closes it will be the last window
        if bridge is not None:
            steps += [Widen(lost[0], bridge), *(Cover(window) for window in lost[1:])]
            facts = replace(facts, windows=(*facts.windows, msgspec.structs.replace(lost[0], end=bridge)))
    under_way = sum(window.state != "closed" for window in facts.windows)
    for window in _due(facts, now):
        if under_way >= MOST_OPEN:
            break
        steps.append(Open(window))
        under_way += 1
    return steps


def broken(window: Window, facts: Facts, now: datetime) -> bool:
    """Whether a window's export must be asked for anew: it failed, or does not come to an end."""
    if window.unasked or window.state == "closed":
        return False
    patience = SLOWEST_EXPORT if window.state == "exporting" else SLOWEST_ARCHIVING
    overdue = window.requested_at > 0 and now - from_micros(window.requested_at) >= patience
    return overdue or window.id in facts.failed


def _is_lost(window: Window, earliest: datetime) -> bool:
    """Whether the export that a window needs cannot be had: of changes from its start on, or as of its end."""
    return (window.end if window.kind == "full" else window.start) < to_micros(earliest)


def _bridge(lost: Sequence[Window], facts: Facts, now: datetime) -> int | None:
    """The export time (µs) that closes the gap of windows that are lost; None where it has to wait.

    The next window's start, if there is one that can be had. Windows in between that are on their way are waited for: what they
    bring must not be older than what the archive says it has.
    """
    horizon = floor_second(now - facts.settings.export_lag)
    least = max(to_micros(ceil_second(facts.earliest)), *(window.end for window in lost))
    ends = [window.end for window in facts.windows if window.end >= least]
    end = min(ends, default=to_micros(horizon))
    if end < least:
        return None
    between = [window for window in facts.windows if lost[0].start < window.start < end and window not in lost]
    return None if any(window.state != "closed" for window in between) else end


def settled(through: int, windows: Iterable[Window]) -> int:
    """The end (µs) of the longest unbroken run of closed windows, oldest first, that begins at `through` (0: with the first).

    Windows may close in any order; only what nothing earlier can still be added to counts.
    """
    for window in windows:
        if window.state != "closed" or (through and window.start > through):
            return min(through, window.start)
        through = max(through, window.end)
    return through


def next_possible(facts: Facts, now: datetime) -> datetime | None:
    """When a forced window could be opened; None where one can be now."""
    end = ceil_second(previous_end(facts) + max(facts.settings.min_window, SECOND))
    if previous_end(facts) < facts.earliest:
        end = ceil_second(facts.earliest)  # a full export, of any length
    if facts.covering is not None:
        end = max(end, ceil_second(facts.covering))
    moment = end + facts.settings.export_lag
    return None if moment <= now else moment


def may_be_sooner(facts: Facts, now: datetime) -> bool:
    """Whether a window is due only if items wait for a repair."""
    return not any(_due(facts, now)) and any(_due(replace(facts, waiting=True), now))


def previous_end(facts: Facts) -> datetime:
    """Where the next window begins."""
    return max(facts.started, *(from_micros(window.end) for window in facts.windows)) if facts.windows else facts.started


def floor_second(moment: datetime) -> datetime:
    """The last whole second that is not after `moment`."""
    return EPOCH + (moment - EPOCH) // SECOND * SECOND


def ceil_second(moment: datetime) -> datetime:
    """The first whole second that is not before `moment`."""
    floor = floor_second(moment)
    return floor if floor == moment else floor + SECOND


def _due(facts: Facts, now: datetime) -> Iterator[Window]:
    settings = facts.settings
    start, horizon = previous_end(facts), floor_second(now - settings.export_lag)
    if start < facts.earliest:
        if horizon >= facts.earliest and not (facts.force and facts.covering is not None and horizon < facts.covering):
            yield Window(to_micros(start), to_micros(horizon), "open", kind="full")
        return
    # without force a rest shorter than the cadence waits: windows stay as long as the cadence is, and few
    pace = min(settings.cadence, SOONER) if facts.waiting else settings.cadence
    enough = settings.min_window if facts.force else max(min(pace, LONGEST), settings.min_window)
    if not facts.force and horizon - start < pace:
        return
    if facts.force and facts.covering is not None and horizon < facts.covering:
        return
    while horizon - start >= max(enough, SECOND):
        end = min(horizon, start + LONGEST)
        yield Window(to_micros(start), to_micros(end), "open")
        start = end
