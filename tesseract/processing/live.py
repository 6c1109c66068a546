"""Protocol A, the rule: what a batch of changes makes of one aggregate item. Pure.

`apply` decides change by change what is to be folded; `finish` folds all of it at once. Nothing is ever folded twice: each item
carries the watermark of the changes that it holds. A change that cannot be folded exactly marks the item stale: it shows no
numbers, readers compute its period from raw records, and the archiver repairs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Period
from tesseract.errors import DamagedError
from tesseract.model import Change, FieldValue
from tesseract.processing.aggregator import State, correct, fold, fold_all, identity, merge, retract
from tesseract.processing.live_item import LIVE_TTL, NO_LIMIT, LiveItem, covers, included, within
from tesseract.storage.base import Key
from tesseract.utils.time_utils import EPOCH, from_iso

DELTA = 5  # seconds: the granularity of creation times, and the skew between clocks


class Facts(msgspec.Struct, frozen=True):
    """What the rule must know besides the changes.

    `archived` says whether a segment may hold rows of a period; `outage`, whether the stream may have lost changes.
    """

    dataset: Dataset
    level: Level
    now: datetime
    archived: Callable[[Period], bool]
    outage: bool = False


class Applied(NamedTuple):
    """An item after a batch, but for the numbers of the changes `folds`, which are to be folded into its state in order."""

    item: LiveItem
    folds: list[Change]
    inserts: bool  # whether `folds` are new records only: then their order does not matter


class News(NamedTuple):
    """What new records of one stream have in common: watermarks, creation times, and when the first of them expires."""

    first: str
    last: str
    oldest: int
    newest: int
    expires_at: int


def news_of(changes: Sequence[Change]) -> News | None:
    """Changes, as nearly all are: new records, in the order of their stream, each once. None where one of them is anything else."""
    last = prefix = _prefix(changes[0].watermark)
    beyond, expires_at = prefix[:-1] + "0", NO_LIMIT  # "0" comes after the slash: what lies between begins with the prefix
    for change in changes:
        new = change.new
        if change.old is not None or new is None or new.deleted or not last < change.watermark < beyond:
            return None
        last = change.watermark
        if new.expires_at < expires_at:
            expires_at = new.expires_at
    created = [change.created for change in changes]
    return News(changes[0].watermark, last, min(created), max(created), expires_at)


def apply(live: LiveItem | None, key: Key, changes: Sequence[Change], facts: Facts, news: News | None = None) -> Applied | None:
    """The item after `changes`, at the next version; None where there is nothing to write.

    `news` of the changes, where somebody has it, says the same in less time.
    """
    draft = _Draft(live or LiveItem(*key, live_from=facts.level.live_from), live is not None, facts)
    draft.take_all(changes, news)
    return Applied(draft.item(), draft.folds, draft.inserts) if draft.changed else None


def finish(applied: Applied, facts: Facts, delta: State | None = None) -> LiveItem:
    """The item with its numbers. `delta` is the state of `folds`, where somebody has it already."""
    item, folds = applied.item, applied.folds
    if not folds:
        return item
    if applied.inserts:
        delta = inserted(applied, facts) if delta is None else delta
        return msgspec.structs.replace(item, state=merge(item.state, delta) if item.state.rows else delta)
    try:
        return msgspec.structs.replace(item, state=_in_order(item, folds, facts))
    except DamagedError:  # the item does not hold what the stream says that it held
        return marked_stale(item, facts.level, max(change.created for change in folds) + DELTA)


def inserted(applied: Applied, facts: Facts) -> State:
    """The state of the new records of `applied.folds`."""
    start = applied.item.start
    records = [(change.at - start, change.new.fields) for change in applied.folds if change.new is not None]
    return fold_all(records, included(applied.item, facts.level))


def marked_stale(live: LiveItem, level: Level, at: int) -> LiveItem:
    """An item that must be computed from a window that ends at `at` (s) or later. No numbers remain."""
    at = max(at, live.stale_at or 0)
    if level.live_from is not None:  # until every process knows the level, one that does not may fold nothing into the item
        known = level.live_from if level.known_from is None else level.known_from
        at = max(at, known // 1_000_000 + DELTA)
    return msgspec.structs.replace(
        live,
        state=identity(),
        safe_until=NO_LIMIT,
        stale_at=at,
        live_from=level.live_from,
        repaired_through=None,
        fields_from=None,
    )


def _in_order(item: LiveItem, folds: Sequence[Change], facts: Facts) -> State:
    """The state after new, replaced and deleted records, one after the other. Raises DamagedError."""
    state, start, fields = item.state, item.start, included(item, facts.level)
    for change in folds:
        at = change.at - start
        old = None if change.old is None or change.old.deleted else change.old.fields
        new = None if change.new is None or change.new.deleted else change.new.fields
        if old is None:
            state = fold(state, new or {}, at, fields)
        elif new is None:
            state = retract(state, old, at, fields)
        else:
            state = correct(state, old, new, at, fields)
    return state


class _Draft:
    """One item while a batch is applied to it."""

    def __init__(self, live: LiveItem, there: bool, facts: Facts) -> None:
        self.live, self.there, self.facts = live, there, facts
        self.applied, self.prefix = live.applied, _prefix(live.applied)
        self.safe_until = live.safe_until
        self.version = live.version
        self.stale = live.stale_at is not None
        self.changed = False
        self.folds: list[Change] = []
        self.inserts = True
        self.now = (facts.now - EPOCH) // timedelta(seconds=1)
        self.by_ref_time = facts.dataset.by_ref_time

    def item(self) -> LiveItem:
        """As it is to be stored, without the numbers of `folds`."""
        state = within(self.live.state, included(self.live, self.facts.level))
        return msgspec.structs.replace(
            self.live,
            state=state,
            version=self.version + 1,
            applied=self.applied,
            safe_until=self.safe_until,
            config_version=self.facts.dataset.version,
        )

    def take_all(self, changes: Sequence[Change], news: News | None) -> None:
        """Changes in the order of the stream. `news` is what they have in common where all are new records."""
        first = 0
        if news is not None and not self.there:
            self._take(changes[0])
            first = 1
        if news is not None and self._takes_all(news, news.first if first else ""):
            self.folds += changes[first:]
            self.applied, self.safe_until, self.changed = news.last, min(self.safe_until, news.expires_at), True
            return
        for change in changes[first:]:
            self._take(change)

    def _takes_all(self, news: News, taken: str) -> bool:
        """Whether `_take` would fold all of these new records; `taken` is the watermark of the first where it was taken already."""
        live, facts = self.live, self.facts
        if self.stale or not self.there or facts.outage or live.live_from != facts.level.live_from:
            return False
        if live.repaired_through is not None and news.oldest < live.repaired_through + DELTA:
            return False
        after = self.applied == taken if taken else self.applied < news.first
        return after and news.last.startswith(self.prefix) and max(self.now, news.newest) < min(self.safe_until, news.expires_at)

    def _take(self, change: Change) -> None:
        """One more change: the whole rule."""
        if self.prefix and change.watermark <= self.applied and change.watermark.startswith(self.prefix):
            return None
        new, old = change.new, change.old
        if new is None or self._of_another_life(change) or not (self.there or self._is_first(change)):
            return self._mark(change)
        if not self.there and new.deleted and not self.by_ref_time:
            return None  # a tombstone of a period without records: nothing to store
        through = self.live.repaired_through
        if through is not None and change.created < through + DELTA:
            # a repair holds what was written before its window's end; around that second nobody can tell
            return self._pass(change) if change.created < through - DELTA else self._mark(change)
        expired = max(self.now, change.created) >= self.safe_until
        if self.stale or (expired and (old is None or self.by_ref_time)):
            return self._mark(change)  # an insert may be the rewrite of a copy that has expired
        self._pass(change)
        # under ref-time order a tombstone counts, too: when it has expired, an older revision would come as a new record
        if (not new.deleted or self.by_ref_time) and new.expires_at < self.safe_until:
            self.safe_until = new.expires_at
        was = old is not None and not old.deleted
        if (was or not new.deleted) and not (was and old is not None and not new.deleted and _same(old.fields, new.fields)):
            self.folds.append(change)
            self.inserts = self.inserts and not was
        return None

    def _of_another_life(self, change: Change) -> bool:
        """Whether the item belongs to another stream, or to a former life of its level, or may have missed changes."""
        if not change.watermark.startswith(self.prefix):
            return True
        return self.facts.outage or self.live.live_from != self.facts.level.live_from

    def _is_first(self, change: Change) -> bool:
        """Whether a change of a period without an item is provably its first: a new record, and nothing came and went before.

        A tombstone leaves no item, so a record in its place is new, too.
        """
        facts = self.facts
        if (change.old is not None and not change.old.deleted) or not covers(self.live, facts.dataset, facts.level):
            return False
        period = UNITS[facts.level.name].period(from_iso(self.live.sk))
        try:
            # neither a raw item nor the item itself can have expired: a buffer may keep records for longer than items are kept
            young = period.start + min(facts.dataset.shortest_ttl, LIVE_TTL) > facts.now
        except OverflowError:
            young = True
        return young or not facts.archived(period)

    def _pass(self, change: Change) -> None:
        self.applied, self.changed, self.there = change.watermark, True, True
        self.prefix = self.prefix or _prefix(change.watermark)

    def _mark(self, change: Change) -> None:
        """Stale, or stale anew: a repair must come from a window that ends after the last change."""
        self._pass(change)
        self.prefix = _prefix(change.watermark)
        self.live = marked_stale(self.live, self.facts.level, change.created + DELTA)
        self.safe_until, self.stale = NO_LIMIT, True
        self.folds.clear()


def _prefix(watermark: str) -> str:
    """What all watermarks of the same stream begin with; empty where there is none yet."""
    label, slash, _ = watermark.rpartition("/")
    return label + slash


def _same(old: Mapping[str, FieldValue], new: Mapping[str, FieldValue]) -> bool:
    """Whether the change left the record as it was: another version or day of receipt, the same reading. True is not 1."""
    return old == new and all(isinstance(value, bool) is isinstance(new[name], bool) for name, value in old.items())
