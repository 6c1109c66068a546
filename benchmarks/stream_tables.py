"""A stage's tables on Amazon's DynamoDB Local, every call counted: its operation, its table, the capacity that it says it took."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import boto3

from benchmarks import stream_samples
from benchmarks.stream_samples import Event
from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.model import Item
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.stream import run
from tesseract.storage.catalog import Catalog
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.memory import MemoryObjects
from tesseract.storage.wire import Wire
from tesseract.utils.time_utils import utc_now
from tests.support import dynamodb_local

REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
READS = ("GetItem", "BatchGetItem", "Query")


class Metered(Wire):
    """Asks with every call for the capacity that it takes. `units` and `items` are by (table, whether it reads)."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, REGION)
        self.units: Counter[tuple[str, bool]] = Counter()
        self.items: Counter[tuple[str, bool]] = Counter()

    def call(self, operation: str, payload: dict[str, Any], until: datetime | None = None) -> Any:
        answer = super().call(operation, {**payload, "ReturnConsumedCapacity": "TOTAL"}, until)
        found, reads = answer["ConsumedCapacity"], operation in READS
        for part in found if isinstance(found, list) else [found]:
            self.units[part["TableName"], reads] += part["CapacityUnits"]
        for name, requests in payload.get("RequestItems", {payload.get("TableName"): [None]}).items():
            self.items[name, reads] += len(requests["Keys"] if reads and isinstance(requests, dict) else requests)
        return answer


@dataclass
class Stage:
    """New tables of one dataset; the two stream functions over them."""

    wire: Metered
    raw: DynamoTable
    live: DynamoTable
    handlers: dict[str, Any] = field(default_factory=dict)

    def aggregate(self, event: Event) -> None:
        """The aggregate function's whole work on one event."""
        assert self.handlers["aggregates"](event) == {"batchItemFailures": []}

    def latest(self, event: Event) -> None:
        """The work of the other one."""
        assert self.handlers["latest"](event) == {"batchItemFailures": []}

    def put(self, items: list[Item]) -> None:
        """What ingestion writes."""
        assert not self.raw.put_many(items)


@contextmanager
def emulator() -> Iterator[str]:
    """The endpoint of a DynamoDB Local of our own."""
    os.environ.update({name: os.environ.get(name, value) for name, value in KEYS.items()})
    with dynamodb_local.running() as endpoint:
        yield endpoint


def stage(endpoint: str, name: str) -> Stage:
    """New tables, named after `name`, with the dataset of stream_samples."""
    wire = Metered(endpoint)
    raw, live, other = (DynamoTable(wire, create(endpoint, f"{name}-{role}")) for role in ("raw", "live", "catalog"))
    catalog, objects = Catalog(other, MemoryObjects()), MemoryObjects()
    apply(catalog, stream_samples.dataset(), utc_now())
    configs = Configs(catalog, utc_now)
    made = Stage(wire, raw, live)
    for function, kind in (("aggregates", AggregateProcessor), ("latest", LatestProcessor)):
        process = kind(raw, live, catalog, configs, utc_now).process
        made.handlers[function] = lambda event, process=process: run(event, process, configs, objects)
    return made


def create(endpoint: str, name: str) -> str:
    """A table with our keys."""
    client(endpoint).create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return name


def client(endpoint: str) -> Any:
    """boto3's own client of it."""
    return boto3.client("dynamodb", endpoint_url=endpoint, region_name=REGION)
