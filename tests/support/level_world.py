"""A stage in memory whose records take every road: stream, buffer, TTL, export, archive, snapshots, compaction; and an oracle."""

from __future__ import annotations

import math
import statistics
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from tesseract.config.cache import Configs
from tesseract.config.dataset import STATS, Dataset, Field, Level
from tesseract.config.manager import apply
from tesseract.config.tiers import LEVELS, UNITS
from tesseract.model import FieldValue, Record
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.stream import run
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.items import raw_item
from tesseract.storage.keys import days_pk
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import iso_day, iso_micros, to_micros
from tests.support import archive_world
from tests.support.archive_world import START, MemoryExports, MemoryQueue, weather
from tests.support.driver import Mapping, StreamedTable

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = dict.fromkeys(STATS, ())
FIELDS = {
    "f": Field("float", "f"),
    "i": Field("int", "i"),
    "d": Field("decimal", "d", scale=2, unit="€"),
    "w": Field("int", "w", max=10**38 - 1),
    "s": Field("string", "s"),
    "b": Field("bool", "b"),
    "t": Field("timestamp", "t"),
    "e": Field("string", "e", enum=("on", "off")),
}
NUMBERS = ("f", "i", "d", "w")


def plant(*levels: str, **changes: object) -> Dataset:
    """A dataset with a field of every type and the named levels (default: all) of all statistics."""
    kept = tuple(Level(name, dict(ALL)) for name in levels or LEVELS)
    return weather(fields=FIELDS, levels=kept, buffer_ttl_hours=24, **changes)


class World(archive_world.World):
    """A stage with its stream functions. `written` is what is visible: (group, time) → values as an item holds them."""

    def __init__(self, dataset: Dataset, start: datetime = START) -> None:
        clock = lambda: self.now
        self.now = start
        self.raw = StreamedTable(clock)
        self.raw.retention = 10_000 * DAY  # streams that lag as long as they like: what a lost record does is tested elsewhere
        objects = self.bucket()
        self.backend = Backend(self.raw, MemoryTable("live"), MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        self.exports, self.queue = MemoryExports(self.backend, start), MemoryQueue()
        self.dataset = apply(self.catalog, dataset, start - DAY).dataset
        self.catalog.mark_used(dataset.name)
        self.written: dict[tuple[str, datetime], dict[str, FieldValue]] = {}
        configs = Configs(self.catalog, clock)
        aggregates = AggregateProcessor(self.backend.raw, self.backend.live, self.catalog, configs, clock)
        latest = LatestProcessor(self.raw, self.backend.live, self.catalog, configs, clock)
        self.mappings = [
            Mapping(self.raw, lambda event, process=function.process: run(event, process, configs, objects), batch_size=50)
            for function in (aggregates, latest)
        ]
        self.store = Store(self.backend, "test", clock)

    def bucket(self) -> MemoryObjects:
        """Where its objects lie."""
        return MemoryObjects()

    def put(self, group: str, at: datetime, fields: dict[str, FieldValue] | None = None, deleted: bool = False) -> None:
        """A write now, by the writer's rule of day marks."""
        self.now += timedelta(milliseconds=1)
        if UNITS["daily"].floor(at) + DAY <= self.now - DAY - timedelta(minutes=15):
            mark = {"pk": days_pk(self.dataset.name, group), "sk": iso_day(at), "marked_at": to_micros(self.now)}
            self.backend.live.put(mark)
        item = raw_item(self.dataset, Record(group, at, None, fields or {}, deleted), self.now)
        self.raw.put(item)
        self.exports.log.append((to_micros(self.now), item["pk"], item["sk"], item))
        if deleted:
            self.written.pop((group, at), None)
        else:
            self.written[group, at] = fields or {}

    def drain(self) -> None:
        """The stream functions catch up."""
        for mapping in self.mappings:
            mapping.drain()

    def pass_time(self, step: timedelta) -> None:
        """Time passes, and the buffer forgets what has expired."""
        self.now += step
        self.raw.expire(self.now)

    def settle(self) -> None:
        """Everything to the archive, and the buffer empty."""
        self.pass_time(timedelta(seconds=2))
        self.archive()
        self.snapshot()
        self.pass_time(5 * DAY)
        self.archive()
        self.snapshot()
        assert not list(self.raw.items())

    # the oracle -------------------------------------------------------------------------------------------------------------

    def raw_rows(self, group: str) -> list[dict[str, object]]:
        """The raw rows that a query must give."""
        return [
            {"station": name, "valid_time": at, "ref_time": None, **{f: shown(f, values.get(f)) for f in self.dataset.fields}}
            for (name, at), values in sorted(self.written.items())
            if name == group
        ]

    def level_rows(self, level: str, group: str, start: datetime, end: datetime) -> list[dict[str, object]]:
        """The rows of a level, by plain recomputation."""
        unit = UNITS[level]
        periods: dict[datetime, list[dict[str, FieldValue]]] = {}
        for (name, at), values in sorted(self.written.items()):
            if name == group and start <= unit.floor(at) < end:
                periods.setdefault(unit.floor(at), []).append(values)
        return [
            {"station": group, "period_start": at, "rows": len(own)}
            | {f"{name}_{stat}": value for name in NUMBERS for stat, value in recomputed(name, own).items()}
            for at, own in periods.items()
        ]

    def check_level(self, level: str, group: str, start: datetime, end: datetime) -> None:
        """A level's rows are those of a recomputation: to the last digit, `avg` and `std` to 1e-12."""
        found = self.store.query(self.dataset.name, group, start, end, level=level).to_pylist()
        wanted = self.level_rows(level, group, start, end)
        assert [row["period_start"] for row in found] == [row["period_start"] for row in wanted]
        for row, expected in zip(found, wanted, strict=True):
            assert row.keys() == expected.keys()
            for name, value in expected.items():
                near = name.endswith(("_avg", "_std")) and value is not None and row[name] is not None
                assert math.isclose(row[name], value, rel_tol=1e-12) if near else row[name] == value, (level, name, row, expected)


def shown(field: str, value: FieldValue | None) -> object:
    """A stored value as results show it."""
    if value is None:
        return None
    if field == "t":
        return datetime.fromisoformat(str(value))
    return float(value) if field == "f" else value


def stored_time(moment: datetime) -> str:
    """A timestamp as items hold it."""
    return iso_micros(moment)


def recomputed(name: str, rows: list[dict[str, FieldValue]]) -> dict[str, object]:
    """The statistics of a field over rows in order of time."""
    values = [row[name] for row in rows if name in row]
    if not values:
        return {stat: 0 if stat == "count" else None for stat in STATS}
    exact = [Fraction(value) for value in values]  # type: ignore[arg-type]
    total = sum(exact)
    number = lambda value: float(value) if name == "f" else Decimal(f"{int(value * 100)}E-2") if name == "d" else value
    digits = total * 100 if name == "d" else total
    return {
        "count": len(values),
        "sum": float(total) if name == "f" else None if abs(digits) >= 10**38 else number(total),
        "avg": float(total / len(values)),
        "std": float(statistics.stdev(exact)) if len(values) > 1 else None,
        "min": number(min(exact)),
        "max": number(max(exact)),
        "first": number(exact[0]),
        "last": number(exact[-1]),
    }
