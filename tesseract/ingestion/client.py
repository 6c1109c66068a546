"""The producer's side: chunks of records to a stage by HTTP, by Kinesis, or by direct invoke of the function.

Records with one key keep their order: those of one group and day travel in one lane, one chunk after the other.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from typing import Any, Protocol
from zlib import crc32

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import BackendError, InputError, NotFoundError, Throttled
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.lambda_handler import NOT_WRITTEN
from tesseract.ingestion.validators import Rejection, parse_moment, show
from tesseract.storage.codec import Wire

CHUNK_RECORDS = 500
CHUNK_BYTES = 500_000  # a Kinesis record holds 1 MiB, an HTTP body 4.5 MB
RECORD_BYTES = 450_000  # what a chunk may grow by; an item holds 400 kB
LANES = 4
ATTEMPTS = 6
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Line(msgspec.Struct, frozen=True):
    """One record on its way: its place in the input, counted from 0, and its JSON."""

    index: int
    body: bytes


class Report(msgspec.Struct):
    """What became of the records sent. By Kinesis nobody answers: accepted means that the stream has them."""

    accepted: int = 0
    rejected: list[Rejection] = []

    def add(self, other: Report) -> None:
        """Count another report into this one."""
        self.accepted += other.accepted
        self.rejected.extend(other.rejected)


class Transport(Protocol):
    """Sends one chunk of lines, in order. Raises Throttled where it should be sent again."""

    by_group: bool  # whether a chunk holds one group only

    def __call__(self, dataset: str, lines: Sequence[Line], group: str) -> Report:
        """What became of the chunk; indices are those of the input."""


def send(
    dataset: Dataset, records: Iterable[bytes], transport: Transport, progress: Callable[[int], None] = lambda count: None
) -> Report:
    """Send records, one JSON object each. `progress` is told the size of every chunk that has arrived."""
    total = Report()
    with ThreadPoolExecutor(LANES) as pool:
        running: dict[int, Future[Report]] = {}
        for lane, group, chunk in chunks(dataset, records, transport.by_group, total.rejected.append):
            if lane in running:  # the chunk before it in this lane must have arrived
                total.add(running.pop(lane).result())
            running[lane] = pool.submit(_with_retries, transport, dataset.name, chunk, group, progress)
        for future in running.values():
            total.add(future.result())
    total.rejected.sort(key=lambda rejection: rejection.index)
    return total


def chunks(
    dataset: Dataset, records: Iterable[bytes], by_group: bool, reject: Callable[[Rejection], None]
) -> Iterator[tuple[int, str, list[Line]]]:
    """Records as (lane, group, chunk). Records of one key share a lane, and come in its chunks in order. Pure.

    A record that would spoil its chunk for the others, because it is no JSON or too large, is rejected here.
    """
    filling: dict[tuple[int, str], list[Line]] = {}
    sizes: dict[tuple[int, str], int] = {}
    for index, body in enumerate(records):
        try:
            lane, group = _place(dataset, body)
        except _Spoiled as error:
            reject(Rejection(index, "", show(body.decode("utf-8", "replace")), str(error)))
            continue
        key = (lane, group if by_group else "")
        filling.setdefault(key, []).append(Line(index, body.strip()))
        sizes[key] = sizes.get(key, 0) + len(body) + 1
        if len(filling[key]) >= CHUNK_RECORDS or sizes[key] >= CHUNK_BYTES:
            del sizes[key]
            yield *key, filling.pop(key)
    for key, chunk in filling.items():
        yield *key, chunk


def _place(dataset: Dataset, body: bytes) -> tuple[int, str]:
    """The lane and the group of a record, as far as they can be told; whether it is valid the server says."""
    if len(body) > RECORD_BYTES:
        raise _Spoiled(f"the record has {len(body)} bytes, at most {RECORD_BYTES} can be sent")
    try:
        value = msgspec.json.decode(body)
    except BAD_JSON as error:
        raise _Spoiled(f"not JSON: {error}") from error
    try:
        group = "/".join(str(_at(value, path)) for path in dataset.group_by)
    except (KeyError, TypeError):
        return 0, ""
    try:
        day = parse_moment(_at(value, dataset.time_field)).astimezone(UTC).date().isoformat()
    except (KeyError, TypeError, ValueError, OverflowError):
        day = ""
    return crc32(f"{group} {day}".encode()) % LANES, group


class _Spoiled(Exception):
    """The record cannot travel with others."""


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value


def _with_retries(transport: Transport, dataset: str, lines: Sequence[Line], group: str, progress: Callable[[int], None]) -> Report:
    """Send a chunk; again what was not written, whole or in part, until patience ends. What is left then is in the report."""
    total, size = Report(), len(lines)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            report = transport(dataset, lines, group)
        except Throttled:
            if attempt == ATTEMPTS:
                raise
        else:
            again = {entry.index for entry in report.rejected if entry.reason == NOT_WRITTEN and attempt < ATTEMPTS}
            total.add(Report(report.accepted, [entry for entry in report.rejected if entry.index not in again]))
            if not again:
                break
            lines = [line for line in lines if line.index in again]
        time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - full jitter
    progress(size)
    return total


def transport_of(road: str, stage: str) -> Transport:
    """The road to a stage. Raises InputError for an unknown one."""
    from tesseract.ingestion import transports

    roads: dict[str, Callable[[str], Transport]] = {
        "http": transports.Http,
        "kinesis": transports.Kinesis,
        "direct": transports.Direct,
    }
    if road not in roads:
        raise InputError(f"--via {road!r} is not a road", hint="one of http, kinesis, direct")
    return roads[road](stage)


def report_of(answer: Wire, lines: Sequence[Line]) -> Report:
    """The function's answer about a chunk, its indices turned into those of the input. Raises by what it says."""
    if "accepted" not in answer:
        raise BackendError(f"the ingestion function failed: {answer.get('errorMessage') or answer}", operation="ingest")
    if answer.get("error"):
        kind = {404: NotFoundError, 429: Throttled, 503: Throttled}.get(int(answer.get("status", 400)), InputError)
        raise kind(str(answer["error"]))
    rejected = [Rejection(lines[r["index"]].index, r["field"], r["value"], r["reason"]) for r in answer["rejected"]]
    return Report(int(answer["accepted"]), rejected)


