"""The HTTP handler whole, with the network stubbed, against a plain handler that hands the same records to boto3's batch_writer.

Both get the same gzipped event, sign every request, and are told by a stub that all items are written. The plain one only decodes:
it checks nothing.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse

from benchmarks import samples
from benchmarks.figures import Figure, medians
from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset
from tesseract.config.manager import apply
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.catalog import Catalog
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.storage.wire import Wire
from tesseract.utils.time_utils import utc_now

ROUNDS = 5
RECORDS = 2000
WRITTEN = b'{"UnprocessedItems":{}}'
Event = dict[str, Any]


def run() -> Iterator[Figure]:
    """Both example data sets, one request of records each."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    for name, (dataset, lines) in samples.both().items():
        event = _event(name, lines[:RECORDS])
        count = len(lines[:RECORDS])
        ours, theirs = medians(ROUNDS, _timed(_handler(dataset), event), _timed(_plain(dataset), event))
        rates = f"boto3 batch_writer {count / theirs:,.0f} records/s, ours {count / ours:,.0f}/s, validation included"
        yield Figure(f"HTTP handler, network stubbed: {name}", theirs / ours, "×", rates, bar=3, more_is_better=True)


def _event(name: str, lines: list[bytes]) -> Event:
    return {
        "version": "2.0",
        "rawPath": f"/datasets/{name}/records",
        "pathParameters": {"dataset": name},
        "requestContext": {"http": {"method": "POST", "path": f"/datasets/{name}/records"}},
        "headers": {"content-type": "application/x-ndjson", "content-encoding": "gzip"},
        "body": base64.b64encode(gzip.compress(b"\n".join(lines))).decode(),
        "isBase64Encoded": True,
    }


def _handler(dataset: Dataset) -> Callable[[Event], None]:
    """Our handler over a wire whose connections answer at once."""
    wire = Wire("http://127.0.0.1:1", "us-east-1")
    wire._session = SimpleNamespace(send=lambda request: SimpleNamespace(status_code=200, content=WRITTEN))
    catalog = Catalog(MemoryTable("catalog"), MemoryObjects())
    apply(catalog, dataset, utc_now())
    writer = Writer(DynamoTable(wire, "raw"), DynamoTable(wire, "live"), utc_now)
    service = Service(Configs(catalog, utc_now), writer, MemoryObjects(), utc_now)

    def handle(event: Event) -> None:
        answer = service.handle(event, 60)
        assert answer["statusCode"] == 200, answer

    return handle


def _plain(dataset: Dataset) -> Callable[[Event], None]:
    """What a handler without us would do."""
    client_of = boto3.resource("dynamodb", region_name="us-east-1", endpoint_url="http://127.0.0.1:1")
    client_of.meta.client.meta.events.register("before-send.dynamodb", lambda **_: _answer())
    table = client_of.Table("raw")

    def handle(event: Event) -> None:
        body = gzip.decompress(base64.b64decode(event["body"]))
        with table.batch_writer(overwrite_by_pkeys=["pk", "sk"]) as batch:
            for line in body.splitlines():
                record = json.loads(line, parse_float=Decimal)
                group, at = record.pop(dataset.group_by[0]), record.pop(dataset.time_field)
                batch.put_item({"pk": f"{dataset.name}#{group}#{at[:10]}", "sk": at, "fields": record})

    return handle


def _answer() -> AWSResponse:
    raw = io.BytesIO(WRITTEN)
    raw.stream = lambda: iter([WRITTEN])  # type: ignore[attr-defined]
    return AWSResponse("http://127.0.0.1:1", 200, {"content-type": "application/x-amz-json-1.0"}, raw)


def _timed(handle: Callable[[Event], None], event: Event) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        handle(event)
        return time.perf_counter() - started

    return measure
