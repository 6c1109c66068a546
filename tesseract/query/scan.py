"""A long answer cut into parts that are read one after the other: which groups, and which range of each.

The parts come in the order of the result, each of about as many rows as memory is meant to hold: many small groups at once, or a
piece of one large group. Each part is a question of its own, asked anew: of what is written meanwhile some is seen and some is not,
but no row that was there is left out or met twice, since the parts cover the range without overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import pyarrow as pa

from tesseract.config.dataset import Level
from tesseract.config.tiers import UNITS
from tesseract.model import Manifest, Segment
from tesseract.query.catalog import of_manifest
from tesseract.query.plan import TIME_MAX, TIME_MIN, Facts, Range, hot_spans
from tesseract.query.portions import cut, weights, within
from tesseract.query.question import Question, Reading
from tesseract.utils.time_utils import from_micros, to_micros

CELLS = 1_500_000  # values of a part, about: 12 MB, and a few times that while it is made
FEWEST = 16_384  # rows of a part, which has whole row groups where one segment follows another
GROUPS = 100  # whose manifests are looked at together
SECOND = 1_000_000  # µs
T = TypeVar("T")


class Part(NamedTuple):
    """Groups whose rows in a range are read at once."""

    groups: tuple[str, ...]
    wanted: Range

    def question(self, whole: Question) -> Question:
        """The part of a question."""
        start = None if self.wanted.start == TIME_MIN else from_micros(self.wanted.start)
        end = None if self.wanted.end == TIME_MAX else from_micros(self.wanted.end)
        return whole._replace(groups=self.groups, start=start, end=end)


def parts(reading: Reading, level: Level | None, columns: int, newest_first: bool = False, rows: int = 0) -> Iterator[Part]:
    """The parts of a reading whose result has `columns` columns, in order: of as many rows as memory is meant to hold, or, where
    `rows` is given, of that many first and of ever more the longer they are not enough."""
    most = max(CELLS // columns // FEWEST, 1) * FEWEST
    rows = rows or most
    groups = list(reading.groups)
    for start in range(0, len(groups), GROUPS):
        some = groups[start : start + GROUPS]
        found = reading.source.manifests(reading.dataset, "raw", some)
        sizes = {group: _sizes(reading, level, found[group]()) for group in some}
        yield from packed(sizes, reading.wanted, rows, newest_first, most // rows)


def packed(
    sizes: Mapping[str, Sequence[tuple[Range, float]]], wanted: Range, rows: int, newest_first: bool = False, growth: int = 1
) -> Iterator[Part]:
    """Parts that cover `wanted` of each group exactly, in the order of the groups; `sizes` has where its rows are. Pure.

    The later parts of a large group are up to `growth` times as large as its first one.
    """
    waiting: list[str] = []
    held = 0.0
    for group, own in sizes.items():
        count = within(wanted, own)
        if waiting and held + count > rows:
            yield Part(tuple(waiting), wanted)
            waiting, held = [], 0.0
        if count > rows:
            pieces = cut(wanted, own, rows)
            yield from (Part((group,), piece) for piece in _growing(pieces[::-1] if newest_first else pieces, growth))
        else:
            waiting.append(group)
            held += count
    if waiting:
        yield Part(tuple(waiting), wanted)


def _growing(pieces: Sequence[Range], most: int) -> Iterator[Range]:
    """Neighbours made one: the first alone, then two, four, at most `most` of them."""
    at, count = 0, 1
    while at < len(pieces):
        some = pieces[at : at + count]
        yield Range(min(some).start, max(some).end)
        at, count = at + count, max(min(2 * count, most), 1)


def _sizes(reading: Reading, level: Level | None, manifest: Manifest) -> list[tuple[Range, float]]:
    """Where a group has rows, about: of a level, a row for each period from its first record to the horizon."""
    facts = of_manifest(reading.raw, manifest.segments)
    if level is None:
        newest = max(manifest.segments, key=lambda segment: segment.last, default=None)
        hot = hot_spans(_within(reading.wanted, facts), facts)
        return [*weights(manifest.segments, []), *((span, (span.end - span.start) * _rate(newest)) for span in hot)]
    first = min((segment.first for segment in manifest.segments), default=facts.through)
    inside = _within(reading.wanted, facts)
    inside = Range(max(inside.start, min(first, facts.through)), inside.end)
    return [(inside, (inside.end - inside.start) / _length(level))] if inside.start < inside.end else []


def _rate(newest: Segment | None) -> float:
    """Rows per µs of the buffer, with room to spare: as in the newest segment, at least one a minute; one a second of a new group.

    A few rows that lie close together, or one alone, say nothing of a rate: they are taken to be those of an hour.
    """
    if newest is None:
        return 1 / SECOND
    span = max(newest.last + 1 - newest.first, 3600 * SECOND)
    return max(2 * newest.rows / span / max(len(newest.groups), 1), 1 / (60 * SECOND))


def _within(wanted: Range, facts: Facts) -> Range:
    start = max(wanted.start, facts.floor)
    return Range(start, max(min(wanted.end, facts.horizon), start))


def _length(level: Level) -> int:
    period = UNITS[level.name].period(from_micros(0))
    return to_micros(period.end) - to_micros(period.start)


def firsts(tables: Sequence[pa.Table], count: int) -> list[pa.Table]:
    """The first `count` rows of tables that lie one behind the other."""
    found: list[pa.Table] = []
    for table in tables:
        found.append(table.slice(0, min(max(count, 0), len(table))))
        count -= len(table)
    return found


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, each made while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="tesseract-scan") as pool:
        try:
            waiting = pool.submit(next, values, None)
            while (value := waiting.result()) is not None:
                waiting = pool.submit(next, values, None)
                yield value
                del value
        finally:
            waiting.cancel()
            pool.submit(values.close).result()  # type: ignore[attr-defined]  # where it is under way, after it
