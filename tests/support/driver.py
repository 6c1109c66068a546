"""A stream driver: a DynamoDB table's stream and Lambda's event source mapping, as AWS documents them. No emulator has these.

Rules, with the page of the AWS documentation that states each:

- a write that changes nothing makes no stream record; records carry old and new images (DynamoDB, "Change data capture for DynamoDB
  Streams");
- all changes of one item are in one shard lineage, in order; with an LSI, all of one item collection (ibid.; DynamoDB, "Item
  collections in Local Secondary Indexes");
- a batch comes from one shard, in order; when it fails, it comes again whole until it succeeds or expires, and the shard waits
  (Lambda, "Process DynamoDB records with Lambda": polling and batching streams);
- with ReportBatchItemFailures, the batch is taken up again at the lowest sequence number that was returned; an unknown number or a
  raised exception fails the batch whole (Lambda, "Configuring partial batch response with DynamoDB and Lambda");
- with bisect on error, a failed batch is split in two before it is tried again (Lambda, "Create an event source mapping");
- every record may be delivered more than once (Lambda, "How Lambda processes records from stream and queue-based event sources").
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from tesseract.storage.base import Condition, Key
from tesseract.storage.codec import item_to_wire
from tesseract.storage.memory import MemoryTable
from tesseract.utils.time_utils import EPOCH

Event = dict[str, Any]
Handler = Callable[[Event], Event]
LABEL = "2026-01-01T00:00:00.000"


class StreamedTable(MemoryTable):
    """A table in memory that writes a stream record for every change, into a shard by partition key."""

    def __init__(self, clock: Callable[[], datetime], shards: int = 2) -> None:
        super().__init__("raw")
        self.clock = clock
        self.shards: list[list[Event]] = [[] for _ in range(shards)]
        self.label = LABEL
        self._sequence = 0

    def put(self, item: Event, condition: Condition | None = None, until: datetime | None = None) -> None:
        with self._lock:  # writers are several threads
            old = self.get((item["pk"], item["sk"]))
            super().put(item, condition, until)
            new = self.get((item["pk"], item["sk"]))
            if new != old:
                self._record("INSERT" if old is None else "MODIFY", (item["pk"], item["sk"]), old, new)

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        old = self.get(key)
        super().delete(key, condition)
        if old is not None:
            self._record("REMOVE", key, old, None)

    def expire(self, now: datetime) -> None:
        """What TTL does, some time after `expires_at`."""
        for item in list(self.items()):
            if item["expires_at"] <= (now - EPOCH) / timedelta(seconds=1):
                self.delete((item["pk"], item["sk"]))

    def _record(self, name: str, key: Key, old: Event | None, new: Event | None) -> None:
        self._sequence += 1
        body: Event = {
            "ApproximateCreationDateTime": (self.clock() - EPOCH) // timedelta(seconds=1),
            "Keys": {"pk": {"S": key[0]}, "sk": {"S": key[1]}},
            "SequenceNumber": str(99 * 10**18 + self._sequence * 10),  # crosses a power of ten: text order would be wrong
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        body |= {"OldImage": item_to_wire(old)} if old else {}
        body |= {"NewImage": item_to_wire(new)} if new else {}
        arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/raw/stream/{self.label}"
        record = {"eventName": name, "eventSource": "aws:dynamodb", "eventSourceARN": arn, "dynamodb": body}
        self.shards[crc32(key[0].encode()) % len(self.shards)].append(record)


class Mapping:
    """The event source mapping of one function: where each shard's next batch begins, retries, bisection, redelivery."""

    def __init__(self, table: StreamedTable, handler: Handler, *, batch_size: int = 100, bisect: bool = True) -> None:
        self.table, self.handler, self.batch_size, self.bisect = table, handler, batch_size, bisect
        self.position = [0] * len(table.shards)
        self.size = [batch_size] * len(table.shards)
        self.invocations = 0

    def poll(self, shard: int) -> bool:
        """One invocation for one shard; whether there was anything to deliver."""
        start = self.position[shard]
        batch = self.table.shards[shard][start : start + self.size[shard]]
        if not batch:
            return False
        self.invocations += 1
        try:
            failures = self.handler({"Records": batch}).get("batchItemFailures", [])
        except Exception:
            failures = [{"itemIdentifier": None}]
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        identifiers = [failure["itemIdentifier"] for failure in failures]
        if not identifiers:
            self.position[shard], self.size[shard] = start + len(batch), self.batch_size
        elif all(identifier in numbers for identifier in identifiers):
            self.position[shard] = start + min(numbers.index(identifier) for identifier in identifiers)
        elif self.bisect:
            self.size[shard] = max(1, len(batch) // 2)
        return True

    def redeliver(self, shard: int, records: int) -> None:
        """At least once: the shard's last records come again."""
        self.position[shard] = max(0, self.position[shard] - records)

    def drain(self, most: int = 10_000) -> None:
        """Deliver until every shard is empty. Raises where a shard gets stuck."""
        for _ in range(most):
            if not any([self.poll(shard) for shard in range(len(self.position))]):
                return
        raise AssertionError(f"a shard is stuck after {most} polls at {self.position}")


class Faults:
    """Wraps a table: some calls raise before or after they have taken effect, by a seeded dice."""

    def __init__(self, table: Any, dice: random.Random, rate: float, error: Exception) -> None:
        self._table, self._dice, self._rate, self._error = table, dice, rate, error
        self.armed = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.armed and self._dice.random() < self._rate:
                raise self._error
            result = method(*arguments, **options)
            if self.armed and self._dice.random() < self._rate:
                raise self._error  # a crash after the write, before anybody knows of it
            return result

        return call
