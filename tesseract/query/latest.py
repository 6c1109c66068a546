"""Latest values: one GetItem for a group, a few Queries for all. Loads pyarrow only where an item is stale or absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.model import Item
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.storage.base import Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.items import TYPES
from tesseract.storage.keys import LATEST_SHARDS, latest_key, latest_pk, split_group
from tesseract.utils.time_utils import from_iso

if TYPE_CHECKING:
    from tesseract.query.engine import Engine

_WIDE = Context(prec=60)  # the default one holds 28 digits


class Latest:
    """Reads the latest items of a stage. `engine` makes the query engine, and is called only where one is needed."""

    def __init__(self, live: Table, catalog: Catalog, lookup: Lookup, engine: Callable[[], Engine]) -> None:
        self._live, self._catalog, self._lookup, self._engine = live, catalog, lookup, engine

    def one(self, dataset: Dataset, group: str, now: datetime) -> dict[str, Any]:
        """The newest reading of a group. Raises NotFoundError where it has none."""
        trusted = self._trusted()
        item = self._live.get(latest_key(dataset.name, group))
        rows = self._rows(dataset, {group: item} if trusted else {group: None}, now)
        if rows:
            return rows[0]
        name = group_name(group)
        if item is not None or self._lookup.is_known(dataset, group):
            raise NotFoundError(f"group {name!r} of dataset {dataset.name} has no record", hint="all of them were deleted")
        known = [group_name(other) for other in self._lookup.groups(dataset)]
        raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, known))

    def all(self, dataset: Dataset, now: datetime) -> list[dict[str, Any]]:
        """The newest reading of every group, in the order of groups; a group without a visible record has none."""
        trusted = self._trusted()
        items: dict[str, Item | None] = dict.fromkeys(self._lookup.groups(dataset))
        for shard in range(LATEST_SHARDS):
            items |= {item["sk"]: item for item in self._live.query(latest_pk(dataset.name, shard))}
        return self._rows(dataset, items if trusted else dict.fromkeys(items), now)

    def _trusted(self) -> bool:
        """Whether items count at all: not while the stream may have lost changes. To be read before them."""
        return self._catalog.outage() is None

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
