"""The stream of a table at an endpoint, as the events that Lambda would make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support import backends

Event = dict[str, Any]


class RealStream:
    """Reads a table's stream from its beginning, every record once, shard by shard."""

    def __init__(self, endpoint: str, table: str) -> None:
        self._streams = backends.client("dynamodbstreams", endpoint)
        self._arn = backends.client("dynamodb", endpoint).describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._shards: dict[str, str | None] = {}

    def events(self) -> Iterator[Event]:
        """The records that are new, one event a shard."""
        for shard in self._streams.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]:
            if shard["ShardId"] not in self._shards:
                place = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
                self._shards[shard["ShardId"]] = self._streams.get_shard_iterator(StreamArn=self._arn, **place)["ShardIterator"]
        for shard_id, iterator in self._shards.items():
            if iterator is not None:
                answer = self._streams.get_records(ShardIterator=iterator, Limit=1000)
                self._shards[shard_id] = answer.get("NextShardIterator")
                if answer["Records"]:
                    yield {"Records": [self._record(record) for record in answer["Records"]]}

    def _record(self, record: Event) -> Event:
        body = record["dynamodb"]
        return {
            "eventName": record["eventName"],
            "eventID": record["eventID"],
            "eventSourceARN": self._arn,
            "dynamodb": {**body, "ApproximateCreationDateTime": body["ApproximateCreationDateTime"].timestamp()},
        }
