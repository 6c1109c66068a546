"""Two producers at 1,000 records a second each for a minute, by HTTP into two datasets of a laptop cloud: how late, is any lost.

A laptop cloud of its own is deployed and taken down again. A batch of half a second's records is due every half second; its delay
is from then to its answer, what was sent again included. Every record is read back by a query at the end.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

import tesseract
from benchmarks.figures import Figure
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.chunks import Line
from tesseract.ingestion.client import settle, transport_of
from tesseract.local import cloud
from tesseract.store import Store
from tesseract.utils.time_utils import iso_micros, utc_now

SECONDS = 60
RATE = 1000  # records a second and dataset
BATCH = 500
GROUPS = 100
SENDERS = 8  # requests of one dataset under way at once
CONFIG = """
datasets:
  north: &both
    group_by: sensor
    time_field: time
    aggregations: { hourly: [count, avg, min, max], daily: [count, avg, min, max] }
    fields: { temp: float, humid: float, wind: float, pressure: float, gust: float }
  south: *both
"""


def run() -> Iterator[Figure]:
    """p50 and p99 of the batches' delays, records a second, and the records lost."""
    with laptop() as store:
        for dataset in parse(CONFIG).values():
            apply(store.catalog, dataset, utc_now())
        _warm(store)
        started = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            delays = [delay for part in pool.map(_produce, ("north", "south")) for delay in part]
        seconds = time.monotonic() - started
        found = sum(len(store.query(name, [_sensor(n) for n in range(GROUPS)])) for name in ("north", "south"))
    sent = 2 * SECONDS * RATE
    ordered = sorted(delays)
    told = f"{sent:,} records by HTTP in {seconds:.1f} s, {BATCH} a request, two datasets at once"
    yield Figure("sustained ingestion, p50 of a batch", statistics.median(ordered), "s", told)
    yield Figure("sustained ingestion, p99 of a batch", ordered[int(len(ordered) * 0.99)], "s", told)
    yield Figure("sustained ingestion, rate", sent / seconds, "records/s", f"{2 * RATE} records/s were due")
    yield Figure("sustained ingestion, lost", sent - found, "records", f"{found:,} of {sent:,} read back", bar=0)


@contextmanager
def laptop() -> Iterator[Store]:
    """A laptop cloud in a folder of its own, deployed, and taken down."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as folder:
        os.environ["TESSERACT_LOCAL_DIR"] = folder
        os.environ.pop("AWS_ENDPOINT_URL", None)
        try:
            stack = cloud.up(say=lambda line: None)
            os.environ.update(stack.environment())
            yield tesseract.connect("local")
        finally:
            cloud.down(say=lambda line: None)
            os.environ.clear()
            os.environ.update(before)


def _warm(store: Store) -> None:
    """One request, so that the functions are there."""
    for name in ("north", "south"):
        store.put(name, [{"sensor": "warm", "time": "2020-01-01T00:00:00Z", "temp": 1}])


def _produce(name: str) -> list[float]:
    transport = transport_of("http", "local")
    begin, first = time.monotonic(), utc_now().replace(microsecond=0)

    def send(number: int) -> float:
        due = begin + number * BATCH / RATE
        time.sleep(max(0.0, due - time.monotonic()))
        lines = [Line(index, _record(first, number * BATCH + index)) for index in range(BATCH)]
        report = settle(transport, name, lines)
        if report.accepted != BATCH:
            raise RuntimeError(f"{name}: {report}")
        return time.monotonic() - due

    with ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(send, range(SECONDS * RATE // BATCH)))


def _record(first: datetime, number: int) -> bytes:
    """A reading of one of the sensors; no two have one key."""
    at = first + timedelta(milliseconds=number)
    values = {name: (number * step % 997) / 8 for step, name in enumerate(("temp", "humid", "wind", "pressure", "gust"), 3)}
    return msgspec.json.encode({"sensor": _sensor(number), "time": iso_micros(at.astimezone(UTC)), **values})


def _sensor(number: int) -> str:
    return f"s{number % GROUPS:03}"


def main() -> None:
    """This figure alone."""
    for figure in run():
        print(f"{figure.name}: {figure.figure:.3f} {figure.unit} ({figure.against})")


if __name__ == "__main__":
    main()
