"""A stage over an emulator's services: tables with streams, a bucket, a queue, a Kinesis stream, and the functions' own code."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from tesseract.config.cache import Configs
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.processing import archiver, collector, exporter, stream
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.collector import Task
from tesseract.processing.latest import LatestProcessor
from tesseract.storage.catalog import Catalog
from tesseract.storage.codec import item_from_wire
from tesseract.storage.services import SqsQueue
from tesseract.store import Store
from tesseract.utils.time_utils import to_micros, utc_now
from tests.support import backends
from tests.support.archive_world import LAPTOP, MemoryExports
from tests.support.real_stream import RealStream

Event = dict[str, Any]
PATIENCE = 30  # seconds until a record that was written must have come through a stream


class RealStage:
    """A new stage at an endpoint. Exports alone have a stand-in, made of the table's stream: no emulator has them."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.began = utc_now().replace(microsecond=0) - timedelta(seconds=1)
        self.backend = backends.stage(endpoint)
        self.catalog = Catalog(self.backend.catalog, self.backend.objects)
        self.store = Store(self.backend, "it")
        self.configs = Configs(self.catalog, utc_now)
        self.service = Service(self.configs, Writer(self.backend.raw, self.backend.live, utc_now), self.backend.objects, utc_now)
        self._sqs = backends.client("sqs", endpoint)
        self.queue = SqsQueue(self._sqs, self._sqs.create_queue(QueueName=f"work-{uuid.uuid4().hex[:8]}")["QueueUrl"])
        self.exports = MemoryExports(self.backend, self.began)
        self._stream = RealStream(endpoint, self.backend.raw.name)  # type: ignore[attr-defined]

    # Kinesis --------------------------------------------------------------------------------------------------------

    def kinesis(self, payloads: list[tuple[str, bytes]]) -> Iterator[Event]:
        """Put (partition key, data) into a new stream of two shards; the Lambda events that its shards give."""
        client = backends.client("kinesis", self._endpoint)
        name = f"records-{uuid.uuid4().hex[:8]}"
        client.create_stream(StreamName=name, ShardCount=2)
        client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        for key, data in payloads:
            client.put_record(StreamName=name, PartitionKey=key, Data=data)
        for shard in client.list_shards(StreamName=name)["Shards"]:
            place = client.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
            records = client.get_records(ShardIterator=place["ShardIterator"])["Records"]
            if records:
                yield {"Records": [_kinesis_record(shard["ShardId"], name, record) for record in records]}

    # the raw table's stream -----------------------------------------------------------------------------------------

    def follow(self, wanted: int) -> int:
        """Give the stream's new records, at least `wanted` of them, to both stream functions' code and to the exports' log."""
        deadline, seen = time.monotonic() + PATIENCE, 0
        aggregates = AggregateProcessor(self.backend.raw, self.backend.live, self.catalog, self.configs, utc_now)
        latest = LatestProcessor(self.backend.raw, self.backend.live, self.catalog, self.configs, utc_now)
        while seen < wanted and time.monotonic() < deadline:
            for event in self._stream.events():
                seen += len(event["Records"])
                for process in (aggregates.process, latest.process):
                    answer = stream.run(event, process, self.configs, self.backend.objects)
                    assert answer == {"batchItemFailures": []}
                for record in event["Records"]:
                    item = item_from_wire(record["dynamodb"]["NewImage"])
                    self.exports.log.append((to_micros(utc_now()), item["pk"], item["sk"], item))
        return seen

    # the archive ----------------------------------------------------------------------------------------------------

    def archive(self) -> int:
        """One export window over all that the stream has told, its tasks through the queue; the rows that were committed."""
        now = utc_now() + timedelta(seconds=2)
        exporter.run(self.catalog, self.exports, self.backend.live, LAPTOP, now, force=True)
        collector.collect_all(self.catalog, self.backend.objects, self.exports, self.queue, now)
        rows = 0
        while True:
            answer = self._sqs.receive_message(QueueUrl=self.queue.url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            if not answer.get("Messages"):
                return rows
            for message in answer["Messages"]:
                rows += archiver.run(self.catalog, self.backend.objects, msgspec.json.decode(message["Body"], type=Task), now).rows
                self._sqs.delete_message(QueueUrl=self.queue.url, ReceiptHandle=message["ReceiptHandle"])


def _kinesis_record(shard: str, stream_name: str, record: Event) -> Event:
    return {
        "eventID": f"{shard}:{record['SequenceNumber']}",
        "eventSourceARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream_name}",
        "kinesis": {
            "sequenceNumber": record["SequenceNumber"],
            "partitionKey": record["PartitionKey"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
        },
    }
