"""Raw items ↔ records. A raw item is a function of (record, configuration version, UTC day of receipt), of nothing else.

DynamoDB writes no stream record for a put that changes nothing, so a record that is sent twice costs one write unit and is
counted once. Hence no receive time and no random id in here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.model import Item, RawImage, Record
from tesseract.storage.codec import Wire, from_wire
from tesseract.storage.keys import history_key, history_valid_time, is_history, raw_key
from tesseract.utils.time_utils import EPOCH, MAX_TIME, from_iso, iso_micros

HOLD = timedelta(days=2)  # a record of any age stays at least this long, so that its export finds it
_LAST = (MAX_TIME - EPOCH) // timedelta(seconds=1)
TYPES: dict[str, set[type]] = {  # how an item holds the values of each type of a field
    "int": {int}, "float": {int, Decimal}, "decimal": {int, Decimal}, "string": {str}, "bool": {bool}, "timestamp": {str},
}  # fmt: skip


def expires_at(valid_time: datetime, ttl: timedelta, now: datetime) -> int:
    """When a raw item may go, in seconds since 1970: by its own age, or by the hold where it came very late.

    Rounded up to the hour and to midnight, so that the same record received twice on one day is the same item.
    """
    aged, held = _ceil(valid_time - EPOCH + ttl, 3600), _held_until(now)
    latest = aged if aged > held else held
    return latest if latest < _LAST else _LAST


def raw_item(dataset: Dataset, record: Record, now: datetime) -> Item:
    """The item that `record` becomes in the buffer."""
    pk, sk = raw_key(dataset.name, record.group, record.valid_time)
    item: Item = {
        "pk": pk,
        "sk": sk,
        "fields": record.fields,
        "expires_at": expires_at(record.valid_time, _hours(dataset.buffer_ttl_hours), now),
        "config_version": dataset.version,
    }
    if record.ref_time is not None:
        item["ref_time"] = iso_micros(record.ref_time)
    if record.deleted:
        item["deleted"] = True
    return item


def history_item(dataset: Dataset, record: Record, now: datetime) -> Item:
    """The item that keeps `record` as a revision, whatever becomes the current one: one per valid time and ref time."""
    pk, sk = history_key(dataset.name, record.group, record.valid_time, record.ref_time)
    return raw_item(dataset, record, now) | {"pk": pk, "sk": sk}


def raw_image(wire: dict[str, Wire]) -> RawImage:
    """A stream image or a wire item as what the processors need of it."""
    ref_time = wire.get("ref_time")
    return RawImage(
        fields={name: from_wire(value) for name, value in wire["fields"]["M"].items()},
        ref_time=None if ref_time is None else ref_time["S"],
        deleted=bool(wire.get("deleted", {}).get("BOOL", False)),
        expires_at=int(wire["expires_at"]["N"]),
        config_version=int(wire["config_version"]["N"]),
    )


def records_of(item: Item, group: str) -> list[Record]:
    """The records of a raw item, current or a revision kept: one today, but readers must not count on it."""
    ref_time: Any = item.get("ref_time")
    return [
        Record(
            group=group,
            valid_time=history_valid_time(item["sk"]) if is_history(item["sk"]) else from_iso(item["sk"]),
            ref_time=None if ref_time is None else from_iso(ref_time),
            fields=item["fields"],
            deleted=bool(item.get("deleted", False)),
        )
    ]


# the same for all records of a call: remembered
_hours = lru_cache(maxsize=64)(lambda hours: timedelta(hours=hours))


@lru_cache(maxsize=8)
def _held_until(now: datetime) -> int:
    return _ceil(now - EPOCH + HOLD, 86_400)


def _ceil(since: timedelta, unit: int) -> int:
    """A time since 1970 in seconds, rounded up to a multiple of `unit` seconds."""
    seconds = since.days * 86_400 + since.seconds + (since.microseconds > 0)
    return -(-seconds // unit) * unit
