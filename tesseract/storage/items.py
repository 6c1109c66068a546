"""Raw items ↔ records. A raw item is a function of (record, configuration version, UTC day of receipt), of nothing else.

DynamoDB writes no stream record for a put that changes nothing, so a record that is sent twice costs one write unit and is
counted once. Hence no receive time and no random id in here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import DAILY, HOURLY
from tesseract.model import Item, RawImage, Record
from tesseract.storage.codec import Wire, from_wire
from tesseract.storage.keys import raw_key
from tesseract.utils.time_utils import EPOCH, MAX_TIME, from_iso, iso_micros

HOLD = timedelta(days=2)  # a record of any age stays at least this long, so that its export finds it


def expires_at(valid_time: datetime, ttl: timedelta, now: datetime) -> int:
    """When a raw item may go, in seconds since 1970: by its own age, or by the hold where it came very late.

    Rounded up to the hour and to midnight, so that the same record received twice on one day is the same item.
    """
    return max(_ceil_hour(valid_time, ttl), _seconds(_ceil(now + HOLD, DAILY)))


def raw_item(dataset: Dataset, record: Record, now: datetime) -> Item:
    """The item that `record` becomes in the buffer."""
    pk, sk = raw_key(dataset.name, record.group, record.valid_time)
    item: Item = {
        "pk": pk,
        "sk": sk,
        "fields": record.fields,
        "expires_at": expires_at(record.valid_time, dataset.buffer_ttl, now),
        "config_version": dataset.version,
    }
    if record.ref_time is not None:
        item["ref_time"] = iso_micros(record.ref_time)
    if record.deleted:
        item["deleted"] = True
    return item


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
    """The records of a raw item: one today, but readers must not count on it."""
    ref_time: Any = item.get("ref_time")
    return [
        Record(
            group=group,
            valid_time=from_iso(item["sk"]),
            ref_time=None if ref_time is None else from_iso(ref_time),
            fields=item["fields"],
            deleted=bool(item.get("deleted", False)),
        )
    ]


def _ceil(moment: datetime, unit: Any) -> datetime:
    start: datetime = unit.floor(moment)
    return start if start == moment else unit.end(start)


def _ceil_hour(valid_time: datetime, ttl: timedelta) -> int:
    try:
        return _seconds(_ceil(valid_time + ttl, HOURLY))
    except OverflowError:
        return _seconds(MAX_TIME)


def _seconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)
