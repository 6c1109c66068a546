"""The keys of a group's visible rows in a range, portion by portion: for who goes through all of them in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.model import Segment
from tesseract.query.catalog import Lookup, of_manifest
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN, Facts, Range, hot_spans
from tesseract.query.raw import read_raw
from tesseract.query.source import Source
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import to_micros

ROWS = 2_000_000  # of a portion, about; two columns of them are 32 MB
BATCH = 5_000  # rows of a list: as tombstones, a fifth of what the ingestion function writes in its time
HOT_DAY = 86_400  # rows that a day of the buffer is taken to have
SHORTEST = 60 * 1_000_000  # µs
Key = tuple[int, int | None]  # (valid time, ref time), µs since 1970


class Stage(NamedTuple):
    """Where rows are read."""

    backend: Backend
    catalog: Catalog
    lookup: Lookup


def keys(
    stage: Stage, dataset: Dataset, group: str, first: datetime | None, last: datetime | None, now: datetime
) -> Iterator[list[Key]]:
    """The keys of the visible rows of [first, last), None an open end: by time, in lists of at most BATCH."""
    source = Source(*stage)
    wanted = Range(TIME_MIN if first is None else to_micros(first), TIME_MAX if last is None else to_micros(last))
    facts = _facts(stage, dataset, wanted, now)
    segments = stage.catalog.manifest_of(dataset, "raw", group).segments
    facts = of_manifest(facts, segments)
    marked = facts._replace(marks=stage.lookup.marks(dataset, group, wanted))
    inside = Range(max(wanted.start, facts.floor), min(wanted.end, facts.horizon))
    hot = hot_spans(inside, marked) if inside.start < inside.end else []
    for part in portions(wanted, segments, hot):
        table = read_raw(source, dataset, {group: [part]}, _facts(stage, dataset, part, now), [])[group].table
        for batch in table.select(["valid_time", "ref_time"]).to_batches(BATCH):
            yield list(zip(*(pc.cast(column, pa.int64()).to_pylist() for column in batch.columns), strict=True))


def _facts(stage: Stage, dataset: Dataset, wanted: Range, now: datetime) -> Facts:
    return stage.lookup.bounds(dataset, stage.catalog.progress().to_readers().archived_through, wanted.start == TIME_MIN, now)


def portions(wanted: Range, segments: Iterable[Segment], hot: Sequence[Range], rows: int = ROWS) -> list[Range]:
    """Ranges that cover `wanted` exactly, in order, of about `rows` rows each at most, by what segments and hot spans can hold.

    Pure. `hot` are the parts of the range that the buffer holds rows of, as `plan.hot_spans` gives them.
    """
    return cut(wanted, weights(segments, hot), rows)


def weights(segments: Iterable[Segment], hot: Sequence[Range]) -> list[tuple[Range, float]]:
    """Where the rows of a group are, about, and how many. Pure."""
    found: list[tuple[Range, float]] = [
        (Range(part.first, part.last + 1), part.rows / max(len(part.groups), 1)) for part in segments
    ]
    return found + [(span, HOT_DAY * -(-(span.end - span.start) // DAY)) for span in hot]


def within(wanted: Range, weights: Iterable[tuple[Range, float]]) -> float:
    """How many rows lie in a range, about. Pure."""
    inside = [(span, count) for span, count in weights if span.start < wanted.end and wanted.start < span.end]
    return sum(count * _share(span, wanted) for span, count in inside)


def cut(wanted: Range, weights: Iterable[tuple[Range, float]], rows: int) -> list[Range]:
    """Ranges that cover `wanted` exactly, in order, of about `rows` rows each, the last one of fewer. Pure.

    Rows are taken to lie evenly in each of `weights`. No range but the last is shorter than SHORTEST.
    """
    edges: list[tuple[int, float]] = []
    for span, count in weights:
        start, end = max(span.start, wanted.start), min(span.end, wanted.end)
        if start < end:
            density = count / (span.end - span.start)
            edges += [(start, density), (end, -density)]
    edges.sort()
    bounds, held, density = [wanted.start], 0.0, 0.0
    for (at, change), (until, _) in pairwise([*edges, (wanted.end, 0.0)]):
        density += change
        held += density * (until - at)
        while held > rows and density > 0:
            place = until - round((held - rows) / density)
            if place - bounds[-1] < SHORTEST:  # denser than that nothing is cut
                place = bounds[-1] + SHORTEST
            if place >= min(until, wanted.end):
                break
            bounds.append(place)
            held = density * (until - place)
    return [Range(*part) for part in pairwise([*bounds, wanted.end])]


def _share(span: Range, wanted: Range) -> float:
    return (min(span.end, wanted.end) - max(span.start, wanted.start)) / (span.end - span.start)
