"""A batch of the raw table's stream, from the event to the answer. Both stream functions run through here.

A record that can never be read is put in quarantine before anything is acknowledged, since Lambda's own destinations get it only
after the shard has moved on; its periods are marked stale by the aggregates. So is one of a dataset that nobody has configured,
which belongs to no period: somebody else wrote it, and it must not hold up the shard.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from tesseract.config.manager import Configs
from tesseract.model import Change
from tesseract.processing.changes import decode_batch
from tesseract.storage.base import Objects
from tesseract.storage.keys import quarantine_object
from tesseract.utils.time_utils import iso_day


def run(
    event: dict[str, Any],
    process: Callable[[list[Change]], str | None],
    configs: Configs,
    objects: Objects,
    clock: Callable[[], datetime],
) -> dict[str, Any]:
    """The answer to Lambda: the first sequence number that must come again, or none.

    Lambda rewinds to the lowest failed record, so only that one is named.
    """
    batch = decode_batch(event)
    known = {change.dataset for change in batch.changes if configs.knows(change.dataset)}
    foreign = {change.sequence for change in batch.changes if change.dataset not in known}
    poison = batch.poison + [record for record in event["Records"] if record["dynamodb"]["SequenceNumber"] in foreign]
    for record in poison:  # an object each, by its number: one that comes again is written again, not twice
        name = f"stream-{record['dynamodb']['SequenceNumber']}"
        objects.put(quarantine_object("_stream", iso_day(clock()), name), msgspec.json.encode(record) + b"\n")
    lowest = process([change for change in batch.changes if change.dataset in known])
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}
