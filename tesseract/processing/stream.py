"""A batch of the raw table's stream, from the event to the answer. Both stream functions run through here.

A record that can never be read is put in quarantine before anything is acknowledged, since Lambda's own destinations get it only
after the shard has moved on; its periods are marked stale by the aggregates.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from tesseract.model import Change
from tesseract.processing.changes import decode_batch
from tesseract.storage.base import Objects
from tesseract.storage.keys import quarantine_object
from tesseract.utils.time_utils import iso_day


def run(
    event: dict[str, Any], process: Callable[[list[Change]], str | None], objects: Objects, clock: Callable[[], datetime]
) -> dict[str, Any]:
    """The answer to Lambda: the first sequence number that must come again, or none.

    Lambda rewinds to the lowest failed record, so only that one is named.
    """
    batch = decode_batch(event)
    if batch.poison:
        first = batch.poison[0]["dynamodb"]["SequenceNumber"]
        body = b"\n".join(msgspec.json.encode(record) for record in batch.poison) + b"\n"
        objects.put(quarantine_object("_stream", iso_day(clock()), f"stream-{first}"), body)
    lowest = process(batch.changes)
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}
