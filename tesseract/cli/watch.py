"""`tesseract watch`: the latest reading and the current period of some groups, as they change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tesseract.cli.common import Stage, age, open_store, say
from tesseract.cli.live import group_of, levels_of
from tesseract.errors import InputError, RetryError
from tesseract.utils.time_utils import from_iso, iso_seconds, utc_now

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tesseract.config.dataset import Dataset, Level
    from tesseract.model import Item
    from tesseract.storage.base import Table

STATS = ("count", "avg", "min", "max", "last")
HIDDEN = {
    "stale": "stale: to be computed anew",
    "pending": "pending: an extreme is looked up",
    "outage": "outage: not to be trusted",
}


class Facts(NamedTuple):
    """What is known of one group: its items of the live table, as they are stored; None where there is none."""

    group: str
    latest: Item | None
    period: Item | None


class Subject(NamedTuple):
    """What is watched, and how: `fields` has keys, empty means all. `trouble` is why the facts are old."""

    dataset: Dataset
    level: Level
    fields: tuple[str, ...] = ()
    outage: bool = False
    trouble: str = ""


def watch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    groups: Annotated[list[str], typer.Argument(metavar="GROUP", help="One group or several.")],
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    fields: Annotated[str | None, typer.Option(help="Only these, separated by commas.", show_default="all")] = None,
    level: Annotated[str, typer.Option(help="The level whose current period is shown.")] = "hourly",
    stage: Stage = None,
) -> None:
    """Follow the latest reading of some groups and their current hour, until Ctrl-C. In a pipe: a line for each change."""
    store = open_store(stage)
    config = store.dataset(dataset)
    (kept,) = levels_of(config, level)
    subject = Subject(config, kept, _fields(config, fields))
    keys = [group_of(store, dataset, group) for group in groups]

    def look(now: datetime) -> tuple[Subject, list[Facts]]:
        return subject._replace(outage=store.catalog.outage() is not None), facts(store.backend.live, subject, keys, now)

    try:
        follow(look, subject, interval, utc_now, time.sleep)
    except KeyboardInterrupt:
        return


def facts(live: Table, subject: Subject, groups: Sequence[str], now: datetime) -> list[Facts]:
    """The items of each group (by its key), in one read."""
    from tesseract.config.tiers import UNITS
    from tesseract.query.catalog import group_name
    from tesseract.storage.keys import latest_key, live_key

    name, unit = subject.dataset.name, UNITS[subject.level.name]
    wanted = [(group, latest_key(name, group), live_key(name, group, unit, now)) for group in dict.fromkeys(groups)]
    found = live.get_many(key for _, *keys in wanted for key in keys)
    return [Facts(group_name(group), found.get(latest), found.get(period)) for group, latest, period in wanted]


def follow(
    look: Callable[[datetime], tuple[Subject, list[Facts]]],
    subject: Subject,
    interval: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> None:
    """Look, show, sleep, for ever. A look that AWS does not answer keeps what was shown, and says so."""
    if not sys.stdout.isatty():
        _print_changes(look, interval, clock, sleep)
    from rich.live import Live

    found: list[Facts] = []
    with Live(auto_refresh=False) as live:
        while True:
            now = clock()
            try:
                subject, found = look(now)
            except RetryError as error:
                subject = subject._replace(trouble=str(error))
            live.update(screen(subject, found, now), refresh=True)
            sleep(interval)


def _print_changes(
    look: Callable[[datetime], tuple[Subject, list[Facts]]],
    interval: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> None:
    shown: dict[str, str] = {}
    while True:
        now = clock()
        try:
            subject, found = look(now)
            lines = {one.group: f"{one.group} {line(subject, one)}" for one in found}
        except RetryError as error:
            lines = {"": f"no news: {error}"}
        for name, text in lines.items():
            if shown.get(name) != text:
                say(f"{iso_seconds(now)} {text}")
        shown |= lines
        sleep(interval)


# what is shown: pure ----------------------------------------------------------------------------------------------------


def screen(subject: Subject, found: Sequence[Facts], now: datetime) -> RenderableType:
    """Two tables: when each group was read last, and its numbers."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    start = _current(subject, now)
    readings = Table("group", "latest reading", "age", "shown at", "behind", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = Table("group", "field", "latest", *STATS, box=box.SIMPLE_HEAD, pad_edge=False)
    numbers.title, numbers.title_justify = f"{subject.dataset.name}, {subject.level.name} from {start}", "left"
    for one in found:
        readings.add_row(*map(Text, (one.group, *_reading(subject, one.latest, now), _state(subject, one))))
        for name in _names(subject, one):
            latest, period = _value(subject, one.latest, name), _stats(subject, one.period, name)
            numbers.add_row(*map(Text, (one.group, subject.dataset.label(name), latest, *period)))
        numbers.add_section()
    for column in numbers.columns[2:]:
        column.justify = "right"
    return Group(readings, numbers, *([Text(f"no news: {subject.trouble}", style="yellow")] if subject.trouble else []))


def line(subject: Subject, one: Facts) -> str:
    """The same of one group in one line, without what only the clock changes."""
    label = subject.dataset.label
    parts: list[str] = []
    if one.latest is not None:
        parts.append(f"latest {_valid_time(one.latest)}")
        hidden = _hidden_latest(subject, one.latest)
        parts += [hidden] if hidden else [f"{label(name)}={_value(subject, one.latest, name)}" for name in _names(subject, one)]
    hidden = _hidden(subject, one.period)
    parts.append(f"| {subject.level.name} {one.period['sk']}" if one.period is not None else f"| {subject.level.name}")
    if hidden:
        parts.append(hidden)
    else:
        for name in _names(subject, one):
            stats = zip(STATS, _stats(subject, one.period, name), strict=True)
            parts.append(" ".join(f"{label(name)}.{stat}={value}" for stat, value in stats if value))
    return " ".join(part for part in parts if part)


def _current(subject: Subject, now: datetime) -> str:
    from tesseract.config.tiers import UNITS

    return iso_seconds(UNITS[subject.level.name].floor(now))


def _reading(subject: Subject, latest: Item | None, now: datetime) -> Iterator[str]:
    """Its valid time, its age, when it was written here, and how long after its valid time that was."""
    yield _valid_time(latest)
    if latest is None or "fields" not in latest:
        yield from ("", "", "")
        return
    at, updated = from_iso(latest["valid_time"]), from_iso(latest["updated_at"])
    yield _distance(now - at)
    yield iso_seconds(updated)
    yield _distance(updated - at)


def _valid_time(latest: Item | None) -> str:
    from tesseract.utils.text import moment

    if latest is None or latest.get("none"):
        return "none"
    return "not known" if latest.get("stale") else moment(from_iso(latest["valid_time"]))


def _distance(length: timedelta) -> str:
    return age(length) if length >= timedelta(0) else f"in {age(-length)}"


def _state(subject: Subject, one: Facts) -> str:
    """Why numbers are missing; nothing where none is."""
    latest, period = _hidden_latest(subject, one.latest), _hidden(subject, one.period)
    parts = [f"latest {latest}" if latest else "", f"{subject.level.name} {period}" if period else ""]
    return ", ".join(part for part in parts if part)


def _hidden_latest(subject: Subject, latest: Item | None) -> str:
    if latest is not None and (subject.outage or latest.get("stale")):
        return HIDDEN["stale" if latest.get("stale") else "outage"]
    return ""


def _hidden(subject: Subject, period: Item | None) -> str:
    """Why a period has no numbers to show; nothing where it has them."""
    if period is None:
        return "no records yet"
    if period.get("stale_at") is not None or period.get("live_from") != subject.level.live_from:
        return HIDDEN["stale"]
    if "fields" not in period:
        return HIDDEN["pending"]
    return HIDDEN["outage"] if subject.outage else ""


def _names(subject: Subject, one: Facts) -> list[str]:
    """The keys of the fields to show: those asked for, else the declared ones and what the items have besides."""
    if subject.fields:
        return list(subject.fields)
    names = dict.fromkeys(subject.dataset.fields)
    if subject.dataset.unknown_fields == "keep" or not names:
        for item in (one.latest, one.period):
            names |= dict.fromkeys(sorted((item or {}).get("fields", {})))
    return list(names)


def _value(subject: Subject, latest: Item | None, name: str) -> str:
    from tesseract.utils.text import cell

    if latest is None or "fields" not in latest or _hidden_latest(subject, latest):
        return ""
    return cell(latest["fields"].get(name))


def _stats(subject: Subject, period: Item | None, name: str) -> list[str]:
    from tesseract.utils.text import cell

    shown: dict[str, Any] = {} if period is None or _hidden(subject, period) else period["fields"].get(name, {})
    return [cell(shown.get(stat)) for stat in STATS]


def _fields(dataset: Dataset, text: str | None) -> tuple[str, ...]:
    from tesseract.query.catalog import nearest

    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    for name in names:
        if dataset.unknown_fields != "keep" and name not in dataset.keys:
            raise InputError(f"dataset {dataset.name} has no field {name!r}", hint=nearest(name, list(dataset.names)))
    return tuple(dataset.keys.get(name, name) for name in names)
