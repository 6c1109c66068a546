"""The peak of a fresh process that scans a year of readings once a second, all fields, batch by batch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.query_samples import EACH_SECOND, YEAR, sensor
from benchmarks.query_servers import bucket
from benchmarks.query_stage import Stage, store
from tesseract.storage import aws

ROOT = Path(__file__).resolve().parents[1]
END = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 365 * 86_400
LIMIT = 300  # MB


def figure(stage: Stage) -> Figure:
    """The peak, and how fast it was."""
    environment = {**os.environ, "AWS_ENDPOINT_URL": stage.s3, "AWS_ENDPOINT_URL_DYNAMODB": stage.dynamodb}
    command = [sys.executable, "-m", "benchmarks.query_scan", stage.name]
    out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True).stdout.split()
    rows, seconds, peak = int(out[0]), float(out[1]), float(out[2])
    assert rows == SECONDS
    told = f"{rows / seconds / 1e6:.1f} M rows/s, all five fields; VmHWM of a fresh process"
    return Figure("memory: a scan of a year of 1 Hz", peak, "MB", told, bar=LIMIT)


def _child(stage: str) -> None:
    reader, begun = store(aws.backend(stage, bucket(stage))), time.perf_counter()
    rows = sum(len(batch) for batch in reader.scan(EACH_SECOND.name, sensor(0), YEAR, END))
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    print(rows, seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    _child(sys.argv[1])
