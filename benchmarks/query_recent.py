"""What is in the buffer: three hours of a sensor once a second and of one once a minute, and a latest value, against boto3's Query.

Both DynamoDB's are measured. MiniStack answers one request at a time, and looks at every item of a group's day for each, so that
several parts of a range at once cost as many times the whole; DynamoDB Local does what Amazon's does, on the processor that we use
as well. The peer of the long range makes rows of the pages by boto3's TypeDeserializer; the bare Query of the short ones leaves the
items as boto3 gives them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from benchmarks.figures import Figure
from benchmarks.query_samples import HOURS, MINUTE, NOW, PLANT, SECOND, TODAY
from benchmarks.query_servers import client
from benchmarks.query_stage import median_ms, p99_ms, stages, store, turns
from tesseract.storage.base import Backend
from tesseract.storage.keys import latest_key, raw_pk, tables
from tesseract.utils.time_utils import iso_day, iso_micros

LONG, SHORT = 3, 300  # rounds
LATE = 100  # ms


class Peer:
    """boto3's Query on the tables of a stage."""

    def __init__(self, stage: str, endpoint: str) -> None:
        self._client, self._tables = client("dynamodb", endpoint), tables(stage)

    def pages(self, group: str) -> Iterator[list[dict[str, Any]]]:
        """The items of the range, a page at a time, as boto3 gives them."""
        low, high = iso_micros(TODAY), iso_micros(NOW)
        values = {":pk": raw_pk(PLANT.name, group, iso_day(TODAY)), ":low": low, ":high": high}
        arguments: dict[str, Any] = {
            "TableName": self._tables["raw"],
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
            "ConsistentRead": True,
        }
        while True:
            answer = self._client.query(**arguments)
            yield answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def bare(self, group: str) -> int:
        """How many items there are."""
        return sum(map(len, self.pages(group)))

    def rows(self, group: str) -> list[dict[str, Any]]:
        """The items as Python values."""
        value = TypeDeserializer().deserialize
        return [{name: value(part) for name, part in item.items()} for page in self.pages(group) for item in page]

    def latest(self, group: str) -> dict[str, Any]:
        """The item of a latest value, by a Query of its key."""
        pk, sk = latest_key(PLANT.name, group)
        found = self._client.query(
            TableName=self._tables["live"],
            KeyConditionExpression="pk = :pk AND sk = :sk",
            ExpressionAttributeValues={":pk": {"S": pk}, ":sk": {"S": sk}},
            ConsistentRead=True,
        )
        (item,) = found["Items"]
        return dict(item)


def run() -> Iterator[Figure]:
    """On each DynamoDB in turn."""
    with stages(PLANT) as found:
        for who, stage in found.items():
            yield from _figures(who, Peer(stage.name, stage.dynamodb), stage.backend)


def _figures(who: str, peer: Peer, backend: Backend) -> Iterator[Figure]:
    ours = store(backend)
    long, short = (partial(ours.query, PLANT.name, group, TODAY, NOW) for group in (SECOND, MINUTE))
    assert len(long()) == len(peer.rows(SECOND)) == HOURS * 3600
    assert len(short()) == peer.bare(MINUTE) == HOURS * 60
    assert ours.latest(PLANT.name, MINUTE)[0]["valid_time"] == short()["valid_time"][-1].as_py()
    yield _long(who, *turns(LONG, long, lambda: peer.rows(SECOND), lambda: peer.bare(SECOND)))
    stats = ours.read(PLANT.name, MINUTE, TODAY, NOW).stats
    requests = f"{stats.dynamodb_requests + stats.s3_requests} requests"
    yield from _short(who, "3 h of a reading a minute", requests, *turns(SHORT, short, lambda: peer.bare(MINUTE)))
    works = (lambda: ours.latest(PLANT.name, MINUTE), lambda: peer.latest(MINUTE))
    yield from _short(who, "latest", "", *turns(SHORT, *works))


def _long(who: str, ours: list[float], rows: list[float], bare: list[float]) -> Figure:
    told = f"ours {median_ms(ours):.0f} ms; boto3's pages to rows {median_ms(rows):.0f} ms, bare {median_ms(bare):.0f} ms"
    ratio = statistics.median(rows) / statistics.median(ours)
    bar = 3 if who == "DynamoDB Local" else None
    return Figure(f"3 h of a reading a second, {who}: faster than boto3", ratio, "×", told, bar, more_is_better=True)


def _short(who: str, what: str, requests: str, ours: list[float], bare: list[float]) -> Iterator[Figure]:
    told = f"ours {median_ms(ours):.1f} ms, p99 {p99_ms(ours):.1f}; bare Query {median_ms(bare):.1f} ms, p99 {p99_ms(bare):.1f}"
    told += f"; {requests}" if requests else ""
    yield Figure(f"{what}, {who}: of the bare Query", statistics.median(ours) / statistics.median(bare), "×", told, bar=1.3)
    yield Figure(f"{what}, {who}: p99", p99_ms(ours), "ms", f"of {len(ours)}", bar=LATE)
