"""The follower of a table's stream: nothing lost, nothing twice, whatever fails in between."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from tesseract.local import follower as module
from tesseract.local.follower import Follower

Json = dict[str, Any]


class Stream:
    """A stream of one shard, three records a page, that can be told to fail."""

    def __init__(self, count: int) -> None:
        self.records = [record(number) for number in range(count)]
        self.failures = 0
        self.asked: list[Json] = []

    def describe_table(self, TableName: str) -> Json:  # noqa: N803 - AWS's names
        return {"Table": {"LatestStreamArn": f"{TableName}/stream"}}

    def describe_stream(self, StreamArn: str) -> Json:  # noqa: N803
        return {"StreamDescription": {"Shards": [{"ShardId": "s"}]}}

    def get_shard_iterator(self, **place: Any) -> Json:
        self.asked.append(place)
        return {"ShardIterator": str(int(place.get("SequenceNumber", -1)) + 1)}

    def get_records(self, ShardIterator: str, Limit: int) -> Json:  # noqa: N803
        if self.failures:
            self.failures -= 1
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
        start = int(ShardIterator)
        page = self.records[start : start + 3]
        return {"Records": page, "NextShardIterator": str(start + len(page))}


def record(number: int) -> Json:
    key = {"pk": {"S": "a"}, "sk": {"S": str(number)}}
    created = datetime(2026, 1, 1, 0, 0, number // 4, tzinfo=UTC)
    image = {**key, "state": {"B": b"\x00\x01"}}
    return {"dynamodb": {"ApproximateCreationDateTime": created, "Keys": key, "SequenceNumber": str(number), "NewImage": image}}


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    made = Stream(10)
    monkeypatch.setattr(module, "client", lambda _service: made)
    monkeypatch.setattr(Follower, "_follow", lambda _self: None)  # the test polls, not a thread
    return made


def numbers(follower: Follower) -> list[int]:
    return [int(change.keys["sk"]["S"]) for change in follower.changes()]


def test_it_reads_the_stream_from_its_beginning_in_order(stream: Stream, tmp_path: Path) -> None:
    follower = Follower("raw", tmp_path / "raw.changes")
    follower.drain()
    assert numbers(follower) == list(range(10))
    assert [change.micros // 1_000_000 % 60 for change in follower.changes()] == [0] * 4 + [1] * 4 + [2] * 2
    follower.drain()
    assert numbers(follower) == list(range(10))


def test_binary_attributes_are_kept_in_wire_form(stream: Stream, tmp_path: Path) -> None:
    follower = Follower("raw", tmp_path / "raw.changes")
    follower.drain()
    image = next(follower.changes()).new
    assert image is not None
    assert image["state"] == {"B": "AAE="}


def test_after_a_failure_it_goes_on_behind_the_last_record_that_it_kept(stream: Stream, tmp_path: Path) -> None:
    follower = Follower("raw", tmp_path / "raw.changes")
    stream.records, later = stream.records[:6], stream.records[6:]
    follower.drain()
    stream.failures = 1
    with pytest.raises(EndpointConnectionError):
        follower.drain()
    follower.restart()
    stream.records += later
    follower.drain()
    assert numbers(follower) == list(range(10))
    assert [place["ShardIteratorType"] for place in stream.asked] == ["TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"]


def test_what_comes_after_a_closing_read_is_not_dated_into_the_window(stream: Stream, tmp_path: Path) -> None:
    follower = Follower("raw", tmp_path / "raw.changes")
    stream.records, later = stream.records[:6], stream.records[6:]
    end = int(datetime(2026, 1, 1, 0, 1, tzinfo=UTC).timestamp())
    follower.drain(end)
    stream.records += later
    follower.drain()
    assert [change.micros >= end * 1_000_000 for change in follower.changes()] == [False] * 6 + [True] * 4
