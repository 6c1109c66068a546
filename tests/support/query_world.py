"""A stage in memory whose records take every road from the writer on, beside a list of all writes: for laws of queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tesseract.config.cache import Configs
from tesseract.config.dataset import STATS, Dataset, Field, Level
from tesseract.config.manager import apply
from tesseract.ingestion.writer import Writer
from tesseract.model import Record
from tesseract.processing import gc
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.stream import run
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import join_group
from tesseract.storage.memory import MemoryTable
from tesseract.store import Store
from tesseract.utils.time_utils import from_micros, to_micros
from tests.support import archive_world
from tests.support.archive_world import MemoryExports, MemoryQueue
from tests.support.driver import Mapping, StreamedTable
from tests.support.keeping_world import ClockedObjects
from tests.support.query_oracle import Oracle, Write

START = datetime(2024, 3, 10, 12, 30, tzinfo=UTC)  # New York's clocks were put forward at 7:00
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAG = 40 * HOUR  # what the alarms keep: after 48 h the buffer forgets
FIELDS = {
    "f": Field("float", "f", unit="°C"),
    "i": Field("int", "i", name="amount"),
    "d": Field("decimal", "d", scale=2),
    "w": Field("int", "w", max=10**38 - 1),
    "s": Field("string", "s"),
    "t": Field("timestamp", "t"),
}


class RawTable(StreamedTable):
    """The raw table: every change is remembered for exports, a millisecond after the one before."""

    def __init__(self, world: World) -> None:
        super().__init__(lambda: world.now)
        self.world = world
        self.retention = 10_000 * DAY  # streams that lag as long as they like: what a lost record does is tested elsewhere

    def _record(self, name: str, key: Any, old: Any, new: Any, identity: Any = None) -> None:
        self.world.now += timedelta(milliseconds=1)
        super()._record(name, key, old, new, identity)
        self.world.exports.log.append((to_micros(self.world.now), *key, None if new is None else self.get(key)))


class World(archive_world.World):
    """A stage of one dataset with two group_by fields, its functions, and an oracle."""

    def __init__(self, levels: Sequence[str], revisions: str, partitions: int = 0, unknown: str = "reject") -> None:
        clock = lambda: self.now
        self.now = START
        self.raw, objects = RawTable(self), ClockedObjects(clock)
        self.backend = Backend(self.raw, MemoryTable("live"), MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        self.exports, self.queue = MemoryExports(self.backend, START), MemoryQueue()
        self.dataset = apply(self.catalog, dataset(levels, revisions, partitions, unknown), START - DAY).dataset
        self.catalog.mark_used(self.dataset.name)
        configs = Configs(self.catalog, clock)
        self.writer = Writer(self.raw, self.backend.live, clock)
        aggregates = AggregateProcessor(self.raw, self.backend.live, self.catalog, configs, clock)
        latest = LatestProcessor(self.raw, self.backend.live, self.catalog, configs, clock)
        self.mappings = [
            Mapping(self.raw, lambda event, process=function.process: run(event, process, configs, objects), batch_size=20)
            for function in (aggregates, latest)
        ]
        self.store = Store(self.backend, "test", clock)
        self.oracle = Oracle(self.dataset.by_ref_time, self.dataset.group_by, {k: f.name or k for k, f in FIELDS.items()})
        self.states: list[tuple[datetime, datetime, int]] = []  # (moment, end of the last window, writes) of whole states

    # what happens -------------------------------------------------------------------------------------------------------------

    def write(self, writes: Sequence[Write]) -> None:
        """Records and tombstones in one call; acknowledged when it ends."""
        self.now += timedelta(seconds=1)
        records = [Record(join_group(w.group), w.time, w.ref, {} if w.deleted else w.fields, w.deleted) for w in writes]
        assert self.writer.write(self.dataset, enumerate(records), self.now + HOUR / 4) == []
        self.oracle.log += writes

    def drain(self) -> None:
        """The stream functions catch up."""
        for mapping in self.mappings:
            mapping.drain()

    def whole(self) -> None:
        """Everything to the archive, and snapshot: a state to come back to."""
        self.archive()
        self.snapshot()
        self.now += timedelta(seconds=1)
        self.states.append((self.now, from_micros(self.catalog.progress().archived_through), len(self.oracle.log)))
        self.now += timedelta(seconds=1)

    def pass_time(self, step: timedelta) -> None:
        """Time passes, and the buffer forgets; not before everything is archived."""
        if self.now + step - from_micros(self.catalog.progress().archived_through or to_micros(START)) > LAG:
            self.archive()
        self.now += step
        self.raw.expire(self.now)

    def collect_garbage(self) -> None:
        gc.collect(self.catalog, self.backend.objects, [self.dataset], self.now)


def dataset(levels: Sequence[str], revisions: str, partitions: int, unknown: str) -> Dataset:
    """A dataset of all kinds of fields, with all statistics at each level."""
    return Dataset(
        name="plant",
        version=1,
        group_by=("site", "unit"),
        time_field="time",
        ref_time_field="refTime",
        unknown_fields=unknown,  # type: ignore[arg-type]
        buffer_ttl_hours=24,
        ladder=("daily", "monthly", "yearly"),
        levels=tuple(Level(name, dict.fromkeys(STATS, ())) for name in levels),
        fields=FIELDS,
        max_future_seconds=2 * 86400,
        revisions=revisions,  # type: ignore[arg-type]
        partitions=partitions,
        history="P30D",
    )
