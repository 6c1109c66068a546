"""Latest values: one GetItem for a group, a few Queries for all. Loads pyarrow only where an item is stale or absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.model import Item
from tesseract.query.catalog import Lookup, group_name, group_order, nearest
from tesseract.storage.base import Table
from tesseract.storage.keys import LATEST_SHARDS, latest_key, latest_pk, split_group
from tesseract.utils.time_utils import from_iso

if TYPE_CHECKING:
    from tesseract.query.engine import Engine


class Latest:
    """Reads the latest items of a stage. `engine` makes the query engine, and is called only where one is needed."""

    def __init__(self, live: Table, lookup: Lookup, engine: Callable[[], Engine]) -> None:
        self._live, self._lookup, self._engine = live, lookup, engine

    def one(self, dataset: Dataset, group: str, now: datetime) -> dict[str, Any]:
        """The newest reading of a group. Raises NotFoundError where it has none."""
        item = self._live.get(latest_key(dataset.name, group))
        rows = self._rows(dataset, {group: item}, now)
        if rows:
            return rows[0]
        name = group_name(group)
        if item is not None or self._lookup.is_known(dataset, group):
            raise NotFoundError(f"group {name!r} of dataset {dataset.name} has no record", hint="all of them were deleted")
        known = [group_name(other) for other in self._lookup.groups(dataset)]
        raise NotFoundError(f"dataset {dataset.name} has no group {name!r}", hint=nearest(name, known))

    def all(self, dataset: Dataset, now: datetime) -> list[dict[str, Any]]:
        """The newest reading of every group, in the order of groups; a group without a visible record has none."""
        items: dict[str, Item | None] = dict.fromkeys(self._lookup.groups(dataset))
        for shard in range(LATEST_SHARDS):
            items |= {item["sk"]: item for item in self._live.query(latest_pk(dataset.name, shard))}
        return self._rows(dataset, items, now)

    def _rows(self, dataset: Dataset, items: dict[str, Item | None], now: datetime) -> list[dict[str, Any]]:
        rows = {group: _row(dataset, group, item) for group, item in items.items() if item is not None and not item.get("stale")}
        rows |= self._resolved(dataset, [group for group in items if group not in rows], now)
        return [rows[group] for group in sorted(rows, key=group_order)]

    def _resolved(self, dataset: Dataset, groups: Sequence[str], now: datetime) -> dict[str, dict[str, Any]]:
        """From raw rows, of every tier, where the item does not know."""
        if not groups:
            return {}
        tables = self._engine().last(dataset, groups, now)
        return {group: _in_utc(row) for group, table in tables.items() for row in table.to_pylist()}


def _row(dataset: Dataset, group: str, item: Item) -> dict[str, Any]:
    fields: dict[str, Any] = item["fields"]
    names = [*dataset.fields, *sorted(set(fields) - set(dataset.fields))]
    ref_time = item.get("ref_time")
    return {
        **dict(zip(dataset.group_by, split_group(group), strict=True)),
        "valid_time": from_iso(item["valid_time"]),
        "ref_time": None if ref_time is None else from_iso(ref_time),
        **{name: _value(dataset, name, fields.get(name)) for name in names},
    }


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """Times as the live items give them: pyarrow's carry a zone of another class."""
    return {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}


def _value(dataset: Dataset, name: str, value: Any) -> Any:
    """As the column of a query would give it: a number of a float field is a double."""
    declared = dataset.fields.get(name)
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if number and (isinstance(value, Decimal) or (declared is not None and declared.type == "float")):
        return float(value)
    return value
