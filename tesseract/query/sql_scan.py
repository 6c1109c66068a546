"""A dataset or one of its levels as DuckDB reads it: an Arrow dataset that asks the query engine for what a statement needs.

DuckDB takes any `pyarrow.dataset.Dataset`: it asks for the schema when it binds a statement, and for each use of the table in it
for a scanner with the columns and the filter that it leaves to the scan. The filter says which groups and times are read at all
(`sql_parts`); then it is applied to every row, since DuckDB does not apply it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tesseract.config.dataset import Dataset, Level
from tesseract.query.plan import TIME_MAX, TIME_MIN
from tesseract.query.question import Question
from tesseract.query.sql_parts import columns as columns_of
from tesseract.query.sql_parts import parts
from tesseract.utils.time_utils import from_micros


class Tables(NamedTuple):
    """What SQL needs of a store."""

    names: Callable[[], list[str]]
    dataset: Callable[[str], Dataset]
    groups: Callable[[Dataset], Sequence[str]]
    scan: Callable[[Question], pa.RecordBatchReader]


class View(NamedTuple):
    """A table that SQL may name: a dataset's raw rows (`level` None), or one of its levels."""

    name: str
    dataset: Dataset
    level: Level | None


class Lazy(ds.Dataset):  # type: ignore[misc]
    """The rows of a view that has the columns of `schema`, read when DuckDB comes to it. What a read raises is kept in `errors`.

    Not made by Arrow: of a dataset's methods there are those that DuckDB calls.
    """

    def __init__(self, view: View, schema: pa.Schema, tables: Tables, errors: list[Exception]) -> None:
        self._view, self._columns, self._tables, self._errors = view, schema, tables, errors

    @property
    def schema(self) -> pa.Schema:
        """The columns of the whole view."""
        return self._columns

    def scanner(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None, **_: Any) -> _Scanner:
        """The rows that `filter` is true for, with `columns` in their order; None is all."""
        return _Scanner(self, self._columns.names if columns is None else list(columns), filter)

    def read(self, columns: Sequence[str], condition: pc.Expression | None) -> pa.RecordBatchReader:
        """The rows of a scanner, read as they are asked for."""
        schema = pa.schema([self._columns.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, condition))

    def _batches(self, schema: pa.Schema, condition: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        try:
            needed = {*schema.names, *columns_of(condition, self._columns)}
            for question in self._questions([name for name in self._columns.names if name in needed], condition):
                for batch in self._tables.scan(question):
                    kept = batch if condition is None else batch.filter(condition)
                    yield kept.select(schema.names).cast(schema)
        except Exception as error:
            self._errors.append(error)
            raise

    def _questions(self, names: Sequence[str], condition: pc.Expression | None) -> Iterator[Question]:
        dataset, level = self._view.dataset, self._view.level
        time = "period_start" if level else "valid_time"
        fixed = {*dataset.group_columns, time, "rows" if level else "ref_time"}
        fields = [name for name in names if name not in fixed]
        for groups, span in parts(condition, self._columns, dataset.group_columns, time, lambda: self._tables.groups(dataset)):
            if groups is None or groups:
                yield Question(dataset, groups, _moment(span.start), _moment(span.end), level, fields, unchecked=True)


class _Scanner(NamedTuple):
    """What DuckDB does with a scanner: it asks for its reader."""

    lazy: Lazy
    columns: Sequence[str]
    condition: pc.Expression | None

    def to_reader(self) -> pa.RecordBatchReader:
        return self.lazy.read(self.columns, self.condition)


def _moment(micros: int) -> datetime | None:
    return None if micros in (TIME_MIN, TIME_MAX) else from_micros(micros)
