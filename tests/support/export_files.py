"""Export files in the layout that AWS documents, as bytes by key: for fixtures, and for the exports of tests.

<prefix>/AWSDynamoDB/<export>/{_started, manifest-summary.json, manifest-files.json and a checksum of each}; data files of an
incremental export lie in <prefix>/AWSDynamoDB/data/, those of a full one in <prefix>/AWSDynamoDB/<export>/data/.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tesseract.model import Item
from tesseract.storage.codec import item_to_wire
from tesseract.utils.time_utils import iso_micros

TABLE_ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/tesseract-test-raw"


def change_line(item: Item, write_micros: int) -> bytes:
    """A line of an incremental export, view NEW_IMAGE: an item's last state in the window."""
    wire = item_to_wire(item)
    return _json({"Metadata": _metadata(write_micros), "Keys": {n: wire[n] for n in ("pk", "sk")}, "NewImage": wire})


def remove_line(pk: str, sk: str, write_micros: int) -> bytes:
    """A line for an item that TTL (or anybody) removed: no new image."""
    return _json({"Metadata": _metadata(write_micros), "Keys": item_to_wire({"pk": pk, "sk": sk})})


def item_line(item: Item) -> bytes:
    """A line of a full export."""
    return _json({"Item": item_to_wire(item)})


def export_files(
    prefix: str, export: str, files: Sequence[Sequence[bytes]], start: datetime, end: datetime, full: bool = False
) -> dict[str, bytes]:
    """All objects of an export whose data files have these lines; the summary comes last, as it does on AWS."""
    folder = f"{prefix}/AWSDynamoDB/{export}"
    data = f"{folder}/data" if full else f"{prefix}/AWSDynamoDB/data"
    objects: dict[str, bytes] = {f"{folder}/_started": b""}
    entries = []
    for number, lines in enumerate(files):
        body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
        key = f"{data}/{hashlib.sha1(f'{export}{number}'.encode()).hexdigest()[:26]}.json.gz"
        objects[key] = body
        entries.append(_entry(key, len(lines), body))
    listing = b"".join(_json(entry) + b"\n" for entry in entries)
    objects[f"{folder}/manifest-files.json"] = listing
    objects[f"{folder}/manifest-files.checksum"] = _md5(listing).encode()
    times = {"exportTime": iso_micros(end)}
    if not full:
        times = {"exportFromTime": iso_micros(start), "exportToTime": iso_micros(end)}
        times |= {"outputView": "NEW_IMAGE", "exportType": "INCREMENTAL_EXPORT"}
    summary = _summary(prefix, export, sum(len(lines) for lines in files), end) | times
    objects[f"{folder}/manifest-summary.checksum"] = _md5(_json(summary)).encode()
    objects[f"{folder}/manifest-summary.json"] = _json(summary)
    return objects


def export_arn(export: str) -> str:
    """The ARN that names an export."""
    return f"{TABLE_ARN}/export/{export}"


def _summary(prefix: str, export: str, count: int, moment: datetime) -> dict[str, Any]:
    return {
        "version": "2023-08-01",
        "exportArn": export_arn(export),
        "startTime": iso_micros(moment),
        "endTime": iso_micros(moment),
        "tableArn": TABLE_ARN,
        "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
        "s3Bucket": "tesseract-test-123456789012-archive",
        "s3Prefix": prefix,
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": f"{prefix}/AWSDynamoDB/{export}/manifest-files.json",
        "billedSizeBytes": 0,
        "itemCount": count,
        "outputFormat": "DYNAMODB_JSON",
    }


def _entry(key: str, count: int, body: bytes) -> dict[str, Any]:
    etag = hashlib.md5(body).hexdigest() + "-1"
    return {"itemCount": count, "md5Checksum": _md5(body), "etag": etag, "dataFileS3Key": key}


def _metadata(write_micros: int) -> dict[str, Any]:
    return {"WriteTimestampMicros": {"N": str(write_micros)}}


def _md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body).digest()).decode()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
