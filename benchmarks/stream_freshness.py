"""From a put to the changed aggregate on a laptop cloud, whose batches have no window: how long until a dashboard sees it.

A laptop cloud of its own is deployed and taken down again. Readings are put one at a time by HTTP; the hour's item is read from
DynamoDB until it has one record more. The clock starts when the put is acknowledged.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import timedelta

from benchmarks import stream_samples
from benchmarks.figures import Figure
from benchmarks.ingest_sustained import laptop
from tesseract.config.manager import apply
from tesseract.config.tiers import HOURLY
from tesseract.storage.keys import live_key
from tesseract.store import Store
from tesseract.utils.time_utils import iso_micros, utc_now

PUTS = 120
PAUSE = 0.005  # seconds between reads
PATIENCE = 60.0
GROUP = "m00000"


def run() -> Iterator[Figure]:
    """p50 and p99, and what is left of it where nothing is to be done: the way of an answer."""
    with laptop() as store:
        apply(store.catalog, stream_samples.dataset(), utc_now())
        _one(store, 0)  # the functions start
        delays = sorted(_one(store, number) for number in range(1, PUTS + 1))
    said = f"{PUTS} puts, batch window 0 s, from the put's answer; least {delays[0]:.2f} s, most {delays[-1]:.2f} s"
    yield Figure("put to changed aggregate, p50", statistics.median(delays), "s", said)
    yield Figure("put to changed aggregate, p99", delays[int(len(delays) * 0.99)], "s", said)


def _one(store: Store, number: int) -> float:
    at = stream_samples.last_hour() + timedelta(seconds=number)
    key = live_key("plant", GROUP, HOURLY, at)
    store.put("plant", [{"machine": GROUP, "at": iso_micros(at), **dict.fromkeys(stream_samples.FIELDS, number / 4)}])
    acknowledged = time.monotonic()
    while True:
        item = store.backend.live.get(key)
        waited = time.monotonic() - acknowledged
        if item is not None and item.get("rows", 0) > number:
            return waited
        if waited > PATIENCE:
            raise RuntimeError(f"{number} puts, and after {PATIENCE:.0f} s the item is {item}")
        time.sleep(PAUSE)
