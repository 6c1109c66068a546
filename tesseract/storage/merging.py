"""Sorted inputs merged as a stream: the rows that `newest` gives of all of them at once, in memory for a few row groups of each.

An input is read piece by piece. Rows below the least last key of the pieces at hand can get no company any more: they are merged
and given out. Inputs that do not overlap are never sorted, and one that begins later is not read before its time. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tesseract.storage.arrow_types import is_number, wider
from tesseract.storage.columns import as_kind, kinds_of
from tesseract.storage.newest import Order, key_column, newest, rises
from tesseract.storage.revisions import REF_TIME

Key = tuple[int | str, ...]


def place_columns(order: Order) -> tuple[str, ...]:
    """The columns that say where a row stands in a file: revisions of one time lie together, in whatever order."""
    return tuple(name for name in order.key if name != REF_TIME)


class MisfitError(Exception):
    """A value of a column does not fit the type that was chosen for it."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


@dataclass(frozen=True)
class Source:
    """An input sorted by `place_columns`: `pieces` gives its rows from the start, each time that it is called.

    No row stands before `low`; None where that is not known.
    """

    schema: pa.Schema
    low: Key | None
    pieces: Callable[[], Iterator[pa.Table]]


class Types:
    """The type of each column of a merge: the declared one, else the one that holds the inputs' types, else text.

    Which one holds all values is only known once they have been read: `reject` takes the next one.
    """

    def __init__(self, schemas: Iterable[pa.Schema], declared: Mapping[str, pa.DataType]) -> None:
        self._kinds = {name: _candidates(kind, declared.get(name)) for name, kind in kinds_of(schemas).items()}

    @property
    def schema(self) -> pa.Schema:
        """What is to be tried next."""
        return pa.schema([(name, kinds[0]) for name, kinds in self._kinds.items()])

    def reject(self, misfit: MisfitError) -> None:
        """Not this type: a value does not fit it."""
        del self._kinds[misfit.column][0]


def _candidates(held: pa.DataType, declared: pa.DataType | None) -> list[pa.DataType]:
    kinds = [held] if held == pa.string() else [held, pa.string()]
    numbers = declared is not None and is_number(declared) and (is_number(held) or pa.types.is_null(held))
    grows = declared is not None and (numbers or pa.types.is_null(held)) and wider(held, declared) == declared != held
    return [declared, *kinds] if grows else kinds


def merged(sources: Sequence[Source], order: Order, schema: pa.Schema) -> Iterator[pa.Table]:
    """The newest row of each key, in order, as tables of `schema`. `sources` come oldest window first.

    Raises MisfitError where a value does not fit `schema`.
    """
    waiting = sorted(range(len(sources)), key=lambda at: (sources[at].low is not None, sources[at].low or ()), reverse=True)
    heads: dict[int, _Head] = {}
    while heads or waiting:
        bound = min((head.last for head in heads.values() if head.more), default=None)
        if waiting and (bound is None or (sources[waiting[-1]].low or ()) <= bound):
            place = waiting.pop()
            heads[place] = _Head(sources[place].pieces(), order, schema)
            continue
        taken = [part for place in sorted(heads) if (part := heads[place].take(bound)) is not None]
        if taken:
            yield _joined(taken, order)
        for place in [place for place, head in heads.items() if not len(head.table)]:
            del heads[place]
        for head in heads.values():
            if head.more and head.last == bound:
                head.load()


class _Head:
    """The rows of one source that have been read and not yet given out. `more`: others may follow."""

    def __init__(self, pieces: Iterator[pa.Table], order: Order, schema: pa.Schema) -> None:
        self._pieces, self._place, self._schema = pieces, place_columns(order), schema
        self.table = schema.empty_table()
        self.more = True
        self.load()

    def load(self) -> None:
        """Read the next piece that has rows, if there is one."""
        piece = next((piece for piece in self._pieces if len(piece)), None)
        if piece is None:
            self.more = False
            return
        piece = fitted(piece, self._schema)
        self._keep(piece if not len(self.table) else pa.concat_tables([self.table, piece]))

    def _keep(self, table: pa.Table) -> None:
        self.table = table
        self._keys = [key_column(table[name], name).combine_chunks() for name in self._place]
        self._first, self.last = (self._key(0), self._key(len(table) - 1)) if len(table) else ((), ())

    def _key(self, row: int) -> Key:
        return tuple(column[row].as_py() for column in self._keys)

    def take(self, bound: Key | None) -> pa.Table | None:
        """The rows with keys below `bound` (None: all), which are then gone from here; None where there are none."""
        table = self.table
        if not len(table) or (bound is not None and self._first >= bound):
            return None
        count = len(table) if bound is None else bisect_left(range(len(table)), bound, key=self._key)
        self.table = table.slice(count)
        self._keys = [column.slice(count) for column in self._keys]
        self._first = self._key(0) if count < len(table) else ()
        return table.slice(0, count)


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of `schema`; absent columns are null. Raises MisfitError."""
    if table.schema.equals(schema):
        return table
    columns = {}
    for field in schema:
        try:
            columns[field.name] = as_kind(table, field.name, field.type)
        except pa.ArrowInvalid:
            raise MisfitError(field.name) from None
    return pa.table(columns, schema)


def _joined(tables: Sequence[pa.Table], order: Order) -> pa.Table:
    """Sorted tables as one. They are only sorted anew where they overlap, or a key is there twice."""
    tails = sorted(tables, key=lambda table: tuple(_first(table, name) for name in order.key))
    table = pa.concat_tables(tails)
    return table if rises(table, order) else newest(tables, order)[0]


def _first(table: pa.Table, name: str) -> int | str:
    value: int | str = key_column(table[name].slice(0, 1), name)[0].as_py()
    return value
