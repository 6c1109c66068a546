"""Follows one table's stream into a file of changes, from the stream's beginning."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tesseract.local.exports import Change, Clock, Json
from tesseract.utils.aws_helpers import client

PAUSE = 0.5  # seconds between polls; an export drains at once


class Follower:
    """The changes of one table. Memory holds none of them: they lie in a file, a line each."""

    def __init__(self, table: str, path: Path) -> None:
        self._stream = client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._path = path
        self._clock = Clock()
        self._iterators: dict[str, str | None] = {}
        self._lock = threading.Lock()
        path.write_bytes(b"")
        threading.Thread(target=self._follow, daemon=True).start()

    def drain(self) -> None:
        """Read on until the stream has nothing more."""
        with self._lock:
            while self._poll():
                pass

    def changes(self) -> Iterator[Change]:
        """Every change so far, in order."""
        with self._path.open("rb") as lines:
            for line in lines:
                yield Change(**json.loads(line))

    def _follow(self) -> None:
        while True:
            self.drain()
            time.sleep(PAUSE)

    def _poll(self) -> int:
        streams = client("dynamodbstreams")
        if not self._iterators:
            for shard in streams.describe_stream(StreamArn=self._stream)["StreamDescription"]["Shards"]:
                answer = streams.get_shard_iterator(
                    StreamArn=self._stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
                )
                self._iterators[shard["ShardId"]] = answer["ShardIterator"]
        count = 0
        with self._path.open("ab") as spool:
            for shard_id, iterator in self._iterators.items():
                if iterator is None:
                    continue
                answer = streams.get_records(ShardIterator=iterator, Limit=1000)
                self._iterators[shard_id] = answer.get("NextShardIterator")
                for record in answer["Records"]:
                    spool.write(self._line(record["dynamodb"]))
                count += len(answer["Records"])
        return count

    def _line(self, body: Any) -> bytes:
        second = int(body["ApproximateCreationDateTime"].timestamp())
        change: Json = {"micros": self._clock.micros(second), "keys": body["Keys"]}
        change |= {"new": body.get("NewImage"), "old": body.get("OldImage")}
        return json.dumps(change, separators=(",", ":")).encode() + b"\n"