def api_url(stage: str) -> str:
    """The base of the stage's HTTP API: TESSERACT_API_URL, else asked of AWS by the API's name."""
    url = os.environ.get("TESSERACT_API_URL")
    if url:
        return url.rstrip("/")
    from tesseract.storage.services import http_api_url

    return http_api_url(stage)


def send_direct(stage: str, dataset: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`store.put`: records by direct invoke. Returns `{"accepted": n, "rejected": [{index, field, value, reason}, …]}`."""
    transport = transport_of("direct", stage)
    total = Report()
    for chunk in _cut(records, total.rejected.append):
        total.add(_with_retries(transport, dataset, chunk, "", lambda count: None))
    total.rejected.sort(key=lambda rejection: rejection.index)
    return {"accepted": total.accepted, "rejected": [msgspec.structs.asdict(r) for r in total.rejected]}


def _cut(records: Sequence[dict[str, Any]], reject: Callable[[Rejection], None]) -> Iterator[list[Line]]:
    """Records of Python as chunks of lines, in order. What JSON cannot say is rejected here."""
    chunk: list[Line] = []
    size = 0
    for index, record in enumerate(records):
        try:
            body = _ENCODER.encode(record)
        except (TypeError, ValueError, RecursionError) as error:
            reject(Rejection(index, "", show(record), f"the record cannot be written as JSON: {error}"))
            continue
        if b"null" in body and _has_nan(record):  # JSON has no such numbers, and msgspec writes null
            reject(Rejection(index, "", show(record), "NaN and infinities are no values; leave the field out, or send null"))
        elif len(body) > RECORD_BYTES:
            reject(Rejection(index, "", show(record), f"the record has {len(body)} bytes, at most {RECORD_BYTES} can be sent"))
        else:
            chunk.append(Line(index, body))
            size += len(body)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nan(part) for part in value.values())
    return isinstance(value, float) and not math.isfinite(value)
