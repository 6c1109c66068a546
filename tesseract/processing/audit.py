"""The audit: aggregate items and latest values recomputed from raw rows, and compared to the last digit.

What differs may only be the stream's lag, so it is looked at again: it counts once neither the item nor its raw rows have changed
for a while. Nothing is written.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from tesseract.config import tiers
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import NEVER, rows_kept_from
from tesseract.errors import InputError
from tesseract.model import FieldValue, Item
from tesseract.processing import raw_rows
from tesseract.processing.aggregator import State, fold_all, same, shown
from tesseract.processing.field_state import FieldState, aligned
from tesseract.processing.live_item import LiveItem, decode_item, included, numbers_of
from tesseract.processing.segments import DAY, RAW
from tesseract.processing.text_numbers import known_numbers
from tesseract.storage.base import Backend, Key
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import latest_key, live_pk, raw_pk
from tesseract.utils.time_utils import MICROSECOND, from_micros, iso_day, iso_seconds

CALM = 12  # looks in a row that find nothing changed, before a difference counts
LOOKS = 60  # before what still changes is left to the next audit
WEEK = 7  # days whose raw rows are read at once
LATEST = "latest"
_HASH = 2**64

Reading = Mapping[str, Any]  # a record as the query layer gives it: column → value
Records = Sequence[tuple[int, Mapping[str, FieldValue]]]  # valid time (µs), values; in order of time


class Difference(NamedTuple):
    """One statistic of one item, or one column of a latest value, that is not what the raw rows give."""

    group: str
    level: str
    period: str
    statistic: str
    stored: object
    recomputed: object


class Look(NamedTuple):
    """One comparison. `verdict`: `compared`, `stale`, `pending`, `gone`, or `removed` where retention may have taken its raw rows.

    `raw` is what the raw rows gave.
    """

    verdict: str
    version: int = 0
    raw: object = None
    differences: tuple[Difference, ...] = ()
    settled: bool = False  # the stream has nothing of it to deliver any more


class Check(NamedTuple):
    """The first look at an item, and how to look again."""

    again: Callable[[], Look]
    first: Look


class Sample(NamedTuple):
    """Which items are looked at: a share of them, by a hash of their keys and a seed."""

    share: Fraction
    seed: str

    def takes(self, key: Key) -> bool:
        """Whether the item of that key is in the sample."""
        digest = hashlib.sha256("|".join((self.seed, *key)).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * _HASH


@dataclass
class Report:
    """What an audit found. `compared` counts all items that have numbers, `different` those of them that are wrong.

    `stale` and `pending` items show no numbers, `unsettled` ones differed and changed as long as they were looked at. While an
    `outage` is healed nobody trusts an item, and nothing is compared.
    """

    compared: int = 0
    stale: int = 0
    pending: int = 0
    different: int = 0
    unsettled: int = 0
    outage: bool = False
    differences: list[Difference] = field(default_factory=list)


class Queries(NamedTuple):
    """What the query layer knows: the latest value of a group as clients see it, and its newest record from buffer and archive."""

    latest: Callable[[str], Reading | None]
    newest: Callable[[str, Item], Reading | None]  # at or after the valid time that a latest item holds


@dataclass(frozen=True)
class Stage:
    """What an audit of one dataset reads."""

    backend: Backend
    catalog: Catalog
    dataset: Dataset
    queries: Queries


def share_of(text: str) -> Fraction:
    """`1%` as a share. Raises InputError where it is none above 0 and up to 100%."""
    number = text.strip().removesuffix("%").strip()
    try:
        share = Fraction(number) / 100
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise InputError(f"{text!r} is not a sample", hint="a percentage above 0 and up to 100, such as 1%")
    return share


def run(
    stage: Stage,
    groups: Sequence[str],
    levels: Sequence[Level],
    sample: Sample,
    wait: Callable[[], None],
    latest: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Audit the sample of a dataset's `groups` (keys) at `levels`, and of their latest values.

    `wait` lets a few seconds pass: it is called before everything that differs is looked at again.
    """
    if stage.catalog.outage() is not None:
        return Report(outage=True)
    report = Report()
    doubtful: list[Check] = []
    for group in groups:
        checks = _items(stage, group, levels, sample)
        if latest and sample.takes(latest_key(stage.dataset.name, group)):
            checks.append(Check(partial(latest_look, stage, group), latest_look(stage, group)))
        for check in checks:
            if check.first.differences and not check.first.settled:
                doubtful.append(check)
            else:
                _count(report, check.first)
        say(f"{report.compared + len(doubtful):,} compared, {report.different + len(doubtful):,} differ so far")
    for look in settled(doubtful, wait, say):
        _count(report, look)
    return report


def settled(doubtful: Sequence[Check], wait: Callable[[], None], say: Callable[[str], None]) -> Iterator[Look]:
    """The last looks at what differs: equal by now, or different and calm, or `unsettled`."""
    left = [(check.again, check.first, 0) for check in doubtful]
    for _ in range(LOOKS):
        if not left:
            return
        say(f"{len(left):,} differ, which may be the stream's lag: looking again")
        wait()
        moving = []
        for again, before, calm in left:
            look = again()
            calm = calm + 1 if (look.version, look.raw) == (before.version, before.raw) else 0
            if not look.differences or look.settled or calm >= CALM:
                yield look
            else:
                moving.append((again, look, calm))
        left = moving
    yield from (Look("unsettled") for _ in left)


