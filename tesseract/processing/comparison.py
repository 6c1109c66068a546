"""Live items and latest values against the raw rows of their periods: what a snapshot notes, and `mismatches` looks at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from tesseract.config.dataset import Dataset, Level
from tesseract.model import Item
from tesseract.processing.aggregator import decode_state, same
from tesseract.processing.live_item import LiveItem, covers, decode_item, included, within
from tesseract.processing.mismatches import Seen
from tesseract.processing.raw_rows import Values
from tesseract.processing.segments import DAY
from tesseract.storage.base import Backend
from tesseract.storage.columns import LevelRow
from tesseract.storage.keys import latest_key, live_pk
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds, to_micros


def stored(backend: Backend, dataset: Dataset, group: str, level: Level, starts: Sequence[int]) -> dict[str, LiveItem]:
    """The live items between the first and the last of `starts` (µs), by sort key."""
    if not starts:
        return {}
    low, high = (iso_seconds(from_micros(start)) for start in (starts[0], starts[-1]))
    return {item["sk"]: decode_item(item) for item in backend.live.query(live_pk(dataset.name, group, level.name), low, high + "~")}


def differing(
    dataset: Dataset, group: str, level: Level, found: Mapping[str, LiveItem], rows: Sequence[LevelRow]
) -> tuple[int, list[Seen]]:
    """How many live items were compared with rows just computed, and those that differ. Mostly that is the stream's lag.

    One that is stale is on its way; one that is absent, or pending though its period has ended, may have missed a change. A period
    that began before its level was kept has no item until it is rebuilt.
    """
    pk = live_pk(dataset.name, group, level.name)
    compared, different = 0, list[Seen]()
    for row in rows:
        sk = iso_seconds(row.period_start)
        live = found.get(sk, LiveItem(pk, sk, live_from=level.live_from))
        if sk not in found and not covers(live, dataset, level):
            continue
        if live.stale_at is not None or live.live_from != level.live_from:
            continue
        compared += 1
        fields = included(live, level)
        if not same(within(live.state, fields), within(decode_state(row.state), fields)):
            different.append(Seen(pk, sk, live.version))
    return compared, different


def differing_latest(
    dataset: Dataset, group: str, item: Item | None, records: Mapping[int, Values], days: Sequence[int]
) -> list[Seen]:
    """The latest item where the raw rows just read have a later one, or another one at its time, or none there.

    `records` by their time, those of the last month that has any; `days` (since 1970) are all that were read.
    """
    key, last = latest_key(dataset.name, group), max(records, default=-(2**63))
    item = item or {"version": 0, "valid_time": ""}
    if "stale_at" in item:
        return []
    at = to_micros(from_iso(item["valid_time"])) if item["valid_time"] else -(2**63)
    gone = at not in records and at // DAY in days
    different = at < last or gone or (at in records and not _agree(item["fields"], records[at]))
    return [Seen(*key, int(item["version"]))] if different else []


def _agree(held: Values, found: Values) -> bool:
    """Whether numbers that are on both sides are the same: of the archive there are numbers only."""
    both = held.keys() & found.keys()
    return all(held[name] == found[name] for name in both if isinstance(held[name], int | Decimal))
