"""A stage in memory and its ingestion: a table that throttles on demand, and every road in."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MISSION = """{"datasets": {"weather_stations": {"group_by": "station_id", "time_field": "timestamp", "buffer_ttl_hours": 168,
  "archive_schedule": {"buffer_to_daily": "P1D", "daily_to_monthly": "P1M", "monthly_to_yearly": "P1Y"},
  "aggregations": {"hourly": ["avg", "min", "max", "count"], "daily": ["avg", "min", "max", "count"]}}}}"""
PLANT = "datasets: {plant: {group_by: g, time_field: t, fields: {x: float}}}"

DATASETS = [*parse(MISSION).values(), *parse(PLANT).values()]


class Watched(MemoryTable):
    """A table that notes its writes, refuses some of them, and takes its time."""

    def __init__(self, name, world):
        super().__init__(name)
        self.world, self.throttled, self.error = world, lambda item: False, None

    def put(self, item, condition=None, until=None):
        if self.error:
            raise self.error
        self.world.writes.append((self.name, item["pk"], item["sk"]))
        super().put(item, condition, until)

    def put_many(self, items, until=None):
        items = list(items)
        left = [item for item in items if self.throttled(item)]
        super().put_many([item for item in items if item not in left])
        if left:
            self.world.now += timedelta(seconds=5)
        return left


class World:
    """A stage in memory, and its ingestion."""

    def __init__(self, *datasets, kinesis_dataset=""):
        self.now, self.writes, self.tallies = NOW, [], []
        clock = lambda: self.now
        self.raw, self.live, self.objects = Watched("raw", self), Watched("live", self), MemoryObjects()
        self.catalog = Catalog(MemoryTable("catalog"), self.objects)
        for dataset in datasets or DATASETS:
            apply(self.catalog, dataset, NOW - timedelta(days=9))
        self.configs = Configs(self.catalog, clock)
        self.service = Service(self.configs, Writer(self.raw, self.live, clock), self.objects, clock, kinesis_dataset)

    def post(self, body, dataset="plant", headers=None, encoded=None, **event):
        encoded = isinstance(body, bytes) if encoded is None else encoded
        body = base64.b64encode(body).decode() if isinstance(body, bytes) else body
        event = {"pathParameters": {"dataset": dataset}} | event
        answer = self.service.handle(
            {"version": "2.0", "requestContext": {}, "headers": headers or {}, "body": body, "isBase64Encoded": encoded, **event},
            28,
            self.tallies.append,
        )
        return answer["statusCode"], json.loads(answer["body"])

    def send(self, *records, **options):
        return self.post("\n".join(map(json.dumps, records)), **options)

    def kinesis(self, *payloads, arrived=None):
        records = [
            {
                "eventID": f"shardId-000000000003:{99 + index}",
                "kinesis": {"sequenceNumber": str(99 + index), "data": base64.b64encode(data).decode()}
                | ({} if arrived is None else {"approximateArrivalTimestamp": arrived}),
            }
            for index, data in enumerate(p if isinstance(p, bytes) else json.dumps(p).encode() for p in payloads)
        ]
        failures = self.service.handle_kinesis({"Records": records}, 28, self.tallies.append)["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def quarantine(self):
        return {
            info.key: [json.loads(line) for line in self.objects.get(info.key).splitlines()]
            for info in self.objects.list("quarantine/")
        }

    def stored(self):
        return {(item["pk"], item["sk"]): item["fields"] for item in self.raw.items()}


def zipped(body):
    """A body as gzip."""
    return gzip.compress(body, 1, mtime=0)


def reading(minute=0, x=1, **changes):
    """A record of `plant`."""
    return {"g": "a", "t": f"2026-01-05T11:{minute:02}:00Z", "x": x} | changes
