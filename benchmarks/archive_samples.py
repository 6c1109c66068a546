"""What the archive's benchmarks share: a seeded 1 Hz generator of raw rows as columns, and a bucket that is a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from tesseract.config.dataset import Dataset, Field
from tesseract.errors import NotFoundError
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.base import ObjectInfo
from tesseract.storage.columns import CONFIG_VERSION, DELETED, WRITE_TIME
from tesseract.utils.time_utils import to_micros

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86_400
DATASET = Dataset(
    name="d",
    version=1,
    group_by=("sensorId",),
    time_field="validTime",
    ref_time_field="refTime",
    unknown_fields="keep",
    buffer_ttl_hours=168,
    ladder=("daily", "monthly"),
    levels=(),
    fields={
        "temp": Field("float", "temp"),
        "hum": Field("decimal", "hum", scale=2),
        "wind": Field("int", "wind"),
        "pressure": Field("float", "pressure"),
        "state": Field("string", "state"),
    },
)


def day(sensor: int, number: int) -> pa.Table:
    """A sensor's day of readings, one a second: slow walks with the digits of a cheap sensor, written about 0.2 s later."""
    dice = np.random.Generator(np.random.PCG64([sensor, number]))
    seconds = to_micros(START + timedelta(days=number)) + 1_000_000 * np.arange(DAY)
    return rows(sensor, seconds, seconds + dice.integers(50_000, 400_000, DAY), dice)


def rows(sensor: int, times: np.ndarray, written: np.ndarray, dice: np.random.Generator, every: int = 1) -> pa.Table:
    """Readings at `times` (µs), one in `every` seconds, written at `written`, in the columns of a raw segment."""
    count = len(times)
    temp, hum, pressure = (_walk(dice, count, start, every) for start in (1500, 5500, 101_300))
    pairs = np.stack([hum, hum >> 63], axis=1).astype("<i8")  # 128 bits
    columns = {
        "sensorId": pa.repeat(pa.scalar(f"s-{sensor:04}"), count),
        "valid_time": pa.array(times).cast(TIMESTAMP),
        "ref_time": pa.nulls(count, TIMESTAMP),
        "temp": pa.array(temp / 100),
        "hum": pa.Array.from_buffers(pa.decimal128(38, 2), count, [None, pa.py_buffer(pairs.tobytes())]),
        "wind": pa.array(np.abs(_walk(dice, count, 0, every)) % 40),
        "pressure": pa.array(pressure / 100),
        "state": pa.array(np.array(["off", "on"])[_walk(dice, count, 0, every) // 64 % 2].tolist()),
        WRITE_TIME: pa.array(written).cast(TIMESTAMP),
        DELETED: pa.repeat(pa.scalar(False), count),
        CONFIG_VERSION: pa.repeat(pa.scalar(1, pa.int32()), count),
    }
    return pa.table(columns)


def _walk(dice: np.random.Generator, count: int, start: int, every: int) -> np.ndarray:
    """Whole numbers that mostly stay within a second, and else go up or down by one: as they are after `every` seconds each."""
    if every == 1:
        steps: np.ndarray = dice.choice(np.array([-1, 0, 0, 0, 1]), count)
    else:
        steps = dice.normal(0, (0.4 * every) ** 0.5, count).round().astype(int)
    return start + steps.cumsum()


class Folder:
    """A bucket that is a folder: what it stores is not the process's memory. `written` counts bytes under `archive/`."""

    def __init__(self, root: Path) -> None:
        self.root, self.written = root, 0

    def _path(self, key: str) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _count(self, key: str, size: int) -> None:
        self.written += size if key.startswith("archive/") else 0

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self.open(key) as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except FileNotFoundError:
            raise NotFoundError("there is no such object", operation="get", key=key) from None

    def put(self, key: str, body: bytes) -> None:
        self._path(key).write_bytes(body)
        self._count(key, len(body))

    def upload(self, key: str, path: Path) -> None:
        shutil.copyfile(path, self._path(key))
        self._count(key, path.stat().st_size)

    def download(self, key: str, path: Path) -> None:
        shutil.copyfile(self._path(key), path)

    def uri(self, key: str) -> str:
        return str(self._path(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for path in sorted((self.root / prefix).parent.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix):
                yield ObjectInfo(key, path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
