"""Protocol A, the rule: what a batch of changes makes of one aggregate item. Pure.

This release knows one road: an insert is folded where the item is provably complete, and every other change marks the item
stale, after which readers compute its period from raw records. Nothing is ever folded twice: each item carries the watermark of
the changes that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Period
from tesseract.model import Change
from tesseract.processing.aggregator import fold, identity
from tesseract.processing.changes import SEQUENCE_DIGITS, same_values, watermark
from tesseract.processing.live_item import NO_LIMIT, LiveItem, covers, live_levels
from tesseract.storage.base import Key
from tesseract.storage.keys import live_key
from tesseract.utils.time_utils import EPOCH, from_iso, to_micros

DELTA = 5  # seconds: the granularity of creation times, and the skew between clocks


class Facts(msgspec.Struct, frozen=True):
    """What the rule must know besides the changes. `archived` says whether a segment may hold rows of a period."""

    dataset: Dataset
    level: Level
    now: datetime
    archived: Callable[[Period], bool]
    covered: frozenset[str] | None = None  # of the level


def touched(changes: Iterable[Change], dataset: Dataset) -> dict[Key, tuple[Level, list[Change]]]:
    """The aggregate items of one dataset that changes belong to, each with its changes in order."""
    items: dict[Key, tuple[Level, list[Change]]] = {}
    levels = live_levels(dataset)
    for change in changes:
        for level in levels:
            key = live_key(dataset.name, change.group, UNITS[level.name], change.valid_time)
            items.setdefault(key, (level, []))[1].append(change)
    return items


def apply(live: LiveItem | None, key: Key, changes: Iterable[Change], facts: Facts) -> LiveItem | None:
    """The item after `changes`, at the next version; None where there is nothing to write."""
    before = live
    for change in changes:
        if live is not None and live.applied and not _is_new(live, change):
            continue
        live = _first(key, change, facts) if live is None else _next(live, change, facts)
    if live is None or live is before:
        return None
    return msgspec.structs.replace(live, version=(before.version if before else 0) + 1)


def _is_new(live: LiveItem, change: Change) -> bool:
    label, _, applied = live.applied.rpartition("/")
    return label != change.stream or change.sequence.rjust(SEQUENCE_DIGITS, "0") > applied


def _first(key: Key, change: Change, facts: Facts) -> LiveItem | None:
    """The first change of a period that has no item. An insert is the first of its period only if nothing came and went before."""
    live = LiveItem(*key, live_from=facts.level.live_from)
    if change.new is None or change.old is not None:
        return _stale(live, change, facts)
    period = UNITS[facts.level.name].period(from_iso(live.sk))
    try:
        young = period.start + facts.dataset.shortest_ttl > facts.now
    except OverflowError:
        young = True
    if not covers(live, facts.dataset, facts.level) or not (young or not facts.archived(period)):
        return _stale(live, change, facts)
    if change.new.deleted:
        return _unchanged(live, change, facts) if facts.dataset.by_ref_time else None
    return _folded(live, change, facts)


def _next(live: LiveItem, change: Change, facts: Facts) -> LiveItem:
    """One more change of an item that is there."""
    label = live.applied.rpartition("/")[0]
    if live.stale_at is not None or live.live_from != facts.level.live_from or (label and label != change.stream):
        return _stale(live, change, facts)
    expired = max(_seconds(facts.now), _seconds(change.created)) >= live.safe_until
    if expired and facts.dataset.by_ref_time:  # the item changed may be an older revision than one that has expired
        return _stale(live, change, facts)
    if same_values(change):
        return _unchanged(live, change, facts)
    if change.new is None or change.old is not None or expired:
        return _stale(live, change, facts)
    return _unchanged(live, change, facts) if change.new.deleted else _folded(live, change, facts)


def _unchanged(live: LiveItem, change: Change, facts: Facts) -> LiveItem:
    """A change that leaves the numbers as they are: equal values, or a tombstone where no record is."""
    new = change.new
    assert new is not None
    # under ref-time order a tombstone counts, too: when it has expired, an older revision would come as a new record
    lasting = new.deleted and not facts.dataset.by_ref_time
    expiry = live.safe_until if lasting else min(live.safe_until, new.expires_at)
    return msgspec.structs.replace(live, applied=watermark(change), safe_until=expiry)


def _folded(live: LiveItem, change: Change, facts: Facts) -> LiveItem:
    new = change.new
    assert new is not None
    at = to_micros(change.valid_time) - to_micros(from_iso(live.sk))
    return msgspec.structs.replace(
        live,
        state=fold(live.state, new.fields, at, facts.covered),
        applied=watermark(change),
        safe_until=min(live.safe_until, new.expires_at),
    )


def _stale(live: LiveItem, change: Change, facts: Facts) -> LiveItem:
    """Marked, or marked anew: a repair must come from a window that ends after the last change. No numbers remain."""
    at = max(live.stale_at or 0, _seconds(change.created) + DELTA)
    if facts.level.live_from is not None:  # every process knows the level by then
        at = max(at, facts.level.live_from // 1_000_000 + DELTA)
    return msgspec.structs.replace(
        live,
        state=identity(),
        applied=watermark(change),
        safe_until=NO_LIMIT,
        stale_at=at,
        live_from=facts.level.live_from,
    )


def _seconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)
