"""Footers of segments: where the chunks of their columns lie, between which bounds their values, and the footers that are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SIZE = 64 << 20  # bytes of parsed footers that are kept
PARSED = 11  # times the bytes of a footer in a file that it takes when it is parsed, with what is remembered of it

Bounds = Mapping[str, tuple[Any, Any, int, int]]


class Footer:
    """A parsed footer. What is asked of it is remembered; threads may share it."""

    def __init__(self, metadata: pq.FileMetaData) -> None:
        self.metadata = metadata
        self.bytes = PARSED * metadata.serialized_size
        self.schema = metadata.schema.to_arrow_schema()
        self.places = {name: place for place, name in enumerate(self.schema.names)}
        self._spans: dict[str, list[tuple[Any, Any] | None]] = {}
        self._same: dict[tuple[int, str], pa.Scalar | None] = {}

    def rows(self, groups: Iterable[int]) -> int:
        """How many rows some row groups have."""
        return sum(self.metadata.row_group(index).num_rows for index in groups)

    def spans(self, column: str) -> list[tuple[Any, Any] | None]:
        """The least and the greatest value of a column, as they are stored, of each row group; None where it does not say."""
        if column not in self._spans:
            place = self.places[column]
            found = (self.metadata.row_group(index).column(place).statistics for index in range(self.metadata.num_row_groups))
            self._spans[column] = [(one.min_raw, one.max_raw) if one is not None and one.has_min_max else None for one in found]
        return self._spans[column]

    def constants(self, groups: Sequence[int], columns: Iterable[str]) -> dict[str, pa.Scalar]:
        """The columns that have one value in all rows of some row groups, null among them: these need not be read."""
        found = {}
        for name in columns:
            value = self._constant(groups[0], name) if groups else None
            others = (self._constant(index, name) for index in groups[1:])
            if value is not None and all(other is not None and value.equals(other) for other in others):
                found[name] = value
        return found

    def _constant(self, index: int, column: str) -> pa.Scalar | None:
        if (index, column) not in self._same:
            self._same[index, column] = self._one_value(index, column)
        return self._same[index, column]

    def _one_value(self, index: int, column: str) -> pa.Scalar | None:
        group, place = self.metadata.row_group(index), self.places[column]
        kind, said = self.schema.field(place).type, group.column(place).statistics
        if said is None or not said.has_null_count:
            return None
        if said.null_count == group.num_rows:
            return pa.scalar(None, kind)
        if said.null_count or not said.has_min_max or said.min_raw != said.max_raw:
            return None
        if pa.types.is_string(kind) or pa.types.is_boolean(kind):
            return pa.scalar(said.min, kind)
        return pa.scalar(said.min_raw, kind) if pa.types.is_integer(kind) or pa.types.is_timestamp(kind) else None

    def coded(self, groups: Sequence[int], columns: Iterable[str]) -> list[str]:
        """The columns of text whose values are numbers of a short list in the file: a byte a row or less."""
        texts = [name for name in columns if pa.types.is_string(self.schema.field(self.places[name]).type)]
        return [name for name in texts if all(self._is_coded(index, name) for index in groups)]

    def _is_coded(self, index: int, column: str) -> bool:
        group = self.metadata.row_group(index)
        return bool(group.column(self.places[column]).total_uncompressed_size <= group.num_rows)

    def ranges(self, groups: Iterable[int], columns: Iterable[str]) -> list[tuple[int, int]]:
        """[start, end) of the column chunks of some row groups, in the order of the file."""
        places = [self.places[name] for name in columns]
        found = []
        for index in groups:
            group = self.metadata.row_group(index)
            for place in places:
                chunk = group.column(place)
                start = chunk.data_page_offset
                if chunk.has_dictionary_page:
                    start = min(start, chunk.dictionary_page_offset)
                found.append((start, start + chunk.total_compressed_size))
        return sorted(found)

    def bounds(self, index: int) -> Bounds:
        """What is known of the values of each column in a row group: (min, max, nulls, rows).

        The values are of the types that the file has. Both are None of a column that is null in all rows, or that the file lacks;
        one that the file says nothing of is not there.
        """
        return _Bounds(self, index)


class _Bounds(Mapping[str, tuple[Any, Any, int, int]]):
    """Made as it is asked for: of most columns nobody asks."""

    def __init__(self, footer: Footer, index: int) -> None:
        self._places, self._group = footer.places, footer.metadata.row_group(index)

    def __getitem__(self, column: str) -> tuple[Any, Any, int, int]:
        rows = self._group.num_rows
        if column not in self._places:
            return None, None, rows, rows
        said = self._group.column(self._places[column]).statistics
        if said is not None and said.has_null_count:
            if said.null_count == rows:
                return None, None, rows, rows
            if said.has_min_max:
                return said.min, said.max, said.null_count, rows
        raise KeyError(column)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._places if self.get(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Footers:
    """The footers of the segments last read, as many as `size` bytes hold. Safe to share between threads.

    Segments are immutable and their names never used again, so that a footer is right for ever.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._size, self._held = size, 0
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> Footer | None:
        """The footer of a segment, if it is kept."""
        with self._lock:
            footer = self._footers.get(key)
            if footer is not None:
                self._footers.move_to_end(key)
            return footer

    def put(self, key: str, footer: Footer) -> None:
        """Keep a footer, in place of those that were not read for the longest time."""
        with self._lock:
            if key not in self._footers:
                self._footers[key] = footer
                self._held += footer.bytes
            while self._held > self._size:
                self._held -= self._footers.popitem(last=False)[1].bytes
