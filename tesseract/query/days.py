"""A day of the buffer, read in parts at once where it is more than a page: what a query of a busy group waits for otherwise.

The first request of a slice tells how much time a page of the group holds; the rest of the slice is cut by that, and its parts are
asked for together. The next read of the group is cut before its first request.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple

import msgspec
import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.query.density import Density, split
from tesseract.query.plan import DaySlice, Range, day_text
from tesseract.query.source import Source
from tesseract.storage.base import Page
from tesseract.storage.buffer_columns import buffer_table
from tesseract.storage.codec import item_from_wire
from tesseract.storage.keys import history_valid_time, is_history, raw_pk
from tesseract.utils.time_utils import from_iso, from_micros, iso_micros, to_micros


class _Piece(NamedTuple):
    """What a part of a slice had, and the parts that were begun for what it left. `full`: the first page was not all."""

    table: pa.Table
    rest: list[Future[_Piece]]
    full: bool


class Day:
    """A slice of one day of the buffer that is being read. `prefix` is how the sort keys of the items wanted begin."""

    def __init__(self, source: Source, dataset: Dataset, group: str, part: DaySlice, prefix: str = "") -> None:
        self._source, self._dataset, self._group, self._prefix = source, dataset, group, prefix
        self._pk = raw_pk(dataset.name, group, day_text(part.day))
        self._series = (dataset.name, group, prefix)
        self._known = source.densities.get(self._series)
        whole = Range(part.start, part.end)
        spans = [whole] if self._known is None else split(whole, self._known.micros)
        self._begun = [source.submit(self._read, self._key(span.start), span.end, len(spans) == 1) for span in spans]

    def tables(self) -> list[pa.Table]:
        """The items, as `raw_table` has their records, in order. Waits for them."""
        pieces = [self._source.result(future) for future in self._begun]
        few = self._known is not None and sum(len(piece.table) for piece in pieces) <= self._known.rows
        if few and len(pieces) > 1 and not any(piece.full for piece in pieces):
            self._source.densities.learn(self._series, None)  # a page would have held them
        rest = [self._source.result(future) for piece in pieces for future in piece.rest]
        return [piece.table for piece in (*pieces, *rest)]

    def _read(self, low: str, end: int, alone: bool) -> _Piece:
        """The items from a key on, to the end of a part. Of one that is the slice, all behind its first page is only begun."""
        pages = self._source.backend.raw.pages(self._pk, low, self._key(end))
        first = next(pages, Page())
        rest: list[Future[_Piece]] = []
        items = list(first)
        if first.more and first:
            held = Density(_time(first[-1]) - _time(first[0]), len(first))
            self._source.densities.learn(self._series, held)
            if alone:
                rest = self._cut(first[-1], end, held)
        if not rest:
            for page in pages:
                items += page
        return _Piece(buffer_table(self._dataset, self._group, items), rest, first.more)

    def _cut(self, last: msgspec.Raw, end: int, held: Density) -> list[Future[_Piece]]:
        """Begin to read what lies behind an item, in several parts; none where it is only one."""
        spans = split(Range(_time(last), end), held.micros)
        if len(spans) == 1:
            return []
        lows = [
            f"{_key(last)} ",
            *(self._key(span.start) for span in spans[1:]),
        ]  # nothing lies between a key and itself with a space
        return [self._source.submit(self._read, low, span.end, False) for low, span in zip(lows, spans, strict=True)]

    def _key(self, micros: int) -> str:
        return self._prefix + iso_micros(from_micros(micros))


def _key(item: msgspec.Raw) -> str:
    return str(item_from_wire(item)["sk"])


def _time(item: msgspec.Raw) -> int:
    """When a record holds, µs since 1970."""
    sk = _key(item)
    return to_micros(history_valid_time(sk) if is_history(sk) else from_iso(sk))