def _count(report: Report, look: Look) -> None:
    if look.verdict in ("gone", "removed"):
        return
    if look.verdict != "compared":
        setattr(report, look.verdict, getattr(report, look.verdict) + 1)
        return
    report.compared += 1
    report.different += bool(look.differences)
    report.differences += look.differences


# aggregates -------------------------------------------------------------------------------------------------------------


def _items(stage: Stage, group: str, levels: Sequence[Level], sample: Sample) -> list[Check]:
    """The sampled items of a group. Raw rows are read a week at a time: memory is bounded, and few segments are read twice."""
    taken: list[tuple[LiveItem, Item, Level]] = []
    low = _first(stage)
    for level in levels:
        for item in stage.backend.live.query(live_pk(stage.dataset.name, group, level.name), low):
            if sample.takes((item["pk"], item["sk"])):
                taken.append((decode_item(item), item, level))
    checks: list[Check] = []
    for _, part in groupby(sorted(taken, key=lambda one: one[0].sk), key=lambda one: one[0].start // (WEEK * DAY)):
        week = list(part)
        rows = _rows(stage, group, sorted({live.start // DAY for live, *_ in week}))
        for live, item, level in week:
            again = partial(_again, stage, group, live.key, level)
            checks.append(Check(again, _look(stage, group, live, item, level, rows)))
    return checks


def _first(stage: Stage) -> str | None:
    """The sort key of the first period whose raw rows retention has left alone: of those before nobody can tell."""
    first = rows_kept_from(stage.dataset, RAW, stage.catalog.progress().snapshot_through)
    return None if first == NEVER else iso_seconds(from_micros(first))


def _again(stage: Stage, group: str, key: Key, level: Level) -> Look:
    item = stage.backend.live.get(key)
    if item is None:
        return Look("gone")
    live = decode_item(item)
    return _look(stage, group, live, item, level, _rows(stage, group, [live.start // DAY]))


def _rows(stage: Stage, group: str, days: Sequence[int]) -> Records:
    manifest = stage.catalog.manifest_of(stage.dataset, RAW, group)
    known = partial(known_numbers, stage.backend, stage.catalog, stage.dataset, group, days)
    return raw_rows.read(stage.backend, manifest, stage.dataset, days, known=known)


def _look(stage: Stage, group: str, live: LiveItem, item: Item, level: Level, rows: Records) -> Look:
    if live.stale_at is not None or live.live_from != level.live_from:
        return Look("stale", live.version)
    if "fields" not in item:
        return Look("pending", live.version)
    start, end = live.start, live.start + tiers.LENGTHS[level.name] // MICROSECOND
    low, high = (bisect_left(rows, edge, key=lambda row: row[0]) for edge in (start, end))
    state = fold_all([(at - start, values) for at, values in rows[low:high]], included(live, level))
    found = tuple(Difference(group, level.name, live.sk, *rest) for rest in compare(live, item, state, level))
    return Look("compared", live.version, state, found, bool(found) and _is_archived(stage, group, start))


def _is_archived(stage: Stage, group: str, start: int) -> bool:
    """Whether nothing of a day is in the buffer: what was written there lately would be, and only that can be in the stream."""
    day = iso_day(from_micros(start // DAY * DAY))
    return next(stage.backend.raw.query(raw_pk(stage.dataset.name, group, day), limit=1), None) is None


def compare(live: LiveItem, item: Item, state: State, level: Level) -> Iterator[tuple[str, object, object]]:
    """(statistic, stored, recomputed) of everything that differs between an item and the state of its raw rows."""
    if int(item["rows"]) != state.rows or live.state.rows != state.rows:
        yield "rows", int(item["rows"]), state.rows
    stored, fresh = numbers_of(item), shown(state, level)
    for name in sorted({*stored, *fresh, *live.state.fields, *state.fields}):
        plain = list(_numbers(name, level.wanted(name), stored.get(name, {}), fresh.get(name, {})))
        yield from plain or _exact(name, live.state.fields.get(name, FieldState()), state.fields.get(name, FieldState()))


def _numbers(
    name: str, stats: Iterable[str], stored: Mapping[str, object], fresh: Mapping[str, object]
) -> Iterator[tuple[str, object, object]]:
    for stat in stats:
        nothing = 0 if stat == "count" else None  # a field without values may be absent
        left, right = stored.get(stat, nothing), fresh.get(stat, nothing)
        if left != right:
            yield f"{name}.{stat}", left, right


def _exact(name: str, left: FieldState, right: FieldState) -> Iterator[tuple[str, object, object]]:
    """The parts of a field's exact state that differ, where no plain number does: scaled integers, and µs since the start."""
    if same(State(0, {name: left}), State(0, {name: right})):
        return
    for part, one, other in zip(FieldState._fields, *aligned(left, right), strict=True):
        if one != other:
            yield f"{name} state.{part}", one, other


# latest values ----------------------------------------------------------------------------------------------------------


def latest_look(stage: Stage, group: str) -> Look:
    """A look at the latest value of a group. One that says that there is no record holds none."""
    item = stage.backend.live.get(latest_key(stage.dataset.name, group))
    if item is None:
        return Look("gone")
    version = int(item["version"])
    if item.get("stale"):
        return Look("stale", version)
    if "" < item["valid_time"][:19] < (_first(stage) or "")[:19]:
        return Look("removed")
    stored, newest = stage.queries.latest(group) or {}, stage.queries.newest(group, item) or {}
    names = stored if stored and newest else ["valid_time"]
    found = [Difference(group, LATEST, "", name, stored.get(name), newest.get(name)) for name in names]
    return Look("compared", version, newest, tuple(one for one in found if one.stored != one.recomputed))
