"""How much time a page of the buffer holds, and how a long slice is therefore cut to be read in parts at once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

from tesseract.query.plan import Range

PARTS = 8  # of a slice: more cost more requests than they save time
SERIES = 4096  # whose density is remembered
Series = tuple[str, str, str]  # a dataset, a group, and how the sort keys of its items begin


class Density(NamedTuple):
    """What a full page held: µs between its first and its last row, and rows."""

    micros: int
    rows: int


def split(wanted: Range, page: int) -> list[Range]:
    """Ranges of one size that cover `wanted` exactly, in order: as many as it has pages of `page` µs, at most PARTS, none empty."""
    length = wanted.end - wanted.start
    count = max(1, min(PARTS, length, -(-length // max(page, 1))))
    edges = [wanted.start + length * place // count for place in range(count + 1)]
    return [Range(*span) for span in pairwise(edges)]


class Densities:
    """The density of the series that were read last. Safe to share between threads.

    What is remembered may have changed since: it says how a slice is cut, not what is in it.
    """

    def __init__(self, size: int = SERIES) -> None:
        self._size = size
        self._known: OrderedDict[Series, Density] = OrderedDict()
        self._lock = Lock()

    def get(self, series: Series) -> Density | None:
        """What is remembered of a series."""
        with self._lock:
            return self._known.get(series)

    def learn(self, series: Series, density: Density | None) -> None:
        """Remember it; None forgets it."""
        with self._lock:
            self._known.pop(series, None)
            if density is not None:
                self._known[series] = density
            if len(self._known) > self._size:
                self._known.popitem(last=False)
