"""Commits one data file of an export to the manifests of the partitions that it touches: the worker's task.

The file is decoded in chunks, two at once. What is held is bounded: when it grows beyond a budget it is written as segments, which
no manifest names until the whole file has turned out to be what the export's manifest says; those of an attempt that fails before
are orphans. Running a task again, out of order, or after its window has closed changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.errors import RetryError
from tesseract.model import Manifest, Segment, Window
from tesseract.processing import touched as notes
from tesseract.processing.collector import Task, close_if_done
from tesseract.processing.export_tables import Known, Name, decode_file
from tesseract.processing.segments import RAW, REVISIONS, THREADS, VALID_TIME, Partition, added, is_committed, write_rows
from tesseract.processing.touched import HOUR, Touched
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import WRITE_TIME
from tesseract.storage.exports import export_id
from tesseract.storage.keys import touched_object
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros

BUDGET = 64 << 20  # bytes of columns that are held; sorting and writing takes as much again
SPILLERS = 2  # chunks are decoded meanwhile: more would take more memory


@dataclass(frozen=True)
class Done:
    """What a task did. `outcome` is `committed`; `superseded` where another export replaced the task's; `late` where its window is
    closed: all of it is archived, and its file may be gone."""

    outcome: str
    rows: int = 0
    partitions: int = 0
    commits: int = 0  # those that changed a manifest
    window_closed: bool = False


@dataclass
class _Gathered:
    """What has come of one partition: columns that are held, and segments written."""

    partition: Partition
    tables: list[pa.Table] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    rows: int = 0


@dataclass
class _Work:
    """A task on its way."""

    catalog: Catalog
    objects: Objects
    task: Task
    window: Window
    partitions: dict[tuple[str, str, str], _Gathered] = field(default_factory=dict)
    hours: Touched = field(default_factory=lambda: defaultdict(set))
    last_write: int = 0
    held: int = 0

    def dataset(self, name: str) -> Dataset:
        """A configuration, whatever its newest version."""
        dataset = self.catalog.sound(name)  # a damaged version must not hold up the rows of all other datasets
        if dataset is None:
            hint = "rows of a dataset that the catalog does not know: is it another stage's?"
            raise RetryError(hint, operation="archive", key=name)
        return dataset

    def take(self, tables: Mapping[Name, tuple[Dataset, pa.Table]]) -> None:
        """Hold the rows of a chunk; write what is held when it is more than the budget."""
        for name, (dataset, table) in tables.items():
            partition = Partition.of(dataset, REVISIONS if name.history else RAW, name.group)
            key = (dataset.name, partition.level, partition.name)
            gathered = self.partitions.setdefault(key, _Gathered(partition))
            gathered.tables.append(table)
            gathered.rows += len(table)
            self.held += table.nbytes
            if not name.history:  # a revision kept concerns no aggregate
                hours = pc.unique(pc.divide(pc.floor_temporal(table[VALID_TIME], unit="hour").cast(pa.int64()), HOUR))
                self.hours[dataset.name, name.group].update(hours.to_pylist())
                self.last_write = max(self.last_write, pc.max(table[WRITE_TIME].cast(pa.int64())).as_py())
        if self.held > BUDGET:
            with ThreadPoolExecutor(SPILLERS) as pool:
                list(pool.map(self.spill, self.in_order()))
            self.held = 0

    def in_order(self) -> list[_Gathered]:
        """What has come of each partition."""
        return [self.partitions[key] for key in sorted(self.partitions)]

    def spill(self, gathered: _Gathered) -> None:
        """Hold no rows of a partition any more."""
        if self.committed(gathered):
            gathered.tables = []
        self.write(gathered)

    def write(self, gathered: _Gathered) -> None:
        """Write what is held of a partition as segments."""
        if gathered.tables:
            table, _ = newest(gathered.tables, gathered.partition.order)
            gathered.segments += write_rows(self.objects, gathered.partition, table, self.window.end)
            gathered.tables = []

    @property
    def commit(self) -> str:
        """What manifests remember the task by."""
        return f"{self.task.window}/{self.task.export}/{self.task.file}"

    def committed(self, gathered: _Gathered) -> bool:
        """Whether the task was delivered before, or comes too late: its objects need not even be written."""
        return is_committed(self.catalog, gathered.partition, self.commit, self.window.end)

    def finish(self, gathered: _Gathered, now: datetime) -> bool:
        """Commit a partition's rows; False where they have been before."""
        if self.committed(gathered):
            return False
        self.write(gathered)
        partition, commit, end = gathered.partition, self.commit, self.window.end
        through = self.catalog.progress().archived_through
        operation = f"archive {gathered.rows} rows of window {self.window.id}"

        def change(manifest: Manifest) -> Manifest | None:
            return added(manifest, gathered.segments, commit, end, through, operation)

        return self.catalog.commit(partition.dataset.name, partition.level, partition.name, change, now) is not None


def run(catalog: Catalog, objects: Objects, task: Task, now: datetime) -> Done:
    """Commit the rows of a task's file, one commit per partition, several at once, and close the window with its last file.

    Raises DamagedError where the file is not what its manifest says: nothing of it is committed then. Raises RetryError where
    a row's dataset is not in the catalog.
    """
    window = catalog.window(task.window)
    if window is None:
        raise RetryError("the task's window is not in the catalog", operation="archive", key=task.window)
    if export_id(window.export_arn) != task.export:
        return Done("superseded")
    if window.state == "closed":
        return Done("late", window_closed=True)
    work = _Work(catalog, objects, task, window)
    moment = from_micros(task.write_time) if task.write_time else None
    with objects.open(task.key) as stream:
        for tables in decode_file(stream, task.key, task.md5, task.items, Known(work.dataset), moment):
            work.take(tables)
    with ThreadPoolExecutor(THREADS) as pool:  # most of a commit is waiting, and the rest runs on all cores
        commits = sum(pool.map(partial(work.finish, now=now), work.in_order()))
    # before the file counts as finished: the snapshots of a closed window find every note
    notes.write(objects, touched_object(task.window, task.export, task.file), work.hours)
    rows: Counter[str] = Counter()
    for gathered in work.in_order():
        rows[gathered.partition.dataset.name] += gathered.rows
    catalog.finish_file(window.id, task.export, task.file, rows.total(), work.last_write, rows)
    return Done("committed", rows.total(), len(work.partitions), commits, close_if_done(catalog, window.id, now))
