"""Follows one table's stream into a file of changes, from the stream's beginning."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tesseract.local.exports import Change, Clock, Json
from tesseract.utils.aws_helpers import client

PAUSE = 0.5  # seconds between polls; an export drains at once
BEGINNING = {"ShardIteratorType": "TRIM_HORIZON"}


class Follower:
    """The changes of one table. Memory holds none of them: they lie in a file, a line each."""

    def __init__(self, table: str, path: Path) -> None:
        self._stream = client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._path = path
        self._clock = Clock()
        self._iterators: dict[str, str | None] = {}
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()
        path.write_bytes(b"")
        threading.Thread(target=self._follow, daemon=True).start()

    def drain(self, end: int = 0) -> None:
        """Read on until the stream has nothing more. What comes later counts as written at `end` or after: it closes a window."""
        with self._lock:
            while self._poll():
                pass
            self._clock.close(end)

    def restart(self) -> None:
        """Take new iterators, since one may have expired: each shard goes on after the last line that was kept."""
        with self._lock:
            self._iterators.clear()

    def changes(self) -> Iterator[Change]:
        """Every change so far, in order."""
        with self._path.open("rb") as lines:
            for line in lines:
                yield Change(**json.loads(line))

    def _follow(self) -> None:
        while True:
            try:
                self.drain()
            except (BotoCoreError, ClientError):
                self.restart()
            time.sleep(PAUSE)

    def _poll(self) -> int:
        streams = client("dynamodbstreams")
        if not self._iterators:
            for shard in streams.describe_stream(StreamArn=self._stream)["StreamDescription"]["Shards"]:
                last = self._last.get(shard["ShardId"])
                place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": last} if last else BEGINNING
                answer = streams.get_shard_iterator(StreamArn=self._stream, ShardId=shard["ShardId"], **place)
                self._iterators[shard["ShardId"]] = answer["ShardIterator"]
        count = 0
        with self._path.open("ab") as spool:
            for shard_id, iterator in self._iterators.items():
                if iterator is None:
                    continue
                answer = streams.get_records(ShardIterator=iterator, Limit=1000)
                for record in answer["Records"]:
                    spool.write(self._line(record["dynamodb"]))
                    self._last[shard_id] = record["dynamodb"]["SequenceNumber"]
                self._iterators[shard_id] = answer.get("NextShardIterator")
                count += len(answer["Records"])
        return count

    def _line(self, body: Any) -> bytes:
        second = int(body["ApproximateCreationDateTime"].timestamp())
        change: Json = {"micros": self._clock.micros(second), "keys": body["Keys"]}
        change |= {"new": body.get("NewImage"), "old": body.get("OldImage")}
        return json.dumps(change, separators=(",", ":"), default=_binary).encode() + b"\n"


def _binary(value: bytes) -> str:
    """A binary attribute in wire form: boto3 hands it out decoded."""
    return base64.b64encode(value).decode()
