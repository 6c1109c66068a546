"""Commits one data file of an export to the manifests of the partitions that it touches: the worker's task.

Running a task again, out of order, or after its window has closed changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import RetryError
from tesseract.model import Window
from tesseract.processing import touched as notes
from tesseract.processing.collector import Task, close_if_done
from tesseract.processing.export_lines import Line, decode
from tesseract.processing.segments import RAW, REVISIONS, VALID_TIME, Partition, commit_rows, is_committed, micros
from tesseract.processing.touched import HOUR, Touched
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import WRITE_TIME, RawRow, raw_table, unify
from tesseract.storage.exports import export_id
from tesseract.storage.keys import touched_object
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros

CHUNK = 20_000  # rows of a partition held as Python objects; beyond, they are kept as columns, a tenth of the size


@dataclass(frozen=True)
class Done:
    """What a task did. `outcome` is `committed`, or `superseded` where another export replaced the task's."""

    outcome: str
    rows: int = 0
    partitions: int = 0
    commits: int = 0  # those that changed a manifest
    window_closed: bool = False


@dataclass
class _Gathered:
    """Rows of one group on their way to columns."""

    partition: Partition
    group: str
    rows: list[RawRow] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)

    def add(self, row: RawRow) -> None:
        self.rows.append(row)
        if len(self.rows) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.tables.append(raw_table(self.partition.dataset, self.group, self.rows))
            self.rows = []

    def table(self) -> pa.Table:
        """All rows, as they came."""
        self.flush()
        return pa.concat_tables(unify(self.tables))


def run(catalog: Catalog, objects: Objects, task: Task, now: datetime) -> Done:
    """Commit the rows of a task's file, one commit per partition, and close the window with its last file.

    Raises DamagedError where the file is not what its manifest says: nothing of it is committed then. Raises RetryError where
    a row's dataset is not in the catalog.
    """
    window = catalog.window(task.window)
    if window is None:
        raise RetryError("the task's window is not in the catalog", operation="archive", key=task.window)
    if export_id(window.export_arn) != task.export:
        return Done("superseded")
    partitions = _gather(catalog, _lines(objects, task))
    commits, count, rows, last = 0, 0, 0, 0
    hours: Touched = {}
    for partition, together in groupby(partitions, lambda gathered: gathered.partition):
        tables = []
        for gathered in together:
            table = gathered.table()
            if partition.level == RAW:  # a revision kept concerns no aggregate
                hours[partition.dataset.name, gathered.group] = {time // HOUR for time in micros(table, VALID_TIME)}
                last = max(last, *micros(table, WRITE_TIME))
            tables.append(table)
        rows += sum(map(len, tables))
        count += 1
        table, _ = newest(tables, partition.order)
        commits += _commit(catalog, objects, partition, table, task, window, now)
    _note(objects, task, hours)
    catalog.finish_file(window.id, task.export, task.file, rows, last)
    return Done("committed", rows, count, commits, close_if_done(catalog, window.id, now))


def _lines(objects: Objects, task: Task) -> Iterator[Line]:
    moment = from_micros(task.write_time) if task.write_time else None
    with objects.open(task.key) as stream:
        yield from decode(stream, task.key, task.md5, task.items, moment)


def _gather(catalog: Catalog, lines: Iterable[Line]) -> list[_Gathered]:
    datasets: dict[str, Dataset] = {}
    partitions: dict[tuple[str, str, str], _Gathered] = {}
    for dataset, group, row, history in lines:
        level = REVISIONS if history else RAW
        gathered = partitions.get((dataset, group, level))
        if gathered is None:
            if dataset not in datasets:
                datasets[dataset] = _dataset(catalog, dataset)
            gathered = partitions[dataset, group, level] = _Gathered(Partition.of(datasets[dataset], level, group), group)
        gathered.add(row)
    return sorted(
        partitions.values(), key=lambda found: (found.partition.dataset.name, found.partition.level, found.partition.name)
    )


def _dataset(catalog: Catalog, name: str) -> Dataset:
    dataset = catalog.sound(name)  # a damaged version must not hold up the rows of all other datasets
    if dataset is None:
        raise RetryError("rows of a dataset that the catalog does not know: is it another stage's?", operation="archive", key=name)
    return dataset


def _commit(
    catalog: Catalog, objects: Objects, partition: Partition, table: pa.Table, task: Task, window: Window, now: datetime
) -> bool:
    commit = f"{task.window}/{task.export}/{task.file}"
    if is_committed(catalog, partition, commit, window.end):
        return False  # delivered again: the objects need not even be written
    through = catalog.progress().archived_through
    operation = f"archive {len(table)} rows of window {window.id}"
    return commit_rows(catalog, objects, partition, table, commit, window.end, through, operation, now)


def _note(objects: Objects, task: Task, hours: Touched) -> None:
    # before the file counts as finished: the snapshots of a closed window find every note
    notes.write(objects, touched_object(task.window, task.export, task.file), hours)
