"""Exports to S3 as DynamoDB makes them: which changes belong to one, its files, and what is refused. Pure.

The stand-in follows the table's stream, so it knows a write time to the second; within one second the order of the stream decides,
as microseconds. A change therefore lies in the window that holds its second, as long as windows end on whole seconds.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

FILES = 4
MAX_WINDOW = 24 * 3600
Json = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One change of the table: its write time in µs, its keys, and its images in wire form (None: removed, or not there before)."""

    micros: int
    keys: Json
    new: Json | None
    old: Json | None


@dataclass(frozen=True)
class Request:
    """An export that was asked for. Times are seconds since 1970; `start` is None for a full one."""

    arn: str
    table_arn: str
    bucket: str
    prefix: str
    token: str
    end: int
    start: int | None = None
    view: str = "NEW_AND_OLD_IMAGES"
    parameters: Json = field(default_factory=dict, compare=False)

    @property
    def id(self) -> str:
        """The last part of the ARN, which names the export's folder."""
        return self.arn.rpartition("/")[2]


class Clock:
    """Write times from the stream's seconds: distinct, in the stream's order, in the second that the stream says.

    Only a change that the stream hands out late is dated later: after one that came before it, and never into a closed window.
    """

    def __init__(self) -> None:
        self._last = 0

    def micros(self, second: int) -> int:
        """The write time of the next change, which the stream dates to `second`."""
        self._last = max(second * 1_000_000, self._last + 1)
        return self._last

    def close(self, end: int) -> None:
        """Windows up to the second `end` have been read: no later change may lie in one."""
        self._last = max(self._last, end * 1_000_000 - 1)


def refusal(body: Json, now: float, earliest: int | None, min_window: int) -> tuple[str, str] | None:
    """Why AWS would refuse an export: (error code, message); None where it would not. `earliest` is None without PITR."""
    if earliest is None:
        return "PointInTimeRecoveryUnavailableException", "Point in time recovery is not enabled for table"
    if body.get("ExportType", "FULL_EXPORT") != "INCREMENTAL_EXPORT":
        moment = body.get("ExportTime", now)
        if not earliest <= moment <= now:
            return "InvalidExportTimeException", "ExportTime is outside the table's restorable times"
        return None
    window = body.get("IncrementalExportSpecification") or {}
    start, end = window.get("ExportFromTime"), window.get("ExportToTime", now)
    if start is None:
        return "ValidationException", "ExportFromTime is required for an incremental export"
    if start >= end:
        return "InvalidExportTimeException", "ExportFromTime must be before ExportToTime"
    if end > now or start < earliest:
        return "InvalidExportTimeException", f"the window {start} to {end} is outside the restorable times {earliest} to {now:.3f}"
    if not min_window <= end - start <= MAX_WINDOW:
        return "InvalidExportTimeException", f"the window must be between {min_window} s and 24 h long"
    return None


def state_at(changes: Iterable[Change], end: int) -> list[Change]:
    """The last change of every item before `end`, of those that are then there: a full export."""
    return [change for change in _last(changes, 0, end).values() if change.new is not None]


def changed_in(changes: Iterable[Change], start: int, end: int) -> list[Change]:
    """The items that changed in [start, end), from their image before it to their last in it: an incremental export.

    An item that was not there before and is not there after leaves no line, as on AWS.
    """
    first: dict[str, Json | None] = {}

    def noted() -> Iterable[Change]:
        for change in changes:
            if start * 1_000_000 <= change.micros < end * 1_000_000:
                first.setdefault(_key(change), change.old)
                yield change

    final = _last(noted(), start, end)
    whole = (replace(change, old=first[key]) for key, change in final.items())
    return [change for change in whole if change.old is not None or change.new is not None]


def _last(changes: Iterable[Change], start: int, end: int) -> dict[str, Change]:
    final: dict[str, Change] = {}
    for change in changes:
        if start * 1_000_000 <= change.micros < end * 1_000_000:
            final[_key(change)] = change
    return final


def _key(change: Change) -> str:
    return json.dumps(change.keys, sort_keys=True)


def files(request: Request, changes: Iterable[Change], now: datetime, table_id: str) -> dict[str, bytes]:
    """The objects of an export by key, in the order in which they are written: the summary, which tells that all is there, last."""
    chosen = state_at(changes, request.end) if request.start is None else changed_in(changes, request.start, request.end)
    lots: list[list[bytes]] = [[] for _ in range(FILES)]
    for change in chosen:
        lots[crc32(json.dumps(change.keys["pk"]).encode()) % FILES].append(_line(request, change))
    root = f"{request.prefix}/AWSDynamoDB" if request.prefix else "AWSDynamoDB"
    folder = f"{root}/{request.id}"
    data = f"{folder}/data" if request.start is None else f"{root}/data"
    objects: dict[str, bytes] = {f"{folder}/_started": b""}
    entries: list[bytes] = []
    for number, lines in enumerate(lots):
        body = gzip.compress(b"".join(line + b"\n" for line in lines), 1, mtime=0)
        key = f"{data}/{_name(request.id, number)}.json.gz"
        objects[key] = body
        entries.append(_json({"itemCount": len(lines), "md5Checksum": md5(body), "etag": _etag(body), "dataFileS3Key": key}))
    listing = b"".join(entry + b"\n" for entry in entries)
    manifest = f"{folder}/manifest-files.json"
    summary = _summary(request, manifest, len(chosen), sum(map(len, objects.values())), now, table_id)
    objects[manifest] = listing
    objects[f"{folder}/manifest-files.md5"] = md5(listing).encode()
    objects[f"{folder}/manifest-summary.md5"] = md5(summary).encode()
    objects[f"{folder}/manifest-summary.json"] = summary
    return objects


def _line(request: Request, change: Change) -> bytes:
    if request.start is None:
        return _json({"Item": change.new})
    line: Json = {"Metadata": {"WriteTimestampMicros": {"N": str(change.micros)}}, "Keys": change.keys}
    if change.old is not None and request.view == "NEW_AND_OLD_IMAGES":
        line["OldImage"] = change.old
    if change.new is not None:
        line["NewImage"] = change.new
    return _json(line)


def _summary(request: Request, manifest: str, count: int, size: int, now: datetime, table_id: str) -> bytes:
    incremental = request.start is not None
    summary: Json = {
        "version": "2023-08-01" if incremental else "2020-06-30",
        "exportArn": request.arn,
        "startTime": iso(now.timestamp()),
        "endTime": iso(now.timestamp()),
        "tableArn": request.table_arn,
        "tableId": table_id,
        "s3Bucket": request.bucket,
        "s3Prefix": request.prefix,
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": manifest,
        "billedSizeBytes": size,
        "itemCount": count,
        "outputFormat": "DYNAMODB_JSON",
    }
    if request.start is None:
        summary |= {"exportTime": iso(request.end), "exportType": "FULL_EXPORT"}
    else:
        summary |= {"exportFromTime": iso(request.start), "exportToTime": iso(request.end)}
        summary |= {"exportType": "INCREMENTAL_EXPORT", "outputView": request.view}
    return _json(summary)


def iso(seconds: float) -> str:
    """`2026-11-24T23:13:15.000Z`, as manifests write times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def md5(body: bytes) -> str:
    """Base64 of the MD5, as manifests write checksums."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest() + "-1"


def _name(export: str, number: int) -> str:
    return base64.b32encode(hashlib.sha256(f"{export}/{number}".encode()).digest()).decode().lower()[:26]


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
