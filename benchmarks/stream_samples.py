"""Readings of many groups once a second, as the raw table's stream delivers them: five numbers each, an hourly and a daily level."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.config.schema import parse
from tesseract.model import Item, Record
from tesseract.storage.codec import item_to_wire
from tesseract.storage.items import raw_item
from tesseract.utils.time_utils import utc_now

Event = dict[str, Any]
STREAM = "arn:aws:dynamodb:us-east-1:000000000000:table/tesseract-dev-raw/stream/2026-01-01T00:00:00.000"
FIELDS = ("temp", "humid", "wind", "pressure", "gust")
LEVELS = ("hourly", "daily")
CONFIG = """
datasets:
  plant:
    group_by: machine
    time_field: at
    aggregations: {hourly: &all [count, sum, avg, std, min, max, first, last], daily: *all}
    fields: {temp: float, humid: float, wind: float, pressure: float, gust: int}
"""
RANGES = {"temp": (1000, 4500), "humid": (2000, 9900), "wind": (0, 2500), "pressure": (98000, 103000)}  # in hundredths


def dataset() -> Dataset:
    """The configuration of the readings, at version 1."""
    return parse(CONFIG)["plant"]


def begin() -> datetime:
    """Half past the current hour: a minute from then lies in one hour, and no copy of it has expired."""
    return utc_now().astimezone(UTC).replace(minute=30, second=0, microsecond=0)


def items(groups: int, start: datetime, seconds: int) -> Iterator[Item]:
    """A minute of raw items, in the order in which they are written: second by second."""
    dice, of = random.Random(1), dataset()
    for second in range(seconds):
        at = start + timedelta(seconds=second)
        for group in range(groups):
            values: dict[str, Any] = {
                name: Decimal(dice.randint(*bounds)).scaleb(-2).normalize() for name, bounds in RANGES.items()
            }
            values = {name: int(value) if value == int(value) else value for name, value in values.items()}
            yield raw_item(of, Record(f"m{group:04}", at, None, values | {"gust": dice.randint(0, 40)}), at)


def event(raw: list[Item], begin: int = 1) -> Event:
    """What Lambda would hand to the function for items that are new, `begin` the number of the first."""
    return {"Records": [_record(item, number) for number, item in enumerate(raw, begin)]}


def _record(item: Item, number: int) -> Event:
    wire = item_to_wire(item)
    created = datetime.fromisoformat(item["sk"]).timestamp()
    return {
        "eventID": f"{number:032x}",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": created,
            "Keys": {"pk": wire["pk"], "sk": wire["sk"]},
            "NewImage": wire,
            "SequenceNumber": str(400_000_000_000_000_000_000_000 + number),
            "SizeBytes": 400,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": STREAM,
    }
