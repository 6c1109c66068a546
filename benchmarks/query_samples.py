"""The data of the query benchmarks, made once and kept under the temporary folder: segments, their manifests, and raw items.

`fleet`: 1,000 sensors once a minute for a month, a monthly file each. `second`: one sensor once a second for the year 2025, a
monthly file each month, no level kept. `kept`: the hourly values of one sensor for that year. `plant`: three hours of today in the
buffer, of one sensor once a second and of another once a minute, and their latest values.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.archive_samples import DATASET, START, Folder, rows
from tesseract.config.dataset import STATS, Dataset, Level
from tesseract.config.tiers import UNITS
from tesseract.model import Item, Manifest, Record
from tesseract.processing.aggregator import encode_state, fold_all, shown
from tesseract.processing.segments import Partition, write_segment
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table
from tesseract.storage.items import raw_item
from tesseract.storage.keys import latest_key, partitions_pk
from tesseract.utils.time_utils import iso_micros, to_micros

FOLDER = Path(tempfile.gettempdir()) / "tesseract-bench-query-1"  # another number where the data change
MANIFESTS = "manifests.json"
TODAY = datetime(2026, 4, 2, tzinfo=UTC)
NOW = TODAY + timedelta(hours=3)
YEAR = datetime(2025, 1, 1, tzinfo=UTC)
DAYS, SENSORS, HOURS = 30, 1000, 3
SECOND, MINUTE = "s-0000", "s-0001"  # the sensors of `plant`
HOUR = 3_600_000_000  # µs
ALL = dict.fromkeys(STATS, ())
LADDER = ("daily", "monthly", "yearly")


def dataset(name: str, *levels: str) -> Dataset:
    """Five fields, one group_by; the levels keep all statistics."""
    kept = tuple(Level(level, dict(ALL)) for level in levels)
    return msgspec.structs.replace(DATASET, name=name, unknown_fields="reject", ladder=LADDER, levels=kept)


FLEET, EACH_SECOND, KEPT, PLANT = dataset("fleet"), dataset("second"), dataset("kept", "hourly"), dataset("plant")


def sensor(number: int) -> str:
    """The group of a sensor of the fleet."""
    return f"s-{number:04}"


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of data: made now where it is not there."""
    folder = FOLDER / name
    if not folder.exists():
        print(f"the data of {name} are made, once")
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(folder)
    return folder


def made(of: Dataset) -> Path:
    """The folder with the archive of a dataset."""

    def make(folder: Path) -> None:
        manifests = list(_ARCHIVES[of.name](Folder(folder)))
        (folder / MANIFESTS).write_bytes(msgspec.json.encode(manifests))

    return once(of.name, make)


def _fleet(objects: Folder) -> Iterator[Manifest]:
    times = to_micros(START) + 60_000_000 * np.arange(DAYS * 1440)
    for number in range(SENSORS):
        dice = np.random.Generator(np.random.PCG64([number]))
        yield _manifest(objects, FLEET, "raw", number, [rows(number, times, times + 200_000, dice, 60)])


def _second(objects: Folder) -> Iterator[Manifest]:
    yield _manifest(objects, EACH_SECOND, "raw", 0, (_month(month) for month in range(12)))


def _month(month: int) -> pa.Table:
    dice = np.random.Generator(np.random.PCG64([month, 1]))
    first, last = (to_micros(datetime(2025 + at // 12, at % 12 + 1, 1, tzinfo=UTC)) for at in (month, month + 1))
    times = np.arange(first, last, 1_000_000)
    return rows(0, times, times + dice.integers(50_000, 400_000, len(times)), dice)


def _kept(objects: Folder) -> Iterator[Manifest]:
    """Hours of a reading a minute."""
    dice, level, found = np.random.Generator(np.random.PCG64([7])), KEPT.levels[0], []
    for hour in range(365 * 24):
        start = YEAR + timedelta(hours=hour)
        records = records_of(KEPT, rows(0, to_micros(start) + HOUR // 60 * np.arange(60), np.zeros(60, np.int64), dice, 60))
        state = fold_all((to_micros(record.valid_time) - to_micros(start), record.fields) for record in records)
        found.append(LevelRow(start, state.rows, shown(state, level), encode_state(state), 1, None))
    yield _manifest(objects, KEPT, level.name, 0, [level_table(KEPT, level, sensor(0), found)], tier="yearly")


_ARCHIVES = {"fleet": _fleet, "second": _second, "kept": _kept}


def _manifest(objects: Folder, of: Dataset, level: str, number: int, tables: Iterable[pa.Table], tier: str = "monthly") -> Manifest:
    """The manifest of a partition that has each table as one segment."""
    partition = Partition(of, level, sensor(number))
    segments = []
    for table in tables:
        period = UNITS[tier].period(table[partition.time_column][0].as_py())
        segments.append(write_segment(objects, partition, tier, period, table, to_micros(TODAY)))
    return Manifest(of.name, level, partition.name, 1, tuple(segments), closed_through=to_micros(TODAY), operation="bench")


def load(backend: Backend, *wanted: Dataset) -> None:
    """Bring datasets into a stage that is new: configurations, archives, buffer, watermarks."""
    catalog = Catalog(backend.catalog, backend.objects)
    for what in ("archived", "snapshot"):
        catalog.advance(what, to_micros(TODAY))
    for of in wanted:
        catalog.put_dataset(of, YEAR - timedelta(days=1))
        if of.name in _ARCHIVES:
            _archive(backend, catalog, made(of))
        else:
            _buffer(backend)


def _archive(backend: Backend, catalog: Catalog, folder: Path) -> None:
    manifests = msgspec.json.decode((folder / MANIFESTS).read_bytes(), type=list[Manifest])

    def upload(key: str) -> None:
        backend.objects.put(key, (folder / key).read_bytes())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, [segment.key for manifest in manifests for segment in manifest.segments]))
        list(pool.map(catalog.restore, manifests))
    backend.catalog.put_many({"pk": partitions_pk(one.dataset, one.level), "sk": one.group} for one in manifests)


def _buffer(backend: Backend) -> None:
    """`plant`: today's readings, the latest values as the stream function leaves them."""
    for number, (group, every) in enumerate({SECOND: 1, MINUTE: 60}.items()):
        found = readings(number, every)
        assert not backend.raw.put_many(raw_item(PLANT, record, NOW) for record in found)
        pk, sk = latest_key(PLANT.name, group)
        last = found[-1]
        at = iso_micros(last.valid_time)
        backend.live.put({"pk": pk, "sk": sk, "version": 1, "updated_at": at, "valid_time": at, "fields": last.fields})


def readings(number: int, every: int) -> list[Record]:
    """The records of the hours before NOW, one in `every` seconds."""
    times = to_micros(TODAY) + 1_000_000 * np.arange(0, HOURS * 3600, every)
    return records_of(PLANT, rows(number, times, times, np.random.Generator(np.random.PCG64([number, 2])), every))


def records_of(of: Dataset, table: pa.Table) -> list[Record]:
    """The rows of the generator as records."""
    names = list(of.fields)
    return [
        Record(row["sensorId"], row["valid_time"], None, {name: _value(row[name]) for name in names if row[name] is not None})
        for row in table.to_pylist()
    ]


def _value(value: Any) -> Any:
    """As an item holds it: whole numbers are integers, and no number ends in a zero after its point."""
    if isinstance(value, float | Decimal):
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        return int(exact) if exact == int(exact) else exact.normalize()
    return value


def items() -> list[Item]:
    """The raw items of the sensor that reads once a second."""
    return [raw_item(PLANT, record, NOW) for record in readings(0, 1)]
