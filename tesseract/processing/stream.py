"""A batch of the raw table's stream, from the event to the answer. Both stream functions run through here.

A record that can never be read is put in quarantine before anything is acknowledged, since Lambda's own destinations get it only
after the shard has moved on; its periods are marked stale by the aggregates. So is one of a dataset that nobody has configured,
which belongs to no period: somebody else wrote it, and it must not hold up the shard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from tesseract.config.cache import Configs
from tesseract.errors import DamagedError, UnknownDataset
from tesseract.model import Change
from tesseract.processing.changes import decode_batch
from tesseract.storage.base import Objects
from tesseract.storage.quarantine import STREAM, from_stream, write
from tesseract.utils.time_utils import EPOCH

logger = logging.getLogger(__name__)


def run(
    event: dict[str, Any],
    process: Callable[..., str | None],
    configs: Configs,
    objects: Objects,
) -> dict[str, Any]:
    """The answer to Lambda: the first sequence number that must come again, or none.

    Lambda rewinds to the lowest failed record, so only that one is named.
    """
    batch = decode_batch(event)
    known, damaged = _configured(batch.changes, configs)
    foreign = {change.sequence for change in batch.changes if change.dataset not in known | damaged}
    poison = [from_stream(record, "the item cannot be read: it is no record of a dataset") for record in batch.poison]
    for record in event["Records"]:
        if record["dynamodb"]["SequenceNumber"] in foreign:
            poison.append(from_stream(record, "nobody has configured the dataset of the item's key"))
    write(objects, STREAM, poison)
    held = [change for change in batch.changes if change.dataset in damaged]
    own = [change for change in batch.changes if change.dataset in known]
    first = process(own, held) if held else process(own)
    lowest = min([*(change.sequence for change in held), *([] if first is None else [first])], key=int, default=None)
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}


def lag(event: dict[str, Any], now: datetime) -> int:
    """How long ago the oldest record of a batch was written, in seconds."""
    created = min((record["dynamodb"]["ApproximateCreationDateTime"] for record in event["Records"]), default=None)
    return 0 if created is None else max(0, int((now - EPOCH).total_seconds() - created))


def _configured(changes: Sequence[Change], configs: Configs) -> tuple[set[str], set[str]]:
    """The datasets of a batch that are configured, and those whose configuration does not decode.

    Changes of the latter come again until it is mended, for as long as the stream keeps them; the others of the batch go on.
    """
    newest: dict[str, int] = {}
    for change in changes:
        newest[change.dataset] = max(newest.get(change.dataset, 0), change.new.config_version if change.new else 0)
    known, damaged = set(), set()
    for name, version in newest.items():
        try:
            configs.get(name, version)
            known.add(name)
        except DamagedError as error:
            logger.error("changes are kept back: %s", error)
            damaged.add(name)
        except UnknownDataset:
            continue
    return known, damaged
