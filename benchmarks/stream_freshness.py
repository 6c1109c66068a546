"""From a put to the changed aggregate on a laptop cloud, whose batches have no window: how long until a dashboard sees it.

A laptop cloud of its own is deployed and taken down again. Readings are put one at a time by direct invoke; the hour's item is read
from DynamoDB until it has one record more. The clock starts when the put is called; how long its answer took is told.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

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
    """p50 and p99."""
    with laptop() as store:
        apply(store.catalog, stream_samples.dataset(), utc_now())
        start = stream_samples.last_hour()
        _one(store, start, 0)  # the functions start
        answers, delays = zip(*[_one(store, start, number) for number in range(1, PUTS + 1)], strict=True)
    ordered = sorted(delays)
    said = f"{PUTS} puts, batch window 0 s; answered after {_ms(statistics.median(answers))}, all seen after {_ms(ordered[-1])}"
    yield Figure("put to changed aggregate, p50", statistics.median(ordered), "s", said)
    yield Figure("put to changed aggregate, p99", ordered[int(PUTS * 0.99)], "s", said)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _one(store: Store, start: datetime, number: int) -> tuple[float, float]:
    """Seconds until a put is answered, and until its aggregate has it."""
    at = start + timedelta(seconds=number)
    key = live_key("plant", GROUP, HOURLY, at)
    called = time.monotonic()
    store.put("plant", [{"machine": GROUP, "at": iso_micros(at), **dict.fromkeys(stream_samples.FIELDS, number / 4)}])
    answered = time.monotonic()
    while True:
        item = store.backend.live.get(key)
        seen = time.monotonic()
        if item is not None and item.get("rows", 0) > number:
            return answered - called, seen - called
        if seen - called > PATIENCE:
            raise RuntimeError(f"{number} puts, and after {PATIENCE:.0f} s the item is {item}")
        time.sleep(PAUSE)
