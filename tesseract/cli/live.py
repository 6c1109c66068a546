"""`tesseract rebuild` and `tesseract audit`: aggregates computed anew, and compared with what their raw records give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesseract.cli.common import Format, Output, Stage, note, open_store, say, spinner, thousands
from tesseract.errors import InputError, NotFoundError, TesseractError
from tesseract.utils.time_utils import from_micros, iso_day, iso_seconds, parse_time, to_micros, utc_now

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset, Level
    from tesseract.processing.audit import Queries, Report
    from tesseract.processing.rebuild import Marks, Span
    from tesseract.query.results import Result
    from tesseract.storage.base import Key
    from tesseract.store import Store

Name = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]
MARGIN = timedelta(seconds=6)  # a mark is answered by a window that ends 5 s after it, or later
PAUSE = 10.0  # seconds between two looks at what differs
METRIC = "AuditDifferences"


def rebuild(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="The dataset's name.", show_default=False)] = None,
    group: Annotated[
        str | None, typer.Argument(metavar="GROUP", help="Its group, NETWORK/STATION for a compound one; all without.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="From here on: a period partly in the range is rebuilt whole.")] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, exclusive.")] = None,
    level: Annotated[str | None, typer.Option(help="Only this level.", show_default="all")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Export now, and wait until everything is computed.")] = False,
    timeout: Annotated[int, typer.Option(help="Seconds to wait with --wait.", min=1)] = 3600,
    everything: Annotated[bool, typer.Option("--all", help="All groups of all datasets.")] = False,
    lost: Annotated[bool, typer.Option("--lost-table", help="The live table was lost and is empty: with --all.")] = False,
    stage: Stage = None,
) -> None:
    """Compute the aggregates of a group anew, or of all groups of a dataset, or with --all of everything, while the stream runs.

    They are marked now, and repaired with the next export window.

    Until then dashboards see no numbers of them, and queries compute them from raw records. A level or a field that was added later
    appears for older periods by this. A latest value that is stale or wrong is resolved, too.
    """
    from tesseract.cli import rebuild_all as many
    from tesseract.processing import rebuild as rebuilding
    from tesseract.storage.keys import latest_key
    from tesseract.storage.services import clock_lag

    if dataset is None or group is None or everything or lost:
        many.check(dataset, everything, lost, wait, (level, start, end) != (None, None, None))
    store = open_store(stage)
    span = span_of(start, end)
    lag = clock_lag() if store.stage != "local" else timedelta(0)

    def clock() -> datetime:
        return utc_now() + lag

    if dataset is None or group is None:
        many.rebuild_all(store, store.datasets() if dataset is None else [dataset], level, span, lost, clock)
        return
    config, key = store.dataset(dataset), group_of(store, dataset, group)
    levels = levels_of(config, level)
    with spinner() as progress:
        times = partial(times_of, store, dataset, key)
        marks = rebuilding.run(store.backend, store.catalog, config, key, levels, span, times, clock, progress)
    latest = level is None and mark_latest(store, config, key, clock())
    _say_marks(marks, latest, group)
    keys = marks.ended(clock()) + ([latest_key(dataset, key)] if latest else [])
    moving = marks.count() + latest - len(keys)
    if moving:
        what, which = ("one of them is", "it does") if moving == 1 else (f"{thousands(moving)} of them are", "they do")
        say(f"{what} not over yet: the first window in which {which} not change computes {'it' if moving == 1 else 'them'}")
    if keys and wait:
        _wait(store, keys, levels, timedelta(seconds=timeout), clock)
    elif keys:
        say("the next export window computes them; `tesseract archive export` makes one now")


def audit(
    dataset: Name,
    groups: Annotated[list[str] | None, typer.Argument(metavar="GROUP", help="One group or several; all without.")] = None,
    sample: Annotated[str, typer.Option(help="How many of the items to look at: 1%, 0.1%, 100%.")] = "1%",
    level: Annotated[str | None, typer.Option(help="Only this level, or `latest`.", show_default="all")] = None,
    seed: Annotated[str | None, typer.Option(help="Which of them: the same seed takes the same.", show_default="the day")] = None,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> int:
    """Compute a sample of the aggregates and latest values from raw records, compare all digits, and show what differs.

    Exit code 1 where anything does. What the stream has yet to deliver is waited for. Nothing is changed: `rebuild` mends.
    """
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing import audit as auditing
    from tesseract.query.catalog import Lookup, group_name

    form, share = choose(form, output), auditing.share_of(sample)
    store = open_store(stage)
    config = store.dataset(dataset)
    levels = [] if level == auditing.LATEST else levels_of(config, level, auditing.LATEST)
    keys = [group_of(store, dataset, one) for one in groups] if groups else Lookup(store.backend, store.catalog).groups(config)
    chosen = auditing.Sample(share, seed or iso_day(utc_now()))
    subject = auditing.Stage(store.backend, store.catalog, config, queries(store, dataset))
    with spinner() as progress:
        latest = level in (None, auditing.LATEST)
        report = auditing.run(subject, keys, levels, chosen, lambda: time.sleep(PAUSE), latest, progress)
    if report.differences or form != "table":
        rows = [found._replace(group=group_name(found.group))._asdict() for found in report.differences]
        write_rows(rows, form, output, auditing.Difference._fields)
    _say_report(report, sample, chosen.seed)
    _measure(store, dataset, report)
    return 1 if report.different else 0


# what both need ---------------------------------------------------------------------------------------------------------


def group_of(store: Store, dataset: str, group: str) -> str:
    """The key of a group. Raises NotFoundError, with the nearest name, where neither archive nor stream know it."""
    from tesseract.query.catalog import group_key, group_name, nearest

    key, known = group_key(store.dataset(dataset), group), store.groups(dataset)
    if group_name(key) not in known:
        raise NotFoundError(f"dataset {dataset} has no group {group!r}", hint=nearest(group, known))
    return key


def levels_of(dataset: Dataset, name: str | None, *others: str) -> list[Level]:
    """The level of that name, or all, of those that have items. Raises InputError where it is none of them.

    `others` are names that the caller takes besides, for the hint.
    """
    from tesseract.processing.live_item import live_levels

    levels = live_levels(dataset)
    if name is None:
        return list(levels)
    found = [level for level in levels if level.name == name]
    if found:
        return found
    names = ", ".join([*(level.name for level in levels), *others]) or "none"
    if dataset.level(name) is not None:
        raise InputError(f"level {name} of dataset {dataset.name} is merged from finer ones", hint=f"they can be rebuilt: {names}")
    raise InputError(f"dataset {dataset.name} has no level {name!r}", hint=f"levels: {names}")


def span_of(start: str | None, end: str | None) -> Span:
    """[start, end) as the command line has it, open where it names no bound. Raises InputError where it is empty."""
    from tesseract.processing.rebuild import Span

    now, span = utc_now(), Span()
    if start is not None:
        span = span._replace(start=to_micros(parse_time(start, now, "start")))
    if end is not None:
        span = span._replace(end=to_micros(parse_time(end, now, "end")))
    if span.start >= span.end:
        raise InputError(f"end {end} is not after start {start}")
    return span


def queries(store: Store, dataset: str) -> Queries:
    """Latest values as clients see them, and as a query of the raw records gives them."""
    from tesseract.processing.audit import Queries
    from tesseract.storage.keys import split_group

    def latest(group: str) -> Mapping[str, Any] | None:
        try:
            return store.latest(dataset, split_group(group))[0]
        except NotFoundError:
            return None

    def newest(group: str, item: Mapping[str, Any]) -> Mapping[str, Any] | None:
        table = store.query(dataset, split_group(group), item["valid_time"] or None)
        return next(iter(table.slice(max(len(table) - 1, 0)).to_pylist()), None)

    return Queries(latest, newest)


# rebuild ----------------------------------------------------------------------------------------------------------------


def times_of(store: Store, dataset: str, group: str, span: Span) -> Iterator[int]:
    """The valid times of the records of a group, µs since 1970."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tesseract.storage.keys import split_group

    bounds = _bounds(span)
    result: Result = store.read(dataset, split_group(group), *bounds, fields=[])
    yield from pc.cast(result.table["valid_time"], pa.int64()).to_pylist()


