"""Events of the raw table's stream as changes. Pure: what cannot be read is answered, not raised."""

from __future__ import annotations

from typing import Any

import msgspec

from tesseract.model import Change
from tesseract.storage.items import raw_image
from tesseract.storage.keys import is_history, split_raw_key
from tesseract.utils.time_utils import to_micros

SEQUENCE_DIGITS = 40


class Batch(msgspec.Struct, frozen=True):
    """A batch of one shard, in order. `poison` holds the stream records that could not be read, as they came."""

    changes: list[Change]
    poison: list[dict[str, Any]]


def decode_batch(event: dict[str, Any]) -> Batch:
    """The changes of a Lambda event.

    Removes are dropped: TTL makes them, and a user's delete is a put of a tombstone. So are revisions kept, which no aggregate and
    no latest value may count: the function's event filter keeps them out already, where the stage has filters.
    """
    changes: list[Change] = []
    poison: list[dict[str, Any]] = []
    for record in event["Records"]:
        if record["eventName"] == "REMOVE" or _is_history(record):
            continue
        change = _decode(record)
        if change is None or change.new is None:
            poison.append(record)
        if change is not None:
            changes.append(change)
    return Batch(changes, poison)


def _is_history(record: dict[str, Any]) -> bool:
    return is_history(str(record["dynamodb"].get("Keys", {}).get("sk", {}).get("S", "")))


def _decode(record: dict[str, Any]) -> Change | None:
    """None where not even the key can be read: such a record belongs to no period."""
    body = record["dynamodb"]
    try:
        dataset, group, valid_time = split_raw_key(body["Keys"]["pk"]["S"], body["Keys"]["sk"]["S"])
    except (KeyError, ValueError):
        return None
    sequence = body["SequenceNumber"]
    try:
        old = raw_image(body["OldImage"]) if "OldImage" in body else None
        new = raw_image(body["NewImage"])
    except (KeyError, ValueError, ArithmeticError, TypeError, AttributeError):
        old = new = None
    return Change(
        dataset=dataset,
        group=group,
        time=body["Keys"]["sk"]["S"],
        at=to_micros(valid_time),
        sequence=sequence,
        watermark=f"{record['eventSourceARN'].rpartition('/')[2]}/{sequence:0>{SEQUENCE_DIGITS}}",
        created=int(body["ApproximateCreationDateTime"]),
        old=old,
        new=new,
    )
