"""Rows as DynamoDB's JSON has them, columns already but not typed yet, and as tables that `columns.raw_table` would give. Pure.

What reads them, `wire_alike` and `wire_json`, refuses lines that it might not take as they are meant: a plain road, item by item,
is the definition of what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.storage.arrow_types import arrow_type
from tesseract.storage.columns import CONFIG_VERSION, DELETED, WRITE_TIME
from tesseract.storage.keys import HISTORY, split_group
from tesseract.storage.wire_columns import Values, exact, quick, times

_HISTORY_KEY = f"{HISTORY}____-__-__T__:__:__.______Z#%"  # as `history_key` writes it
_TIME_CHARS = 27  # of what `iso_micros` writes


class OtherLines(Exception):
    """The lines have something that was not asked for, or that only the plain road takes.

    `left_out`: values, perhaps of other fields. `odd`: fields with values that may be of other kinds.
    """

    def __init__(self, reason: str, left_out: bool = False, odd: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.left_out, self.odd = left_out, set(odd)


@dataclass
class WireRows:
    """Items of the raw table, in the order of their lines. `values` is by field."""

    pk: pa.Array  # text
    sk: pa.Array  # text
    ref_time: pa.Array
    write_time: pa.Array
    deleted: pa.Array
    version: pa.Array
    values: dict[str, Values]

    def take(self, indices: pa.Array) -> WireRows:
        """The rows in another order."""
        values = {name: found.take(indices) for name, found in self.values.items()}
        own = {part.name: getattr(self, part.name).take(indices) for part in fields(self) if part.name != "values"}
        return replace(self, values=values, **own)


class Run(NamedTuple):
    """Rows [start, start + length), all of one group."""

    group: str
    start: int
    length: int


def tables(dataset: Dataset, runs: Sequence[Run], rows: WireRows) -> Iterator[pa.Table] | None:
    """The table of each run of a dataset's rows, which lie one behind the other; None where a key is not as we write them.

    What all is as declared is cast at once.
    """
    start, length = runs[0].start, sum(run.length for run in runs)
    valid_time = valid_times(rows.sk.slice(start, length))
    if valid_time is None:
        return None
    system = {"ref_time": rows.ref_time, WRITE_TIME: rows.write_time, DELETED: rows.deleted, CONFIG_VERSION: rows.version}
    own = {"valid_time": valid_time} | {name: part.slice(start, length) for name, part in system.items()}
    values = {name: part for name, found in rows.values.items() if (part := found.slice(start, length)).present}
    return _tables(dataset, [run._replace(start=run.start - start) for run in runs], own, values, length)


def valid_times(sks: pa.Array) -> pa.Array | None:
    """The valid times in sort keys, of current items and of revisions; None where one is not as we write it."""
    history = pc.starts_with(sks, HISTORY)
    if pc.any(history).as_py():
        if not pc.all(pc.equal(history, pc.match_like(sks, _HISTORY_KEY))).as_py():
            return None
        kept = pc.utf8_slice_codeunits(sks, len(HISTORY), len(HISTORY) + _TIME_CHARS)
        sks = pc.if_else(history, kept, sks)
    return times(sks)


def _tables(
    dataset: Dataset, runs: Sequence[Run], system: dict[str, pa.Array], values: Mapping[str, Values], count: int
) -> Iterator[pa.Table]:
    clean: dict[str, pa.Array] = {}
    for name, declared in dataset.fields.items():
        found = quick(values[name], declared) if name in values else pa.nulls(count, arrow_type(declared))
        if found is not None:
            clean[name] = found
    odd = {name: found for name, found in values.items() if name not in clean}
    for run in runs:
        yield _table(dataset, run, system, clean, odd)


def _table(dataset: Dataset, run: Run, system: dict[str, pa.Array], clean: dict[str, pa.Array], odd: dict[str, Values]) -> pa.Table:
    """`raw_table` of the rows of one run."""
    start, length = run.start, run.length
    texts = zip(dataset.group_by, split_group(run.group), strict=True)
    columns = {name: pa.repeat(pa.scalar(text, pa.string()), length) for name, text in texts}
    for name in ("valid_time", "ref_time"):
        columns[name] = system[name].slice(start, length)
    own = {name: found.slice(start, length) for name, found in odd.items()}
    undeclared = sorted(name for name, found in own.items() if name not in dataset.fields and found.present)
    for name in (*dataset.fields, *undeclared):
        columns[name] = clean[name].slice(start, length) if name in clean else exact(own[name], dataset.fields.get(name))
    for name in (WRITE_TIME, DELETED, CONFIG_VERSION):
        columns[name] = system[name].slice(start, length)
    return pa.table(columns)
