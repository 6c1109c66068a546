"""Rows of a damaged segment of an aggregate level, made again: from raw rows; those of weeks and months from rows of days."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

import pyarrow as pa
from msgspec.structs import replace

from tesseract.config.bases import merged_levels
from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Period
from tesseract.model import Manifest, Segment, of_group
from tesseract.processing import raw_rows
from tesseract.processing.aggregator import encode_state, shown
from tesseract.processing.archive_repair import Step
from tesseract.processing.coarser import commit_merged
from tesseract.processing.segments import DAY, RAW, Partition, write_segment
from tesseract.processing.snapshots import LENGTHS, folded
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.columns import LevelRow, level_table, unify
from tesseract.storage.keys import level_partition
from tesseract.storage.newest import newest
from tesseract.utils.time_utils import from_micros, iso_seconds, to_micros


def compute(backend: Backend, catalog: Catalog, step: Step) -> Segment | None:
    """The segment of an hourly or daily level, computed from archive and buffer; None where no record of its periods is left.

    Its rows count as of the segment's window: what later windows computed goes on hiding them.
    """
    partition, segment = step.partition, step.segment
    level = _level(partition)
    stored = catalog.manifest(partition.dataset.name, partition.level, partition.name)
    tables = []
    for group in segment.groups or [partition.name]:
        first, last = segment.groups.get(group, (segment.first, segment.last))
        others = [one for one in of_group(stored, group).segments if one.key != segment.key]
        rows = _rows(
            backend, catalog, partition.dataset, level, group, range(first, last + 1, LENGTHS[level.name]), segment.window_end
        )
        kept = [row for row in rows if row.rows or _hidden(row, others)]
        if kept:
            tables.append(level_table(partition.dataset, level, group, kept))
    if not tables:
        return None
    table, _ = newest([pa.concat_tables(unify(tables))], partition.order)
    period = Period(from_micros(segment.start), from_micros(segment.end))
    return write_segment(backend.objects, partition, segment.tier, period, table, segment.window_end)


def _level(partition: Partition) -> Level:
    return next(level for level in partition.dataset.levels if level_partition(level) == partition.level)


def _rows(
    backend: Backend, catalog: Catalog, dataset: Dataset, level: Level, group: str, starts: range, order: int
) -> list[LevelRow]:
    """The rows of periods, month by month: memory is bounded."""
    manifest = catalog.manifest_of(dataset, RAW, group)  # before the buffer is read
    made = []
    days = range(starts[0] // DAY, starts[-1] // DAY + 1)
    for _, part in groupby(days, lambda day: iso_seconds(from_micros(day * DAY))[:7]):
        month = list(part)
        own = [start for start in starts if month[0] <= start // DAY <= month[-1]]
        states = folded(raw_rows.read(backend, manifest, dataset, month), level, own)
        for start in own:
            state, fields_from = states[start], level.fields_from(start)
            numbers = shown(state, level)
            made.append(LevelRow(from_micros(start), state.rows, numbers, encode_state(state), order, level.live_from, fields_from))
    return made


def _hidden(row: LevelRow, others: list[Segment]) -> bool:
    """Whether a row without records hides one of another segment."""
    start = to_micros(row.period_start)
    return any(one.first <= start <= one.last for one in others)


def merge_anew(backend: Backend, catalog: Catalog, step: Step, now: datetime) -> int:
    """Commit the rows of the segment's weeks or months anew, beside it, from a new version of their days; how many there are.

    They are newer than any there, so that the segment may go.
    """
    partition, segment = step.partition, step.segment
    dataset, level = partition.dataset, _level(partition)
    base = next(below for one, below in merged_levels(dataset) if one == level)

    def change(manifest: Manifest) -> Manifest | None:
        return replace(manifest, operation=f"repair of {partition.level}")

    catalog.commit(dataset.name, level_partition(base), partition.name, change, now)
    touched = {}
    for group in segment.groups or [partition.name]:
        first, last = segment.groups.get(group, (segment.first, segment.last))
        periods = UNITS[level.name].periods(from_micros(first), from_micros(last + 1))
        touched[group] = {to_micros(period.start) for period in periods}
    return commit_merged(backend, catalog, dataset.name, {base.name: touched}, segment.window_end, now).rows
