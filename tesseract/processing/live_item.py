"""Aggregate items of the live table: what a dashboard reads, and the exact state beside it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import LIVE_LEVELS, UNITS
from tesseract.model import Item
from tesseract.processing.aggregator import NOTHING, Fields, State, decode_state, encode_state, identity, known, shown
from tesseract.storage.base import Key
from tesseract.utils.time_utils import EPOCH, from_iso, to_micros

LIVE_TTL = timedelta(days=400)  # outlives the buffer by far: a year of daily values stays one Query
NO_LIMIT = 2**40  # `safe_until` of an item without rows, in seconds: nothing of it can expire


class LiveItem(msgspec.Struct, frozen=True):
    """One period of one group at one level, as protocol A keeps it. Times are seconds since 1970 unless said otherwise.

    `applied` is the watermark, `stream label/sequence`; `safe_until` the earliest expiry among the raw items folded;
    `stale_at` is None unless the item is stale; `live_from` (µs) names the life of the level that the item belongs to;
    `repaired_through` is the end of the window that the archiver computed the item from, None if it never did; `fields_from` (µs)
    says that the item has all fields that its level had got by then (Level.lacks). `config_version` is the configuration that the
    item was written under: nobody who knows an older one may change it, or a field would be in a part of its numbers.
    """

    pk: str
    sk: str
    state: State = identity()
    version: int = 0
    applied: str = ""
    safe_until: int = NO_LIMIT
    stale_at: int | None = None
    live_from: int | None = None
    repaired_through: int | None = None
    fields_from: int | None = None
    config_version: int = 0

    @property
    def key(self) -> Key:
        """(pk, sk)."""
        return self.pk, self.sk

    @property
    def start(self) -> int:
        """The start of the period, µs since 1970."""
        return to_micros(from_iso(self.sk))


def live_levels(dataset: Dataset) -> tuple[Level, ...]:
    """The levels of a dataset that have items and segments of their own; coarser ones are merged from them when they are read."""
    return tuple(level for level in dataset.levels if level.name in LIVE_LEVELS)


def decode_item(item: Item) -> LiveItem:
    """A stored item. The state of a stale one is empty: it has no numbers that anybody may use."""
    return LiveItem(
        pk=item["pk"],
        sk=item["sk"],
        state=decode_state(item["state"]) if "state" in item else identity(),
        version=int(item["version"]),
        applied=item["applied"],
        safe_until=int(item["safe_until"]),
        stale_at=_number(item, "stale_at"),
        live_from=_number(item, "live_from"),
        repaired_through=_number(item, "repaired_through"),
        fields_from=_number(item, "fields_from"),
        config_version=int(item.get("config_version", 0)),
    )


def _number(item: Item, name: str) -> int | None:
    return None if item.get(name) is None else int(item[name])


def encode_item(live: LiveItem, level: Level, now: datetime) -> Item:
    """The item to store: plain numbers and state; only state while an extreme is to be looked up; neither where it is stale."""
    item: Item = {
        "pk": live.pk,
        "sk": live.sk,
        "version": live.version,
        "applied": live.applied,
        "safe_until": live.safe_until,
        "expires_at": _expires_at(live, level, now),
        "config_version": live.config_version,
    }
    for name in ("live_from", "repaired_through", "fields_from"):
        value = getattr(live, name)
        if value is not None:
            item[name] = value
    if live.stale_at is not None:
        return {**item, "stale_at": live.stale_at}
    item["state"] = encode_state(live.state)
    if not known(live.state):
        return {**item, "pending": True}
    return {**item, "rows": live.state.rows, "fields": shown(live.state, level)}


def numbers_of(item: Item) -> dict[str, dict[str, int | Decimal | None]]:
    """The plain numbers of an item that is not stale: field → statistic → number."""
    fields: dict[str, dict[str, int | Decimal | None]] = item["fields"]
    return fields


def usable(item: Item | None, level: Level) -> bool:
    """Whether a reader may take the numbers of an item: there, neither stale nor pending, of the level's present life, and with all
    fields that the level has.
    """
    if item is None or "fields" not in item or _number(item, "live_from") != level.live_from:
        return False
    return not (level.since and level.lacks(to_micros(from_iso(item["sk"])), _number(item, "fields_from")))


def included(live: LiveItem, level: Level) -> Fields:
    """The fields that an item has statistics of: those of its level, but for those that the level got when the period had begun."""
    return Fields(level.covered(), level.lacks(live.start, live.fields_from) if level.since else NOTHING)


def within(state: State, fields: Fields) -> State:
    """A state without the fields that are not covered (any more)."""
    only, without = fields
    kept = {name: field for name, field in state.fields.items() if (only is None or name in only) and name not in without}
    return state if len(kept) == len(state.fields) else State(state.rows, kept)


def covers(live: LiveItem, dataset: Dataset, level: Level) -> bool:
    """Whether every record of the item's period was written while its level was kept."""
    since = level.live_since()
    return since is None or from_iso(live.sk) > since


def _expires_at(live: LiveItem, level: Level, now: datetime) -> int:
    """From the later of the last change and the period's end, so that an item for tomorrow does not expire early."""
    end = UNITS[level.name].period(from_iso(live.sk)).end
    try:
        return int((max(now, end) + LIVE_TTL - EPOCH).total_seconds())
    except OverflowError:
        return NO_LIMIT
