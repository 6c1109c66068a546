"""The memory that an event of 6 MB, the most that Lambda takes, needs in the stream functions: the peak of a fresh process.

The process reads the event's JSON as the runtime does and hands it to the function; the tables answer that nothing is there, and
what is written is encoded and dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import stream_samples
from benchmarks.figures import Figure
from benchmarks.imports import ENVIRONMENT
from benchmarks.stream_samples import Event
from tesseract.config.dataset import Dataset, decode_dataset, encode_dataset

ROOT = Path(__file__).resolve().parents[1]
EVENT = 6 * 1024 * 1024
BAR = 256


def run() -> Iterator[Figure]:
    """New records of many groups and of one each, and corrections, which bring two images."""
    start = stream_samples.last_hour()
    many = _cut(stream_samples.event(stream_samples.items(250, start, 60)))
    single = _cut(stream_samples.event(stream_samples.items(12_000, start, 1)))
    corrected = _cut(_corrections(stream_samples.event(stream_samples.items(250, start, 60))))
    for function in ("aggregates", "latest"):
        for name, event in (("250 groups", many), ("a group for each record", single), ("250 groups, corrections", corrected)):
            megabytes, said = _measure(function, event)
            yield Figure(f"memory of {function}, 6 MB: {name}", megabytes, "MB", said, bar=BAR)


def cut_after(groups: int) -> float:
    """Seconds after which 6 MB are full, where a shard has that many groups at 1 Hz."""
    event = stream_samples.event(stream_samples.items(groups, stream_samples.last_hour(), 10))
    return EVENT / (len(json.dumps(event, separators=(",", ":"))) / 10)


def _cut(event: Event) -> Event:
    """As many of its records as 6 MB hold, and no more than 10,000."""
    used, kept = 0, []
    for record in event["Records"][:10_000]:
        used += len(json.dumps(record, separators=(",", ":"))) + 1
        if used > EVENT:
            break
        kept.append(record)
    return {"Records": kept}


def _corrections(event: Event) -> Event:
    for record in event["Records"]:
        new = record["dynamodb"]["NewImage"]
        fields = {name: {"N": value["N"] + "1"} for name, value in new["fields"]["M"].items()}
        record["eventName"] = "MODIFY"
        record["dynamodb"]["OldImage"] = {**new, "fields": {"M": fields}}
    return event


def _measure(function: str, event: Event) -> tuple[float, str]:
    body = json.dumps(event, separators=(",", ":")).encode()
    command = [sys.executable, "-m", "benchmarks.stream_memory", function, encode_dataset(stream_samples.dataset()).decode()]
    done = subprocess.run(command, input=body, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    peak, written = done.stdout.decode().splitlines()[-2:]
    return float(peak), f"{len(body) / 2**20:.2f} MB of event, {len(event['Records']):,} records; {written} writes"


def _child(function: str, configuration: str) -> None:
    from tesseract.processing import stream_stage
    from tesseract.processing.stream import run as run_batch
    from tesseract.storage.memory import MemoryObjects

    kind = type(getattr(stream_stage, function)())  # what the function loads, AWS's library too, is part of its memory
    event = json.loads(sys.stdin.buffer.read())
    process, configs, written = _parts(kind, decode_dataset(configuration))
    assert run_batch(event, process, configs, MemoryObjects()) == {"batchItemFailures": []}
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    print(f"{len(written):,}")


def _parts(kind: Any, dataset: Dataset) -> tuple[Any, Any, list[None]]:
    import msgspec

    from tesseract.config.cache import Configs
    from tesseract.storage.catalog import Catalog
    from tesseract.storage.dynamodb import DynamoTable
    from tesseract.storage.memory import MemoryObjects, MemoryTable
    from tesseract.utils.time_utils import utc_now

    written: list[None] = []

    class Stub:
        def call(self, operation: str, payload: dict[str, Any], *until: Any) -> dict[str, Any]:
            msgspec.json.encode(payload)
            if operation == "PutItem":
                written.append(None)
            return {"Responses": {}, "Items": []}

    class Store:
        def dataset(self, name: str, version: int | None = None) -> Dataset:
            return dataset

        def dataset_names(self) -> list[str]:
            return [dataset.name]

        def mark_used(self, name: str) -> None:
            pass

    catalog, configs = Catalog(MemoryTable("catalog"), MemoryObjects()), Configs(Store(), utc_now)
    raw, live = DynamoTable(Stub(), "raw"), DynamoTable(Stub(), "live")  # type: ignore[arg-type]
    return kind(raw, live, catalog, configs, utc_now).process, configs, written


if __name__ == "__main__":
    _child(*sys.argv[1:])
