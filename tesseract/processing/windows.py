"""Which export windows to open, and which exports to ask for. Pure: facts in, steps out.

Windows abut exactly, are at most a day long (AWS allows no more), and never reach into the last `export_lag`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Window
from tesseract.utils.time_utils import EPOCH, from_micros, parse_duration, to_micros

LONGEST = timedelta(hours=24)
SOONER = timedelta(hours=1)  # a window's length while items wait for a repair
SECOND = timedelta(seconds=1)
MOST_OPEN = 40  # windows on their way at once: enough for the 35 days that AWS remembers
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
    """What the plan looks at. `started` is where the first window begins; `failed` the ids of windows whose export failed.

    `waiting`: items wait for a repair, which a closed window brings. With `force` a window is opened as soon as the shortest
    length allows, and with `covering` no sooner than that it can end at or after that moment.
    """

    windows: tuple[Window, ...]
    started: datetime
    settings: Settings
    failed: frozenset[str] = frozenset()
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
    """Begin a new attempt: the export failed."""

    window: Window


Step = Open | Ask | Retry


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
    steps: list[Step] = []
    for window in facts.windows:
        if window.state == "exporting" and window.id in facts.failed:
            steps.append(Retry(window))
        elif window.state == "exporting" and not window.export_arn:
            steps.append(Ask(window))
    under_way = sum(window.state != "closed" for window in facts.windows)
    for window in _due(facts, now):
        if under_way >= MOST_OPEN:
            break
        steps.append(Open(window))
        under_way += 1
    return steps


def next_possible(facts: Facts, now: datetime) -> datetime | None:
    """When a forced window could be opened; None where one can be now."""
    end = ceil_second(previous_end(facts) + max(facts.settings.min_window, SECOND))
    if facts.covering is not None:
        end = max(end, ceil_second(facts.covering))
    moment = end + facts.settings.export_lag
    return None if moment <= now else moment


def may_be_sooner(facts: Facts, now: datetime) -> bool:
    """Whether a window is due only if items wait for a repair."""
    return not any(_due(facts, now)) and any(_due(replace(facts, waiting=True), now))


def previous_end(facts: Facts) -> datetime:
    """Where the next window begins."""
    return from_micros(facts.windows[-1].end) if facts.windows else facts.started


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
    # without force a rest shorter than the cadence waits: windows stay as long as the cadence is, and few
    pace = min(settings.cadence, SOONER) if facts.waiting else settings.cadence
    enough = settings.min_window if facts.force else max(min(pace, LONGEST), settings.min_window)
    if not facts.force and horizon - start < pace:
        return
    if facts.force and facts.covering is not None and horizon < facts.covering:
        return
    while horizon - start >= max(enough, SECOND):
        end = min(horizon, start + LONGEST)
        yield Window(to_micros(start), to_micros(end), "exporting")
        start = end