def _bounds(span: Span) -> tuple[datetime | None, datetime | None]:
    from tesseract.processing.rebuild import FIRST, LAST

    return None if span.start == FIRST else from_micros(span.start), None if span.end == LAST else from_micros(span.end)


def mark_latest(store: Store, dataset: Dataset, group: str, now: datetime) -> bool:
    """Mark a latest value that is absent, stale or not the newest record; whether it was."""
    from tesseract.processing.audit import Stage as Subject
    from tesseract.processing.audit import latest_look
    from tesseract.processing.marking import mark_latest as mark
    from tesseract.storage.keys import latest_key

    look = latest_look(Subject(store.backend, store.catalog, dataset, queries(store, dataset.name)), group)
    if look.verdict == "removed" or (look.verdict == "compared" and not look.differences):
        return False
    return mark(store.backend.live, latest_key(dataset.name, group), now)


def _say_marks(marks: Marks, latest: bool, group: str) -> None:
    from tesseract.config.retention import NEVER

    if marks.first > NEVER:
        note(f"periods before {iso_day(from_micros(marks.first))} keep their numbers: retention may have removed their records")
    found = [f"{thousands(len(keys))} {level}" for level, keys in marks.keys.items() if keys]
    if latest:
        found.append("the latest value")
    marked = f"marked to be computed anew of group {group}: {', '.join(found)}"
    say(marked if found else f"group {group} has nothing to compute in that range")


