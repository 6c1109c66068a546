"""What the demo does to a laptop cloud beside the commands: plain reads, waiting for streams, and what TTL would remove."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key
from checks import Row, periods
from rich.console import Console
from rich.tree import Tree

import tesseract
from tesseract.storage.aws import backend

TABLE = "tesseract-local-{}"
PATIENCE = 240.0


def direct_store() -> tesseract.Store:
    """The stage's store; this process reads from here on without the detour over the stand-in for exports."""
    os.environ.pop("AWS_ENDPOINT_URL_DYNAMODB", None)
    backend.cache_clear()
    return tesseract.connect("local")


def plain_items(pk: str, low: str, count: int) -> list[dict[str, Any]]:
    """Items of the live table as any reader gets them: boto3, and nothing of ours."""
    table = boto3.resource("dynamodb").Table(TABLE.format("live"))
    return table.query(KeyConditionExpression=Key("pk").eq(pk) & Key("sk").gte(low), Limit=count)["Items"]


def daily_items(dataset: str, group: str) -> Iterator[dict[str, Any]]:
    """The daily items of a group."""
    yield from tesseract.connect("local").backend.live.query(f"{dataset}#{group}#daily")


def wait_for_streams(store: tesseract.Store, dataset: str, rows: list[Row]) -> None:
    """Until the live table has counted every row, or knows that it has not (stale)."""
    days = {key: len(part) for key, part in periods(rows, "daily", "origin", "time_hour")}
    _wait("the live aggregates", lambda: _settled(dataset, days, lambda item, count: item.get("rows") == count))


def wait_for_stale(store: tesseract.Store, dataset: str, rows: list[Row]) -> None:
    """Until every day of these rows is marked stale, since they came again after they may have expired."""
    days = {key: len(part) for key, part in periods(rows, "daily", "origin", "time_hour")}
    _wait("the stale marks", lambda: _settled(dataset, days, lambda item, count: "stale_at" in item))


def _settled(dataset: str, days: dict[tuple[str, datetime], int], right: Any) -> int:
    found = {(group, item["sk"][:10]): item for group in {key[0] for key in days} for item in daily_items(dataset, group)}
    keys = {(group, start.date().isoformat()): count for (group, start), count in days.items()}
    return sum(not (key in found and ("stale_at" in found[key] or right(found[key], count))) for key, count in keys.items())


def _wait(what: str, left: Any) -> None:
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        if not left():
            print(f"{what} have caught up ({time.monotonic() - started:.1f} s)")
            return
        time.sleep(1)
    raise SystemExit(f"{what} did not catch up within {PATIENCE:.0f} s: {left()} days are not right")


def expire(store: tesseract.Store, dataset: str, before: str = "9") -> int:
    """Remove a dataset's raw items of valid times before `before` as TTL would; returns how many.

    TTL never acts before `expires_at`, and the live items of these records trust in that until `safe_until`: set it to 0 first.
    """
    client = boto3.client("dynamodb")
    live, raw = TABLE.format("live"), TABLE.format("raw")
    pages = client.get_paginator("scan").paginate(TableName=raw, ProjectionExpression="pk, sk")
    found = [(item["pk"]["S"], item["sk"]["S"]) for page in pages for item in page["Items"]]
    keys = [key for key in found if key[0].startswith(f"{dataset}#") and key[1] < before]
    periods = {(f"{pk[:-11]}#hourly", f"{sk[:13]}:00:00Z") for pk, sk in keys}
    periods |= {(f"{pk[:-11]}#daily", f"{sk[:10]}T00:00:00Z") for pk, sk in keys}
    text = f'UPDATE "{live}" SET safe_until=0 WHERE pk=? AND sk=?'
    updates = [{"Statement": text, "Parameters": [{"S": pk}, {"S": sk}]} for pk, sk in sorted(periods)]
    for start in range(0, len(updates), 25):
        answers = client.batch_execute_statement(Statements=updates[start : start + 25])["Responses"]
        errors = [answer["Error"] for answer in answers if "Error" in answer]
        if errors:
            raise SystemExit(f"safe_until could not be set: {errors[0]}")
    requests = [{"DeleteRequest": {"Key": {"pk": {"S": pk}, "sk": {"S": sk}}}} for pk, sk in keys]
    for start in range(0, len(requests), 25):
        client.batch_write_item(RequestItems={raw: requests[start : start + 25]})
    return len(requests)


def show_bucket(store: tesseract.Store, console: Console) -> None:
    """The archive as a tree: dataset, level, tier, with files, rows and bytes."""
    tree = Tree(f"s3://{store.backend.objects.bucket}/archive")
    for dataset in store.datasets():
        branch = tree.add(f"dataset={dataset}")
        configuration = store.dataset(dataset)
        for level in ("raw", *(level.name for level in configuration.levels)):
            totals: dict[str, list[int]] = {}
            for group in store.catalog.groups(dataset, level):
                for segment in store.catalog.manifest(dataset, level, group).segments:
                    total = totals.setdefault(segment.tier, [0, 0, 0])
                    for index, value in enumerate((1, segment.rows, segment.bytes)):
                        total[index] += value
            if totals:
                leaf = branch.add(f"level={level}")
                for tier in configuration.ladder:
                    if tier in totals:
                        files, rows, size = totals[tier]
                        leaf.add(f"tier={tier:8} {files:5,} files {rows:8,} rows {size:10,} bytes")
    console.print(tree)
