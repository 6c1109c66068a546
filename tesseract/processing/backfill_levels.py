"""Aggregate rows of backfilled periods: from the unit's own rows where nothing else lies on their day, else from all raw rows.

The rows are those of a snapshot: the exact state beside the plain numbers, one row per period that has a record of the unit. A
period that is left with no visible record gets a row that says so, and hides an older one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.model import Manifest, of_group
from tesseract.processing import raw_rows
from tesseract.processing.aggregator import Fields, State, encode_state, fold_all, identity, merge, shift, shown
from tesseract.processing.backfill_commit import DAY
from tesseract.processing.backfill_runs import PERIOD, Unit, current_rows, stretches
from tesseract.processing.live_item import live_levels
from tesseract.processing.raw_rows import Values
from tesseract.processing.segments import VALID_TIME, micros
from tesseract.processing.snapshots import LENGTHS
from tesseract.storage.arrow_types import exact, is_number
from tesseract.storage.base import Backend
from tesseract.storage.columns import LevelRow, level_table
from tesseract.storage.keys import join_group
from tesseract.utils.time_utils import from_micros

_DAY = "__day"
READ_ROWS = 200_000  # raw rows that are read at once where others lie on the same days
Records = list[tuple[int, Values]]  # time (µs) and numbers, in order
States = dict[str, dict[int, State]]  # level → period start (µs) → state


class Part(NamedTuple):
    """The rows of one group in one segment's period, level by level."""

    period: int  # start of the segment's period, µs
    group: str
    rows: dict[str, pa.Table]


def level_rows(
    backend: Backend, dataset: Dataset, unit: Unit, direct: Mapping[str, set[int]], manifest: Manifest, moment: int, order: int
) -> Iterator[Part]:
    """The rows of every level for the periods that have a record of the unit on a day of `direct`, in the order of the unit.

    `manifest` is that of the unit's partition, with its rows in it; `moment` is the window end of their segments.
    """
    levels = live_levels(dataset)
    for (period, group), days in groupby(_days(dataset, unit, direct) if levels else (), lambda found: found[:2]):
        states: States = {level.name: {} for level in levels}
        shared = _Shared()
        archived = of_group(manifest, group)
        others = [segment for segment in archived.segments if segment.window_end != moment]
        for _, _, day, records in days:
            if any(part.first < (day + 1) * DAY and part.last >= day * DAY for part in others):
                shared.add(day, records, levels)
            else:
                _add(states, levels, records)
        _add_shared(backend, dataset, archived, levels, shared, states)
        yield Part(period, group, {level.name: _table(dataset, level, group, states[level.name], order) for level in levels})


class _Shared:
    """Days on which others lie, too: for each, the starts of the periods that have records of the unit, by level."""

    def __init__(self) -> None:
        self.starts: dict[int, dict[str, set[int]]] = {}
        self._counts: dict[int, int] = {}
        self.most = 1  # records of a day

    def add(self, day: int, records: Records, levels: Sequence[Level]) -> None:
        """Note records of a day, which may come in parts; they are read again together with the others."""
        own = self.starts.setdefault(day, {level.name: set() for level in levels})
        for level in levels:
            own[level.name].update(at // LENGTHS[level.name] * LENGTHS[level.name] for at, _ in records)
        self._counts[day] = self._counts.get(day, 0) + len(records)
        self.most = max(self.most, self._counts[day])


def _add(states: States, levels: Sequence[Level], records: Records) -> None:
    """Fold more records into the states of their periods. A level that covers what a finer one does is merged from it."""
    folded: list[tuple[Level, dict[int, State]]] = []
    for level in sorted(levels, key=lambda one: LENGTHS[one.name]):
        length, covered = LENGTHS[level.name], level.covered()
        finer = next((found for other, found in reversed(folded) if other.covered() == covered), None)
        own: dict[int, State] = {}
        if finer is not None:
            for at, state in finer.items():
                start = at // length * length
                own[start] = merge(own.get(start) or identity(), shift(state, at - start))
        else:
            parts: dict[int, Records] = {}
            for at, values in records:
                start = at // length * length
                parts.setdefault(start, []).append((at - start, values))
            own = {start: fold_all(part, Fields(covered)) for start, part in parts.items()}
        folded.append((level, own))
        for start, state in own.items():
            known = states[level.name].get(start)
            states[level.name][start] = state if known is None else merge(known, state)


def _add_shared(
    backend: Backend,
    dataset: Dataset,
    manifest: Manifest,
    levels: Sequence[Level],
    shared: _Shared,
    states: States,
) -> None:
    """The states of periods on days on which others lie, too: from everything archived, a few days at once."""
    step = max(1, min(raw_rows.MONTH, READ_ROWS // shared.most))
    days = sorted(shared.starts)
    for place in range(0, len(days), step):
        read = days[place : place + step]
        by_day: dict[int, Records] = {day: [] for day in read}
        for at, values in raw_rows.read(backend, manifest, dataset, read, buffer=False):
            by_day[at // DAY].append((at, values))
        for day in read:
            found: States = {level.name: {} for level in levels}
            _add(found, levels, by_day[day])
            for name, starts in shared.starts[day].items():
                states[name] |= {start: found[name].get(start) or identity() for start in starts}


def _table(dataset: Dataset, level: Level, group: str, states: Mapping[int, State], order: int) -> pa.Table:
    rows = [
        LevelRow(
            from_micros(start),
            state.rows,
            shown(state, level),
            encode_state(state),
            order,
            level.live_from,
            level.fields_from(start),
        )
        for start, state in sorted(states.items())
    ]
    return level_table(dataset, level, group, rows)


def _days(dataset: Dataset, unit: Unit, direct: Mapping[str, set[int]]) -> Iterator[tuple[int, str, int, Records]]:
    """The direct rows of a unit: (start of the segment's period, group, day, records), in order; a day may come in parts."""
    names = list(dataset.group_columns)
    for table in current_rows(dataset, unit):
        table = table.append_column(_DAY, pa.array([at // DAY for at in micros(table, VALID_TIME)], pa.int64()))
        for start, end in stretches(table, (PERIOD, *names, _DAY)):
            part = table.slice(start, end - start)
            group, day = join_group(part[name][0].as_py() for name in names), part[_DAY][0].as_py()
            if day in direct.get(group, ()):
                yield part[PERIOD][0].as_py(), group, day, list(_records(part))


def _records(table: pa.Table) -> Iterator[tuple[int, Values]]:
    fixed = {VALID_TIME, "ref_time"}
    names = [f.name for f in table.schema if is_number(f.type) and f.name not in fixed and not f.name.startswith("__")]
    columns = [table[name].to_pylist() for name in names]
    for at, *row in zip(micros(table, VALID_TIME), *columns, strict=True):
        yield at, {name: exact(value) for name, value in zip(names, row, strict=True) if value is not None}
