"""Readings of many groups once a second, as the raw table's stream delivers them: five numbers each, hourly and daily levels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import HOURLY
from tesseract.model import Item, Record
from tesseract.storage.codec import item_to_wire
from tesseract.storage.items import raw_item
from tesseract.utils.time_utils import from_iso, utc_now

Event = dict[str, Any]
STREAM = "arn:aws:dynamodb:us-east-1:000000000000:table/tesseract-dev-raw/stream/2026-01-01T00:00:00.000"
FIRST = 400_000_000_000_000_000_000_000  # sequence number
FIELDS = ("temp", "humid", "wind", "pressure", "gust")
RANGES = ((1000, 4500), (2000, 9900), (0, 2500), (98000, 103000), (0, 7000))  # of the fields, in hundredths
CONFIG = """
datasets:
  plant:
    group_by: machine
    time_field: at
    aggregations: {hourly: &all [count, sum, avg, std, min, max, first, last], daily: *all}
    fields: {temp: float, humid: float, wind: float, pressure: float, gust: float}
"""


def dataset() -> Dataset:
    """The configuration of the readings, at version 1."""
    from tesseract.config.schema import parse  # pydantic, which is no part of what a function loads

    return parse(CONFIG)["plant"]


def last_hour() -> datetime:
    """The start of the hour before this one: an hour of readings from then on lies in one period, and nothing has expired."""
    return HOURLY.floor(utc_now()) - timedelta(hours=1)


def items(groups: int, start: datetime, seconds: int) -> list[Item]:
    """Raw items in the order in which they are written: second by second."""
    dice, of = random.Random(str(start)), dataset()
    return [
        raw_item(of, Record(f"m{group:05}", at, None, dict(_values(dice))), at)
        for at in (start + timedelta(seconds=second) for second in range(seconds))
        for group in range(groups)
    ]


def _values(dice: random.Random) -> Iterator[tuple[str, int | Decimal]]:
    """As a raw item holds them: whole numbers are integers, and no number ends in a zero after its point."""
    for name, (low, high) in zip(FIELDS, RANGES, strict=True):
        value = Decimal(repr(dice.randint(low, high) / 100))
        yield name, int(value) if value == int(value) else value


def event(raw: list[Item]) -> Event:
    """What Lambda hands to the function for items that are new. Sequence numbers follow the valid times."""
    return {"Records": [_record(item, place) for place, item in enumerate(raw)]}


def _record(item: Item, place: int) -> Event:
    created, wire = from_iso(item["sk"]).timestamp(), item_to_wire(item)
    sequence = str(FIRST + int(created) * 1_000_000 + place)
    body = {"ApproximateCreationDateTime": created, "Keys": {"pk": wire["pk"], "sk": wire["sk"]}, "NewImage": wire}
    body |= {"SequenceNumber": sequence, "SizeBytes": 400, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    head = {"eventID": f"{place:032x}", "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb"}
    return {**head, "awsRegion": "us-east-1", "dynamodb": body, "eventSourceARN": STREAM}
