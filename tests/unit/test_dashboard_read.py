"""A dashboard without our code: a day of hourly values read with boto3, and from what the AWS CLI prints.

The CLI is not installed here. What `aws dynamodb query` prints is made as it makes it: botocore's own parser with blobs left as the
base64 text of the wire (awscli/customizations/scalarparse.py), all pages as one result, without ResponseMetadata, through json.dump
with an indent of 4 (awscli/formatter.py).
"""

from __future__ import annotations

import json
import random
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zlib import crc32

import boto3
import pytest
from boto3.dynamodb.conditions import Key
from botocore.session import get_session

from tesseract.config.dataset import STATS
from tesseract.config.tiers import HOURLY
from tesseract.processing.aggregator import decode_state
from tesseract.processing.marking import mark, mark_latest
from tesseract.storage.keys import latest_key, live_key
from tesseract.store import Store
from tests.support import backends
from tests.support.backends import CREDENTIALS
from tests.support.level_world import HOUR, NUMBERS, World, plant

DAY = datetime(2024, 3, 10, tzinfo=UTC)
STALE, PENDING = 3, 5  # hours of the day
PLAIN = {"rows", "fields"}
GROUP, ENCODED = "KJFK Ø/1#2", "KJFK%20%C3%98%2F1%232"


@pytest.fixture(scope="module")
def stage(moto):
    """The storage of a stage on moto, filled by the stream, and its store at the day's end."""
    world = World(plant("hourly", "daily"), DAY + timedelta(hours=23, minutes=50))
    chance = random.Random(3)
    for minute in range(0, 24 * 60, 7):
        if minute // 60 == 7:  # an hour without records
            continue
        fields = {"f": Decimal(chance.randrange(-50_000, 50_000)) / 1000, "d": Decimal(chance.randrange(10**9)) / 100}
        fields |= {"i": chance.randrange(-(2**62), 2**62), "w": chance.randrange(10**36)}
        kept = {name: value for name, value in fields.items() if chance.random() < 0.8}
        world.put(ENCODED, DAY + timedelta(minutes=minute), {**kept, "s": "text"})
    world.drain()
    hourly = world.dataset.level("hourly")
    live = world.backend.live
    mark(live, live_key("weather", ENCODED, HOURLY, DAY + STALE * HOUR), hourly, world.now)
    pending = live.get(live_key("weather", ENCODED, HOURLY, DAY + PENDING * HOUR))
    live.put({name: value for name, value in pending.items() if name not in PLAIN} | {"pending": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        there = backends.stage(moto)
        for name in ("raw", "live", "catalog"):
            assert getattr(there, name).put_many(getattr(world.backend, name).items()) == []
        for found in world.backend.objects.list(""):
            there.objects.put(found.key, world.backend.objects.get(found.key))
        yield moto, there, Store(there, "test", lambda: world.now)


def wanted(store: Store) -> dict[str, dict[str, object]]:
    """Period → column → value, as a query of ours gives it."""
    table = store.query("weather", GROUP, DAY, DAY + 24 * HOUR, level="hourly")
    return {f"{row['period_start']:%Y-%m-%dT%H:%M:%SZ}": row for row in table.to_pylist()}


def compare(item: dict, row: dict) -> None:
    """The plain numbers of an item are those of the query: exact ones as they are, doubles as the same double."""
    assert item["rows"] == row["rows"]
    for name in NUMBERS:
        for stat in STATS:
            found = item["fields"].get(name, {}).get(stat, 0 if stat == "count" else None)
            value = row[f"{name}_{stat}"]
            assert (float(found) if isinstance(value, float) else found) == value, (item["sk"], name, stat)


def check_day(items: list[dict], rows: dict[str, dict[str, object]]) -> None:
    """A day as a dashboard has it against the same day as a query has it; hidden hours have no number at all."""
    assert len(items) == 23
    assert [item["sk"] for item in items] == sorted(item["sk"] for item in items)
    hours = {int(item["sk"][11:13]): item for item in items}
    assert set(hours) == set(range(24)) - {7}
    for hour, item in hours.items():
        row = rows.pop(item["sk"])
        if hour in (STALE, PENDING):
            assert not PLAIN & item.keys()
            assert ("stale_at" in item, "pending" in item, "state" in item) == (hour == STALE, hour == PENDING, hour == PENDING)
            assert row["rows"]  # a query computes it
        else:
            compare(item, row)
            assert not {"stale_at", "pending"} & item.keys()
    assert rows == {}


# boto3 --------------------------------------------------------------------------------------------------------------------


def resource(endpoint: str, table: str):
    return boto3.resource("dynamodb", endpoint_url=endpoint, **CREDENTIALS).Table(table)


def test_a_day_of_hours_with_plain_boto3(stage):
    endpoint, there, store = stage
    table = resource(endpoint, there.live.name)
    pk = f"weather#{ENCODED}#hourly"
    found = table.query(KeyConditionExpression=Key("pk").eq(pk) & Key("sk").begins_with("2024-03-10"))
    check_day(found["Items"], wanted(store))


def test_the_latest_value_with_plain_boto3(stage):
    endpoint, there, store = stage
    table = resource(endpoint, there.live.name)
    key = {"pk": f"weather#latest#{crc32(ENCODED.encode()) % 4}", "sk": ENCODED}
    item = table.get_item(Key=key)["Item"]
    (row,) = store.latest("weather", GROUP)
    assert datetime.fromisoformat(item["valid_time"]) == row["valid_time"]
    for name in NUMBERS:
        found = item["fields"].get(name)
        assert (float(found) if isinstance(row[name], float) else found) == row[name]
    mark_latest(there.live, latest_key("weather", ENCODED), DAY + 24 * HOUR)
    hidden = table.get_item(Key=key)["Item"]
    assert hidden["stale"] is True
    assert "fields" not in hidden
    assert store.latest("weather", GROUP) == [row]  # resolved


# the CLI ------------------------------------------------------------------------------------------------------------------


def aws_dynamodb_query(endpoint: str, **arguments: object) -> str:
    """What `aws dynamodb query` prints."""
    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(blob_parser=lambda text: text)
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = session.create_client("dynamodb", region_name="us-east-1", endpoint_url=endpoint, **names)
    answer = client.get_paginator("query").paginate(**arguments).build_full_result()
    answer.pop("ResponseMetadata", None)
    return json.dumps(answer, indent=4)


def plain(value: dict) -> object:
    """A value of DynamoDB's JSON, by its own rules: a number is text."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return Decimal(content)
        case "M":
            return {name: plain(part) for name, part in content.items()}
        case "B":
            return b64decode(content, validate=True)
        case "NULL":
            return None
        case _:
            return content


def test_a_day_of_hours_from_the_json_of_the_aws_cli(stage):
    endpoint, there, store = stage
    printed = aws_dynamodb_query(
        endpoint,
        TableName=there.live.name,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :day)",
        ExpressionAttributeValues={":pk": {"S": f"weather#{ENCODED}#hourly"}, ":day": {"S": "2024-03-10"}},
        PaginationConfig={"PageSize": 5},
    )
    answer = json.loads(printed)
    assert answer["Count"] == len(answer["Items"]) == 23
    items = [{name: plain(value) for name, value in item.items()} for item in answer["Items"]]
    check_day(items, wanted(store))
    shown = [item for item in items if "fields" in item]
    assert all(decode_state(item["state"]).rows == item["rows"] for item in shown)