def _wait(store: Store, keys: list[Key], levels: list[Level], timeout: timedelta, clock: Callable[[], datetime]) -> None:
    from tesseract.processing.rebuild import waiting
    from tesseract.remote import repair_now

    def left() -> int:
        return len(waiting(store.backend.live, keys))

    # a level that was added lately is repaired once every process knows it
    known = [from_micros(level.live_from) for level in levels if level.live_from is not None]
    covering = max([clock(), *known]) + MARGIN
    if covering > clock() + 2 * MARGIN:
        note(f"a level counts from {iso_seconds(covering)} on: no window that ends earlier computes it; Ctrl-C leaves the marks")
    with spinner() as progress:
        rest = repair_now(store.stage, store.catalog, left, progress, covering=covering, timeout=timeout, clock=clock)
    say(f"computed {thousands(len(keys) - rest)} of {thousands(len(keys))}")
    if rest:
        say(f"{thousands(rest)} changed all the while: the first window in which they do not change computes them")


# audit ------------------------------------------------------------------------------------------------------------------


def _say_report(report: Report, sample: str, seed: str) -> None:
    if report.outage:
        note("an outage of the stream is being healed: no reader trusts an item before, so nothing was compared")
        return
    counts = [f"{name} {thousands(getattr(report, name))}" for name in ("compared", "different", "stale", "pending")]
    if report.unsettled:
        counts.append(f"changing all the while {thousands(report.unsettled)}")
    note(f"{', '.join(counts)} (sample {sample}, seed {seed})")


def _measure(store: Store, dataset: str, report: Report) -> None:
    """Tell CloudWatch: an alarm may watch it. Not everybody who may read may also do that."""
    from tesseract.storage.services import put_metric

    if report.outage:
        return
    try:
        put_metric(METRIC, report.different, stage=store.stage, dataset=dataset)
    except TesseractError as error:
        note(f"warning: the metric {METRIC} was not published: {error}")
