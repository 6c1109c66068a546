"""Aggregates and latest values over a backend's own tables and its own stream: what arrives there is counted to the last digit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.writer import Writer
from tesseract.model import Record
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.aggregator import fold_all, shown
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.stream import run
from tesseract.storage.base import Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import latest_key, live_pk
from tesseract.storage.memory import MemoryObjects
from tesseract.utils.time_utils import from_iso, iso_micros, to_micros, utc_now
from tests.support import backends
from tests.support.real_stream import RealStream

PATIENCE = 30  # seconds
DATASET = parse("""
datasets:
  meters:
    group_by: meter
    time_field: at
    aggregations: {hourly: &all [count, sum, avg, std, min, max, first, last], daily: *all}
    fields: {kwh: {type: decimal, scale: 3}, volts: float, n: {type: int, max: 99999999999999999999999999999999999999}}
""")["meters"]


@pytest.fixture(params=backends.backends("moto", "dynamodb-local"))
def place(request) -> str:
    """The endpoint of an emulator that has streams."""
    if request.param == "endpoint":
        return str(backends.ENDPOINT)
    return str(request.getfixturevalue("moto" if request.param == "moto" else "local_endpoint"))


class Stage:
    """Three tables at an endpoint, the bucket in memory, and the stream functions' code over the raw table's stream."""

    def __init__(self, endpoint: str) -> None:
        self.raw, self.live, catalog = (backends.table(endpoint) for _ in range(3))
        objects = MemoryObjects()
        self.catalog = Catalog(catalog, objects)
        apply(self.catalog, DATASET, utc_now())
        self.configs = Configs(self.catalog, utc_now)
        self.writer = Writer(self.raw, self.live, utc_now)
        aggregates = AggregateProcessor(self.raw, self.live, self.catalog, self.configs, utc_now)
        latest = LatestProcessor(self.raw, self.live, self.catalog, self.configs, utc_now)
        processes = (aggregates.process, latest.process)
        self.functions = [lambda event, process=process: run(event, process, self.configs, objects) for process in processes]
        self.stream = RealStream(endpoint, self.raw.name)

    def put(self, *records: Record) -> None:
        dataset = self.configs.use("meters")
        assert self.writer.write(dataset, enumerate(records), utc_now() + timedelta(seconds=30)) == []

    def follow(self, dice: random.Random) -> int:
        """What is new on the stream, some of it twice; how many records it were."""
        seen = 0
        for event in self.stream.events():
            seen += len(event["Records"])
            for function in self.functions:
                for _ in range(dice.choice((1, 1, 2))):
                    assert function(event) == {"batchItemFailures": []}
        return seen


def numbers(table: Table, level: str) -> Iterator[tuple[str, int, object]]:
    for item in table.query(live_pk("meters", "m", level)):
        assert not {"stale_at", "pending"} & item.keys()
        if item["rows"]:
            yield item["sk"], item["rows"], item["fields"]


def test_live_items_follow_the_stream_to_the_last_digit(place):
    stage, dice = Stage(place), random.Random(5)
    begin = (utc_now() - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    written: dict[str, dict] = {}
    changes = 0
    for _ in range(25):
        records = []
        for minute in dice.sample(range(240), 6):
            at = begin + timedelta(minutes=minute)
            gone = iso_micros(at) in written and dice.random() < 0.3
            kwh, volts = Decimal(dice.randrange(5000)) / 1000, Decimal(repr(dice.uniform(200, 250)))
            fields = {} if gone else {"kwh": kwh, "volts": volts, "n": dice.randrange(10**37)}
            records.append(Record("m", at, None, fields, gone))
            written.pop(iso_micros(at), None)
            if not gone:
                written[iso_micros(at)] = fields
        stage.put(*records)
        changes += len(records)
        if dice.random() < 0.5:
            changes -= stage.follow(dice)
    deadline = time.monotonic() + PATIENCE
    while changes > 0 and time.monotonic() < deadline:
        changes -= stage.follow(dice)
    for level, length in (("hourly", 13), ("daily", 10)):
        configured = DATASET.level(level)
        periods: dict[str, list] = {}
        for at, fields in sorted(written.items()):
            start = f"{at[:length]}T00:00:00Z" if length == 10 else f"{at[:length]}:00:00Z"
            periods.setdefault(start, []).append((to_micros(from_iso(at)) - to_micros(from_iso(start)), fields))
        states = {start: fold_all(records) for start, records in periods.items()}
        assert list(numbers(stage.live, level)) == [(s, state.rows, shown(state, configured)) for s, state in states.items()]
    newest = max(written)
    item = stage.live.get(latest_key("meters", "m"))
    assert (item["valid_time"], item["fields"]) == (newest, written[newest])
