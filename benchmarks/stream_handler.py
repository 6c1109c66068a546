"""The aggregate function whole, from its event to the items written, against one UpdateItem per record and level.

Both write to the same DynamoDB Local, in turns, with as many calls under way at once; the plain one keeps the order of each group.
It only adds up counts, sums and squares and sets the last value: no least and greatest, nothing for what comes twice, no decoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

from benchmarks import stream_samples, stream_tables
from benchmarks.figures import Figure, medians
from benchmarks.stream_samples import FIELDS, Event
from tesseract.processing.aggregates import PARALLEL

GROUPS, SECONDS = 100, 60
PLAIN_SECONDS = 10  # of the minute, so that the plain one is through in time: it works record by record
ROUNDS = 5
ADDED = ", ".join(f"s{n} :s{n}, q{n} :q{n}" for n in range(len(FIELDS)))
UPDATE = f"ADD n :one, {ADDED} SET " + ", ".join(f"l{n} = :s{n}" for n in range(len(FIELDS)))


def run() -> Iterator[Figure]:
    """Minutes of readings, one after the other; the items of the first one are new."""
    with stream_tables.emulator() as endpoint:
        stage = stream_tables.stage(endpoint, "ours")
        minutes = list(_minutes(ROUNDS + 1))
        mine, others = iter(minutes), iter(minutes)
        name, dynamodb = stream_tables.create(endpoint, "plain"), stream_tables.client(endpoint)
        stage.aggregate(stream_samples.event(stream_samples.items(1, stream_samples.last_hour() - timedelta(hours=9), 1)))
        written, before = stage.wire.items, stage.wire.items[stage.live.name, False]
        with ThreadPoolExecutor(PARALLEL) as pool:
            ours, plain = medians(
                ROUNDS,
                _timed(lambda: stage.aggregate(next(mine))),
                _timed(lambda: _plain(next(others), dynamodb, name, pool)),
            )
    rate, other = GROUPS * SECONDS / ours, GROUPS * PLAIN_SECONDS / plain
    said = f"ours {rate:,.0f} records/s, one UpdateItem per record and level {other:,.0f}/s; {PARALLEL} calls at once"
    yield Figure("aggregate function on DynamoDB Local", rate / other, "×", said, bar=20, more_is_better=True)
    items, batches = GROUPS * 2, ROUNDS + 1
    each = (written[stage.live.name, False] - before) / batches
    told = f"{batches} batches of {GROUPS} groups touch {items} items each; {each:g} writes a batch"
    yield Figure("item writes per aggregate item touched", each / items, "×", told, bar=1)


def _minutes(count: int) -> Iterator[Event]:
    start = stream_samples.last_hour()
    for minute in range(count):
        yield stream_samples.event(stream_samples.items(GROUPS, start + timedelta(minutes=minute), SECONDS))


def _plain(event: Event, dynamodb: Any, name: str, pool: ThreadPoolExecutor) -> None:
    by_group: dict[str, list[Event]] = {}
    for record in event["Records"][: GROUPS * PLAIN_SECONDS]:
        by_group.setdefault(record["dynamodb"]["Keys"]["pk"]["S"], []).append(record)
    list(pool.map(lambda records: _update(records, dynamodb, name), by_group.values()))


def _update(records: list[Event], dynamodb: Any, name: str) -> None:
    for record in records:
        image = record["dynamodb"]["NewImage"]
        values: dict[str, Any] = {":one": {"N": "1"}}
        for place, field in enumerate(FIELDS):
            text = image["fields"]["M"][field]["N"]
            values |= {f":s{place}": {"N": text}, f":q{place}": {"N": str(Decimal(text) ** 2)}}
        for period in (13, 10):
            key = {"pk": image["pk"], "sk": {"S": image["sk"]["S"][:period]}}
            dynamodb.update_item(TableName=name, Key=key, UpdateExpression=UPDATE, ExpressionAttributeValues=values)


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measure
