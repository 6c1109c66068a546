"""Extremes that were taken out of an aggregate are looked up again: from finer items as just written, or from raw items.

Counts and sums are never taken from a look-up: raw items may be ahead of the stream, and what is in them already would be
counted once more when its change comes. Extremes may be applied twice. A look-up whose rows and sums are not the item's has seen
more than the item holds: its extremes stay unknown, and are looked up again with the next change.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS
from tesseract.processing.aggregator import State, fold_all, identity, known, merge, same_sums, shift
from tesseract.processing.live import DELTA, Facts, marked_stale
from tesseract.processing.live_item import LiveItem, decode_item, included, live_levels
from tesseract.storage.base import Table
from tesseract.storage.items import records_of
from tesseract.storage.keys import live_pk, raw_pk, split_live_key
from tesseract.utils.time_utils import EPOCH, iso_day, iso_micros, iso_seconds, to_micros


def looked_up(item: LiveItem, facts: Facts, raw: Table, live: Table, clock: Callable[[], datetime]) -> LiveItem:
    """`item` with its unknown extremes, as far as they can be known; stale where raw items may have expired meanwhile."""
    state = _from_finer(item, facts, live)
    if state is None:
        state = _from_raw(item, facts, raw)
        now = (clock() - EPOCH) // timedelta(seconds=1)  # read after the look-up: what it saw was there before
        if now >= item.safe_until:
            return marked_stale(item, facts.level, now + DELTA)
    return msgspec.structs.replace(item, state=state) if same_sums(state, item.state) else item


def _from_finer(item: LiveItem, facts: Facts, live: Table) -> State | None:
    """The state merged from the items of the next finer level; None where there is none, or they are not the whole of it."""
    finer = _next_finer(facts.dataset, facts.level)
    if finer is None:
        return None
    dataset, group, _, start = split_live_key(item.pk, item.sk)
    end = UNITS[facts.level.name].end(start)
    fields, total = included(item, facts.level), identity()
    for stored in live.query(live_pk(dataset, group, finer.name), iso_seconds(start), iso_seconds(end)):
        part = decode_item(stored)
        if part.stale_at is not None or part.live_from != finer.live_from or not known(part.state):
            return None
        if included(part, finer) != fields:
            return None
        total = merge(total, shift(part.state, part.start - item.start))
    return total if same_sums(total, item.state) else None


def _next_finer(dataset: Dataset, level: Level) -> Level | None:
    rank = UNITS[level.name].rank
    finer = [other for other in live_levels(dataset) if UNITS[other.name].rank < rank]
    return max(finer, key=lambda other: UNITS[other.name].rank, default=None)


def _from_raw(item: LiveItem, facts: Facts, raw: Table) -> State:
    """The state of the visible raw items of the period as they are now."""
    dataset, group, level, start = split_live_key(item.pk, item.sk)
    low, high = iso_micros(start), iso_micros(UNITS[level].end(start))
    records = [
        record for stored in raw.query(raw_pk(dataset, group, iso_day(start)), low, high) for record in records_of(stored, group)
    ]
    visible = [(to_micros(record.valid_time) - item.start, record.fields) for record in records if not record.deleted]
    return fold_all(visible, included(item, facts.level))
