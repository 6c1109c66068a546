"""The raw rows of a large group where nothing but one segment after the other has any: times and fields alone, no merge.

That is how nearly all of a long range lies. Whether it is so is known from the plan (no day of the buffer, segments that do not
overlap) and from the rows: their times rise, so no key comes twice, and none of them is a tombstone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.query.catalog import of_manifest
from tesseract.query.integers import int64_of, one_array
from tesseract.query.plan import Facts, Range, SegmentSlice, hot_days, raw_plan, segment_slices
from tesseract.query.question import Reading
from tesseract.query.raw import Rows
from tesseract.query.results import Stats
from tesseract.storage.columns import DELETED, unify
from tesseract.storage.conform import conform
from tesseract.storage.declared import raw_kinds


def read_plain(
    reading: Reading, wanted: Mapping[str, Sequence[Range]], fields: Sequence[str] | None, facts: Mapping[str, Facts]
) -> dict[str, Rows] | None:
    """The visible rows of one group in its ranges (sorted, disjoint), by time; their columns are the time, the fields, and
    whether they are tombstones. A few rows between two ranges may be among them.

    None where `read_raw` has to look: several groups, all fields, a day that the buffer has rows of, segments that overlap, times
    that come twice, tombstones. `facts` has the marks as they were, which say where the buffer need not be asked in vain.
    """
    (group, ranges), *others = wanted.items()
    hot = hot_days(ranges, reading.raw._replace(marks=facts[group].marks))
    if others or fields is None or hot:
        return None
    source, dataset, columns = reading.source, reading.dataset, ["valid_time", *fields, DELETED]
    last = source.last_manifest(dataset, "raw", group)
    early = () if last is None else _apart(segment_slices(ranges, last))
    if last is not None and not early:
        return None
    manifest = source.manifests(dataset, "raw", [group])[group]
    marks: Future[Mapping[int, int]] = source.submit(source.lookup.marks, dataset, group, Range(ranges[0].start, ranges[-1].end))
    begun = [(part, _begin(reading, group, part, columns)) for part in early]
    segments = manifest()
    plan = raw_plan(group, ranges, segments, of_manifest(reading.raw, segments.segments)._replace(marks=source.result(marks)))
    parts = _apart(plan.archive)
    if [part for part, _ in begun] != list(parts) or plan.buffer:
        for _, file in begun:
            file.cancel()
        begun = [(part, _begin(reading, group, part, columns)) for part in parts if not plan.buffer]
    if not begun:
        return None
    files = [file for _, file in begun]
    table = _plain([conform(source.result(file), raw_kinds(dataset)) for file in files])
    if table is None:
        return None
    stats = Stats(rows=len(table), only_archive=len(table), segments=len(parts))
    stats.segment_bytes = sum(part.segment.bytes for part in parts)
    return {group: Rows(table, stats, plan)}


def _begin(reading: Reading, group: str, part: SegmentSlice, columns: Sequence[str]) -> Future[pa.Table]:
    return reading.source.submit(reading.source.segment, reading.dataset, group, part, "valid_time", columns)


def _apart(parts: Sequence[SegmentSlice]) -> tuple[SegmentSlice, ...]:
    """Slices by time; none where two of them overlap."""
    found = sorted(parts, key=lambda part: part.start)
    return tuple(found) if all(before.end <= after.start for before, after in pairwise(found)) else ()


def _plain(tables: Sequence[pa.Table]) -> pa.Table | None:
    """The tables as one, if each row is later than the one before, and none is a tombstone."""
    if not all(DELETED in table.column_names and table[DELETED].null_count == 0 for table in tables):
        return None
    table = tables[0] if len(tables) == 1 else pa.concat_tables(unify(tables)).combine_chunks()
    times = int64_of(one_array(table["valid_time"]))
    return table if (times[1:] > times[:-1]).all() and not pc.any(table[DELETED]).as_py() else None
