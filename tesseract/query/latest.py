"""Latest values: one GetItem for a group, a BatchGetItem for some, a few Queries for all.

Loads pyarrow only where an item is stale or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.model import Item
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.storage.base import Key, Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.items import TYPES
from tesseract.storage.keys import LATEST_SHARDS, latest_key, latest_pk, split_group
from tesseract.utils.time_utils import from_iso

if TYPE_CHECKING:
    from tesseract.query.engine import Engine

TRUST = timedelta(minutes=1)  # for which no outage is taken to be none still, until the answer comes
_WIDE = Context(prec=60)  # the default one holds 28 digits


class Latest:
    """Reads the latest items of a stage. `engine` makes the query engine, and is called only where one is needed."""

    def __init__(self, live: Table, catalog: Catalog, lookup: Lookup, engine: Callable[[], Engine]) -> None:
        self._live, self._catalog, self._lookup, self._engine = live, catalog, lookup, engine
        self._pool = ThreadPoolExecutor(1 + LATEST_SHARDS, thread_name_prefix="tesseract-latest")
        self._trusted_at: datetime | None = None

    def some(self, dataset: Dataset, groups: Sequence[str], now: datetime) -> list[dict[str, Any]]:
        """The newest reading of each of some groups, in the order of groups. Raises NotFoundError for the first that has none."""
        keys = {group: latest_key(dataset.name, group) for group in groups}
        trusted, items = self._items(now, lambda: self._live_items(keys))
        rows = self._rows(dataset, items if trusted else dict.fromkeys(groups), now)
        if len(rows) < len(keys):
            have = {tuple(row[name] for name in dataset.group_by) for row in rows}
            self._refuse(dataset, next(group for group in groups if split_group(group) not in have), items)
        return rows

    def all(self, dataset: Dataset, now: datetime) -> list[dict[str, Any]]:
        """The newest reading of every group, in the order of groups; a group without a visible record has none."""
        trusted, items = self._items(now, lambda: self._all_items(dataset))
        return self._rows(dataset, items if trusted else dict.fromkeys(items), now)

    def _live_items(self, keys: Mapping[str, Key]) -> dict[str, Item | None]:
        if len(keys) == 1:
            return {group: self._live.get(key) for group, key in keys.items()}
        found = self._live.get_many(keys.values())
        return {group: found.get(key) for group, key in keys.items()}

    def _all_items(self, dataset: Dataset) -> dict[str, Item | None]:
        archived = self._pool.submit(self._catalog.groups, dataset.name, "raw")
        shards = [
            self._pool.submit(lambda pk: list(self._live.query(pk)), latest_pk(dataset.name, shard))
            for shard in range(LATEST_SHARDS)
        ]
        items: dict[str, Item | None] = dict.fromkeys(archived.result())
        for shard in shards:
            items |= {item["sk"]: item for item in shard.result()}
        return items

    def _items(self, now: datetime, read: Callable[[], dict[str, Item | None]]) -> tuple[bool, dict[str, Item | None]]:
        """What `read` gives, and whether it counts: not while the stream may have lost changes.

        That is asked first: an outage that has ended between the two would go unseen. Where there was none a moment ago, it is
        asked meanwhile, and the answer is at worst as good as it would have been then.
        """
        if self._trusted_at is None or not now - TRUST <= self._trusted_at <= now:
            trusted = self._trusted(now)
            return trusted, read()
        asked = self._pool.submit(self._trusted, now)
        items = read()
        return asked.result(), items

    def _trusted(self, now: datetime) -> bool:
        trusted = self._catalog.outage() is None
        self._trusted_at = now if trusted else None
        return trusted

    def _refuse(self, dataset: Dataset, group: str, items: Mapping[str, Item | None]) -> None:
        """Raises NotFoundError for a group without a reading."""
        name = group_name(group)
        if items.get(group) is not None or self._lookup.is_known(dataset, group):
            raise NotFoundError(f"group {name!r} of dataset {dataset.name} has no record", hint="all of them were deleted")
        known = [group_name(other) for other in self._lookup.groups(dataset)]
        raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, known))

    def _rows(self, dataset: Dataset, items: dict[str, Item | None], now: datetime) -> list[dict[str, Any]]:
        known = {group: item for group, item in items.items() if item is not None and _usable(dataset, item)}
        rows = {group: _row(dataset, group, item) for group, item in known.items() if not item.get("none")}
        rows |= self._resolved(dataset, [group for group in items if group not in known], now)
        return [rows[group] for group in sorted(rows, key=group_order)]

    def _resolved(self, dataset: Dataset, groups: Sequence[str], now: datetime) -> dict[str, dict[str, Any]]:
        """From raw rows, of every tier, where the item does not know."""
        if not groups:
            return {}
        tables = self._engine().last(dataset, groups, now)
        return {group: _as_live(dataset, row) for group, table in tables.items() for row in table.to_pylist()}


def _usable(dataset: Dataset, item: Item) -> bool:
    """Whether an item knows its values, or that there are none.

    They must be of the declared types: one of a former configuration may hold others.
    """
    if item.get("stale"):
        return False
    if item.get("none"):
        return True
    fields: dict[str, Any] = item["fields"]
    return all(type(fields[name]) in TYPES[field.type] for name, field in dataset.fields.items() if name in fields)


def _row(dataset: Dataset, group: str, item: Item) -> dict[str, Any]:
    fields: dict[str, Any] = item["fields"]
    kept = set(fields) - set(dataset.fields) if dataset.unknown_fields == "keep" else set()
    keys = dataset.keys | {key: key for key in sorted(kept) if key not in dataset.keys}
    ref_time = item.get("ref_time")
    return {
        **dict(zip(dataset.group_by, split_group(group), strict=True)),
        "valid_time": from_iso(item["valid_time"]),
        "ref_time": None if ref_time is None else from_iso(ref_time),
        **{name: _value(dataset, key, fields.get(key)) for name, key in keys.items()},
    }


def _as_live(dataset: Dataset, row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table as the live items give it: times in UTC (pyarrow's carry a zone of another class), integers as such."""
    found = {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}
    wide = [name for name, key in dataset.keys.items() if dataset.fields[key].wide and row[name] is not None]
    return found | {name: int(row[name]) for name in wide}


def _value(dataset: Dataset, key: str, value: Any) -> Any:
    """As the column of a query would give it: a double of a float field, a decimal with its scale, a time of a timestamp."""
    declared = dataset.fields.get(key)
    if value is None:
        return None
    if declared is None:
        return float(value) if isinstance(value, Decimal) else value
    match declared.type:
        case "float":
            return float(value)
        case "decimal":
            return Decimal(value).quantize(Decimal(1).scaleb(-declared.scale), context=_WIDE)
        case "timestamp":
            return from_iso(value)
        case _:
            return value
