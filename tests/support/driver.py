"""A stream driver: a DynamoDB table's stream and Lambda's event source mapping, as AWS documents them. No emulator has these.

    table = StreamedTable(clock, shards=2)           a table whose changes go into shards (driver_stream.py)
    mapping = Mapping(table, handler, batch_size=7)  one function on its stream
    mapping.poll(shard), mapping.drain()             whole invocations, one after another
    invocation = mapping.take(shard)                 or in two steps, so that others run in between:
    mapping.settle(invocation, answer)                   it answered,
    mapping.fail(invocation, error)                      it raised,
    mapping.time_out(invocation)                         its time is up: Lambda tries again while its last calls may still land

A shard is known by its place in `table.shards`. Nothing here knows the time but `table.clock`. The rules, and the page of the AWS
documentation that states each, are in tests/unit/test_driver.py; there also, what AWS leaves open and which reading is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from tests.support.driver_answers import lowest, message
from tests.support.driver_faults import Deadline, Faults, TimedOut
from tests.support.driver_filter import OURS, matches
from tests.support.driver_stream import Event, Shard, StreamedTable

__all__ = [
    "OURS",
    "PAYLOAD",
    "Deadline",
    "Event",
    "Faults",
    "Invocation",
    "Mapping",
    "Shard",
    "StreamedTable",
    "TimedOut",
    "lowest",
]

Handler = Callable[[Event], Any]
PAYLOAD = 6 * 1024 * 1024  # bytes of an event
ENVELOPE = len(b'{"Records":[]}') - 1  # a comma goes before each record but the first


@dataclass
class Batch:
    """Records of one shard, by place, that are delivered together until they are through; how often the function failed on them."""

    places: list[int]
    failures: int = 0


@dataclass(eq=False)
class Invocation:
    """One call of the function. `left`: Lambda no longer waits for it, whatever it still does or answers."""

    shard: int
    event: Event
    state: Literal["running", "left", "over"] = "running"


@dataclass
class Reader:
    """How far a mapping is in one shard: the first place not read yet, the batches read but not through, the running invocation."""

    window: datetime
    read: int = 0
    batches: list[Batch] = field(default_factory=list)
    running: Invocation | None = None


class Mapping:
    """The event source mapping of one function, at TRIM_HORIZON, ParallelizationFactor 1, with ReportBatchItemFailures.

    `retries` and `max_age` (seconds) of -1 mean: until the records expire. `filter` holds patterns, of which a record must match
    one; without any, all are delivered. `on_failure` takes the message about each discarded batch.
    """

    def __init__(
        self,
        table: StreamedTable,
        handler: Handler,
        *,
        batch_size: int = 100,
        window_seconds: int = 0,
        bisect: bool = True,
        retries: int = -1,
        max_age: int = -1,
        filter: Sequence[Event] = (),
        on_failure: Callable[[Event], None] | None = None,
        payload: int = PAYLOAD,
    ) -> None:
        self.table, self.handler, self.batch_size, self.bisect = table, handler, batch_size, bisect
        self.window, self.retries, self.payload = timedelta(seconds=window_seconds), retries, payload
        self.max_age = None if max_age < 0 else timedelta(seconds=max_age)
        self.patterns, self.on_failure = filter, on_failure
        self.readers: dict[int, Reader] = {}
        self.begun = table.clock()
        self.invocations = 0
        self.lost = 0  # records that were trimmed before this mapping had read them

    # whole invocations --------------------------------------------------------------------------------------------------

    def poll(self, shard: int, hurry: bool = False) -> bool:
        """One invocation for one shard, if there is one to make; whether there was."""
        invocation = self.take(shard, hurry)
        if invocation is None:
            return False
        try:
            answer = self.handler(invocation.event)
        except TimedOut:
            self.time_out(invocation)
        except Exception as error:
            self.fail(invocation, error)
        else:
            self.settle(invocation, answer)
        return True

    def drain(self, most: int = 10_000) -> None:
        """Deliver until every shard is empty, batching windows cut short. Raises where a shard gets stuck."""
        for _ in range(most):
            if not any([self.poll(shard, hurry=True) for shard in range(len(self.table.shards))]):
                break
        stuck = [shard for shard in range(len(self.table.shards)) if not self.through(shard)]
        assert not stuck, f"the shards {stuck} are stuck: their invocations fail or still run"

    def redeliver(self, shard: int, records: int) -> None:
        """At least once: the shard's last records come again, unless its children are already being read."""
        reader = self._reader(shard)
        if not any(child in self.readers for child in self.table.children(shard)):
            if reader.running:
                reader.running.state, reader.running = "left", None
            self._expire(shard, reader)
            first = reader.batches[0].places[0] if reader.batches else reader.read
            reader.batches, reader.read = [], max(first - records, self._limit(shard))

    # one invocation in two steps ----------------------------------------------------------------------------------------

    def take(self, shard: int, hurry: bool = False) -> Invocation | None:
        """Begin the shard's next invocation. None where one runs, nothing is there, or its batch is still being gathered."""
        if not self._parents_through(shard):
            return None
        reader = self._reader(shard)
        if reader.running:
            return None
        self._expire(shard, reader)
        if not reader.batches and not self._gather(shard, reader, hurry):
            return None
        records = self.table.shards[shard]
        reader.running = Invocation(shard, {"Records": [records[place] for place in reader.batches[0].places]})
        self.invocations += 1
        return reader.running

    def settle(self, invocation: Invocation, answer: Any) -> None:
        """The function answered."""
        reader = self._end(invocation)
        if reader is None:
            return
        batch = reader.batches[0]
        checkpoint = lowest(answer, [record["dynamodb"]["SequenceNumber"] for record in invocation.event["Records"]])
        if checkpoint is None:
            reader.batches.pop(0)
        elif checkpoint < 0:
            self._failed(invocation.shard, reader)
        else:
            batch.places = batch.places[checkpoint:]
            if checkpoint == 0 or not self.bisect:  # to split a batch, at a returned number too, is no retry
                self._count(invocation.shard, reader)

    def fail(self, invocation: Invocation, error: BaseException | None = None) -> None:
        """The function raised. Lambda does not look at what."""
        reader = self._end(invocation)
        if reader is not None:
            self._failed(invocation.shard, reader)

    def time_out(self, invocation: Invocation) -> None:
        """The function's time is up: a failure like others, but some of its calls may still be on their way."""
        self.fail(invocation)
        invocation.state = "left"

    def through(self, shard: int) -> bool:
        """Whether all records of a shard have been delivered, discarded, filtered out or trimmed, and those of its parents."""
        if not self._parents_through(shard):
            return False
        reader = self._reader(shard)
        if reader.running is None:
            self._expire(shard, reader)
        return not reader.batches and not any(map(self._wanted, self.table.shards[shard][reader.read :]))

    # batches ------------------------------------------------------------------------------------------------------------

    def _reader(self, shard: int) -> Reader:
        return self.readers.setdefault(shard, Reader(self.begun))

    def _parents_through(self, shard: int) -> bool:
        parent = self.table.shards[shard].parent
        return parent is None or self.through(parent)

    def _wanted(self, record: Event) -> bool:
        return not self.patterns or any(matches(pattern, record) for pattern in self.patterns)

    def _gather(self, shard: int, reader: Reader, hurry: bool) -> bool:
        """Read a batch, if one is full or its window has ended."""
        records = self.table.shards[shard]
        places: list[int] = []
        size, end, full = ENVELOPE, len(records), False
        for place in range(reader.read, len(records)):
            if not self._wanted(records[place]):
                continue
            size += len(msgspec.json.encode(records[place])) + 1
            if places and size > self.payload:
                end, full = place, True
                break
            places.append(place)
            if len(places) == self.batch_size:
                end, full = place + 1, True
                break
        if places and not (full or hurry or self._window_over(reader, records.written[places[0]])):
            return False
        reader.read = end
        reader.batches = [Batch(places)] if places else []
        return bool(places)

    def _window_over(self, reader: Reader, first: datetime) -> bool:
        """Windows follow one another from the end of the last invocation; that of the first waiting record must have passed."""
        if not self.window:
            return True
        empty = max(first - reader.window, timedelta(0)) // self.window
        return self.table.clock() >= reader.window + (empty + 1) * self.window

    def _limit(self, shard: int) -> int:
        """The first place whose record may still be delivered."""
        ages = [self.table.retention] if self.max_age is None else [self.table.retention, self.max_age]
        return self.table.older(shard, min(ages))

    def _expire(self, shard: int, reader: Reader) -> None:
        """Skip what is trimmed; discard what is too old, in batches or not yet read."""
        records, trimmed = self.table.shards[shard], self.table.older(shard, self.table.retention)
        self.lost += sum(map(self._wanted, records[reader.read : trimmed]))
        reader.read = max(reader.read, trimmed)
        limit = self._limit(shard)
        for batch in reader.batches:
            self._discard(shard, [place for place in batch.places if place < limit], "RecordAgeExceeded", batch.failures)
            batch.places = [place for place in batch.places if place >= limit]
        reader.batches = [batch for batch in reader.batches if batch.places]
        unread = [place for place in range(reader.read, limit) if self._wanted(records[place])]
        self._discard(shard, unread, "RecordAgeExceeded", 0)
        reader.read = max(reader.read, limit)

    # failures -----------------------------------------------------------------------------------------------------------

    def _end(self, invocation: Invocation) -> Reader | None:
        """The reader whose invocation this ends; None where Lambda no longer waits for it."""
        assert invocation.state != "over", "the invocation is over already"
        if invocation.state == "left":
            return None
        reader = self._reader(invocation.shard)
        reader.running, reader.window, invocation.state = None, self.table.clock(), "over"
        return reader

    def _failed(self, shard: int, reader: Reader) -> None:
        """The batch failed whole: halves, or the same again."""
        batch = reader.batches[0]
        middle = len(batch.places) // 2
        if self.bisect and middle:
            halves = batch.places[:middle], batch.places[middle:]
            reader.batches[:1] = [Batch(half, batch.failures) for half in halves]
        else:
            self._count(shard, reader)

    def _count(self, shard: int, reader: Reader) -> None:
        """One more failure of the batch, perhaps its last."""
        batch = reader.batches[0]
        batch.failures += 1
        if 0 <= self.retries < batch.failures:
            reader.batches.pop(0)
            self._discard(shard, batch.places, "RetryAttemptsExhausted", batch.failures)

    def _discard(self, shard: int, places: list[int], condition: str, failures: int) -> None:
        """Tell the destination where the records are: of the records themselves it gets nothing."""
        if places and self.on_failure is not None:
            records = self.table.shards[shard]
            batch = [records[place] for place in places]
            self.on_failure(message(records.id, batch, condition, failures, self.table.clock()))
