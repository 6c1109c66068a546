"""A DynamoDB table's stream in memory, as AWS documents it: records, shards and their lineages, retention.

Where AWS promises nothing, the less convenient reading is taken: sequence numbers grow in length, records are gone after 24 hours
to the moment, and two shards of different lineages may give numbers in any order. The tests name the page of each rule.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zlib import crc32

from tesseract.storage.base import Condition, Key
from tesseract.storage.codec import Wire
from tesseract.storage.memory import MemoryTable
from tesseract.utils.time_utils import EPOCH

Event = dict[str, Any]
LABEL = "2026-01-01T00:00:00.000"
HASHES = 2**32
SERIAL = 10**7  # the last digits of a sequence number count the table's records: no two shards ever give the same number
LONGEST = 10**33  # 40 digits with the serial number behind
TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


class Shard(list[Event]):
    """A shard: its records, in order, those that are trimmed included; and the range [low, high) of partition keys' hashes.

    `parent` is the place in the table's `shards`. A closed shard takes no more records.
    """

    def __init__(self, name: str, low: int, high: int, number: int, parent: int | None = None) -> None:
        super().__init__()
        self.id, self.low, self.high, self.parent = name, low, high, parent
        self.number = number  # the leading digits of the last sequence number
        self.written: list[datetime] = []  # when each record was, exactly: its creation time is cut to the second
        self.closed = False


class StreamedTable(MemoryTable):
    """A table in memory that writes a stream record for every change, into the open shard of its partition key.

    A shard is known by its place in `shards`, which only ever grows. `retention` is how long records can be read.
    """

    def __init__(self, clock: Callable[[], datetime], shards: int = 2, seed: int = 0) -> None:
        super().__init__("raw")
        self.clock = clock
        self.shards: list[Shard] = []
        self.label = LABEL
        self.retention = timedelta(hours=24)
        self._dice = random.Random(seed)
        self._serial = self._leaps = 0
        self._roots = shards
        self._begin()

    # the table ----------------------------------------------------------------------------------------------------------

    def put(self, item: Event, condition: Condition | None = None, until: datetime | None = None) -> None:
        key = (item["pk"], item["sk"])
        with self._lock:  # writers are several threads
            old = self._wire(key)
            super().put(item, condition, until)
            new = self._wire(key)
            if new != old:
                self._record("INSERT" if old is None else "MODIFY", key, old, new)

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        self._remove(key, condition)

    def expire(self, now: datetime, only: Key | None = None) -> None:
        """What TTL does, some time after `expires_at`: to all items that have expired, or to one."""
        for item in list(self.items()):
            key = (item["pk"], item["sk"])
            if only in (None, key) and item.get("expires_at", now.timestamp() + 1) <= now.timestamp():
                self._remove(key, None, TTL_IDENTITY)

    # the stream ---------------------------------------------------------------------------------------------------------

    def split(self, shard: int, children: int = 2) -> list[int]:
        """Close an open shard; its children share its hash range. One child is a shard that was merely renewed."""
        with self._lock:
            parent = self.shards[shard]
            assert not parent.closed, f"shard {shard} is closed: it has children, or its stream has ended"
            parent.closed = True
            edges = [parent.low + (parent.high - parent.low) * place // children for place in range(children + 1)]
            return [self._open(low, high, parent.number, shard) for low, high in pairwise(edges)]

    def renew(self, label: str) -> None:
        """The table is made anew from a copy of its items: another stream, whose numbers begin again.

        The shards of the old stream are closed, and can be read for as long as their records last.
        """
        with self._lock:
            for shard in self.shards:
                shard.closed = True
            self.label, self._leaps = label, 0
            self._begin()

    def shard_of(self, pk: str) -> int:
        """The open shard that takes the changes of a partition key."""
        place = crc32(pk.encode())
        return next(n for n, shard in enumerate(self.shards) if not shard.closed and shard.low <= place < shard.high)

    def children(self, shard: int) -> list[int]:
        """The shards that a shard was split into."""
        return [n for n, other in enumerate(self.shards) if other.parent == shard]

    def older(self, shard: int, age: timedelta) -> int:
        """How many records of a shard, its first ones, are older than that."""
        return bisect_left(self.shards[shard].written, self.clock() - age)

    def _begin(self) -> None:
        edges = [HASHES * place // self._roots for place in range(self._roots + 1)]
        for low, high in pairwise(edges):
            self._open(low, high, self._dice.randrange(2 * 10**13, 10**14), None)

    def _open(self, low: int, high: int, number: int, parent: int | None) -> int:
        place = len(self.shards)
        name = f"shardId-{place + 1:020}-{low:08x}"
        self.shards.append(Shard(name, low, high, number, parent))
        return place

    def _wire(self, key: Key) -> Wire | None:
        return self._partitions.get(key[0], {}).get(key[1])

    def _remove(self, key: Key, condition: Condition | None, identity: Event | None = None) -> None:
        with self._lock:
            old = self._wire(key)
            super().delete(key, condition)
            if old is not None:
                self._record("REMOVE", key, old, None, identity)

    def _number(self, shard: Shard) -> str:
        """The next sequence number: now and then it gains a digit, and begins with 1 then, so that text order is wrong."""
        self._serial += 1
        if shard.number * 10 < LONGEST and self._dice.random() < 1 / (3 + self._leaps**2 / 20):
            shard.number = 10 ** len(str(shard.number)) + self._dice.randrange(10**9)
            self._leaps += 1
        else:
            shard.number += self._dice.choice((0, 1, 40, 10**6))
        return str(shard.number * SERIAL + self._serial)

    def _record(self, name: str, key: Key, old: Wire | None, new: Wire | None, identity: Event | None = None) -> None:
        shard, now = self.shards[self.shard_of(key[0])], self.clock()
        body: Event = {
            "ApproximateCreationDateTime": (now - EPOCH) // timedelta(seconds=1),
            "Keys": {"pk": {"S": key[0]}, "sk": {"S": key[1]}},
            "SequenceNumber": self._number(shard),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        body |= {"OldImage": old} if old else {}
        body |= {"NewImage": new} if new else {}
        record: Event = {
            "eventID": f"{self._serial:032x}",
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": body,
            "eventSourceARN": f"arn:aws:dynamodb:us-east-1:123456789012:table/{self.name}/stream/{self.label}",
        }
        shard.append(record | {"userIdentity": identity} if identity else record)
        shard.written.append(now)
