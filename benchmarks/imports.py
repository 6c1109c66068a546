"""The cold start of a function: importing its handler in a fresh interpreter, against `import boto3`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure, medians

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 9
MODULES = ("ingestion.http_api", "ingestion.kinesis_stream", "stream_processors.aggregates", "stream_processors.latest")
ENVIRONMENT = {"TESSERACT_STAGE": "dev", "TESSERACT_BUCKET": "tesseract-dev-1-archive", "AWS_DEFAULT_REGION": "us-east-1"}


def run() -> Iterator[Figure]:
    """Interpreter start is part of both sides, as it is of a cold start."""
    handlers = [_fresh(f"import {module}") for module in MODULES]
    ready, peer = _fresh("import ingestion.http_api as f; f.service()"), _fresh("import boto3; boto3.client('dynamodb')")
    boto3, *times, ready_time, peer_time = medians(ROUNDS, _fresh("import boto3"), *handlers, ready, peer)
    for module, seconds in zip(MODULES, times, strict=True):
        yield Figure(f"import {module}", seconds / boto3, "×", f"{_ms(seconds)}; import boto3 {_ms(boto3)}", bar=1.5)
    against = f"{_ms(ready_time)}; boto3 with its client of DynamoDB {_ms(peer_time)}"
    yield Figure("ingestion.http_api ready for a request", ready_time / peer_time, "×", against)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _fresh(statement: str) -> Callable[[], float]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}

    def measure() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], cwd=ROOT, env=kept | keys | ENVIRONMENT, check=True)
        return time.perf_counter() - started

    return measure
