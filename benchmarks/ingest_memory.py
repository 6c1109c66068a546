"""The memory that an event of 6 MB, the most that Lambda takes, needs in the ingestion functions: the peak of a fresh process.

The process reads the event's JSON as the runtime does and hands it to the handler; calls of the tables are encoded and dropped.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.imports import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
EVENT = 6_000_000
BODY = 4_500_000
BAR = 256
READING = {
    "sensorId": "s-0001",
    "validTime": "2026-01-05T11:00:00Z",
    "temp": 21.25,
    "wind": {"speed": 7.5},
    "state": "it is all as it should be",
}


def run() -> Iterator[Figure]:
    """One process an event, of each form, and of the bombs that take the most."""
    lines = list(_lines(BODY))
    direct = {"dataset": "d", "records": [json.loads(line) for line in _lines(EVENT - 100)]}
    events = {
        "6 MB of HTTP, base64": _http(b"\n".join(lines)),
        "4.5 MB behind gzip": _http(gzip.compress(b"\n".join(lines))),
        "6 MB of direct invoke": direct,
        "6 MB of Kinesis": _kinesis([b"\n".join(lines[start : start + 500]) for start in range(0, len(lines), 500)]),
        "gzip of Kinesis, 22 MB in all": _kinesis([gzip.compress(b"\n".join(lines[:34_000]))] * 5),
        "an envelope's members, 40,000 times": _http(_envelope()),
        "two million values that are no records": _http(b"[" + b"1," * (BODY // 2 - 2) + b"1]"),
        "a record of 250,000 fields": _http(b"{" + b",".join(b'"f%06d":%d' % (i, i) for i in range(250_000)) + b"}"),
    }
    for name, event in events.items():
        megabytes, answer = _measure(event)
        yield Figure(f"memory: {name}", megabytes, "MB", answer, bar=BAR)


def _lines(size: int) -> Iterator[bytes]:
    used = index = 0
    while True:
        moment = f"2026-01-{1 + index // 86400:02}T{index // 3600 % 24:02}:{index // 60 % 60:02}:{index % 60:02}Z"
        line = json.dumps(READING | {"validTime": moment, "temp": index / 100, "dataset": "d"}).encode()
        used += len(line) + 1
        if used > size:
            return
        yield line
        index += 1


def _envelope() -> bytes:
    shared = {"sensorId": "s-0001", "temp": 21.25, "text": "x" * 300}
    times = (f"2026-01-01T{index // 3600:02}:{index // 60 % 60:02}:{index % 60:02}Z" for index in range(39_000))
    return json.dumps(shared | {"readings": [{"validTime": time} for time in times]}).encode()


def _http(body: bytes) -> dict[str, Any]:
    dataset = "e" if b'"readings"' in body[:1000] else "d"
    return {
        "requestContext": {"http": {"method": "POST"}},
        "rawPath": f"/datasets/{dataset}/records",
        "headers": {"content-type": "application/x-ndjson"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def _kinesis(payloads: list[bytes]) -> dict[str, Any]:
    return {
        "Records": [
            {"eventID": f"shardId-0:{index}", "kinesis": {"sequenceNumber": str(index), "data": base64.b64encode(data).decode()}}
            for index, data in enumerate(payloads)
        ]
    }


def _measure(event: dict[str, Any]) -> tuple[float, str]:
    body = json.dumps(event).encode()
    command = [sys.executable, "-m", "benchmarks.ingest_memory"]
    done = subprocess.run(command, input=body, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    peak, answer = done.stdout.decode().splitlines()[-2:]
    return float(peak), f"{len(body) / 1e6:.1f} MB of event: {answer}"


def _child() -> None:
    from tesseract.ingestion.wiring import service as loaded

    loaded()  # what the function loads, AWS's library too, is part of its memory
    event = json.loads(sys.stdin.buffer.read())
    service = _service()
    answer = (service.handle_kinesis if "Records" in event else service.handle)(event, 300)
    text = json.dumps(answer)
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    print(text if len(text) < 120 else text[:120] + "…")


def _service() -> Any:
    import msgspec

    from tesseract.config.cache import Configs
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.lambda_handler import Service
    from tesseract.ingestion.writer import Writer
    from tesseract.storage.dynamodb import DynamoTable
    from tesseract.storage.memory import MemoryObjects
    from tesseract.utils.time_utils import utc_now

    class Stub:
        def call(self, operation: str, payload: dict[str, Any], *until: Any) -> dict[str, Any]:
            msgspec.json.encode(payload)
            return {}

    class Store:
        def dataset(self, name: str, version: int | None = None) -> Dataset:
            path = "readings" if name == "e" else ""
            return Dataset(name, 1, ("sensorId",), "validTime", "refTime", "keep", 8760, ("daily",), (), records_path=path)

        def dataset_names(self) -> list[str]:
            return ["d", "e"]

        def mark_used(self, name: str) -> None:
            pass

    raw, live = DynamoTable(Stub(), "raw"), DynamoTable(Stub(), "live")  # type: ignore[arg-type]
    return Service(Configs(Store(), utc_now), Writer(raw, live, utc_now), MemoryObjects(), utc_now)


if __name__ == "__main__":
    _child()
