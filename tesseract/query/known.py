"""Every revision of a record, and what was known at a ref time. For datasets with `revisions: all`.

The revisions of a time are those that are kept (partition `revisions`, sort keys `r#…` in the buffer) and the current row, which
counts where both have one ref time. A record of before revisions were kept has its current row alone.

A kept revision that is newer than the current row never became current: its writer died, or is at work still. Nobody was told that
it is there, so it does not count; nor does one whose current row has gone, under `retention` or an erasure. So what is known at a
moment after all ref times is what a query without `known_at` shows. A row without a ref time is older than any with one, and was
known at any moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.cache import CACHE
from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.query.plan import RawPlan
from tesseract.query.question import Reading
from tesseract.query.raw import CURRENT, KEPT, Rows, read_raw
from tesseract.query.results import Stats, shape
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.columns import DELETED, WRITE_TIME
from tesseract.storage.newest import HISTORY, Order, key_column, newest
from tesseract.storage.revisions import REF_TIME
from tesseract.utils.time_utils import MICROSECOND, from_micros, iso_seconds, to_micros

IS_CURRENT = "__current"
_LAST_OF_KEY = Order(HISTORY.key, ())  # of rows of one key, that of the later table
_NEWEST = Order(("valid_time",), (REF_TIME,))


class Revisions(NamedTuple):
    """Rows of one group, system columns still on (`__current`, `__deleted`), and how they came about."""

    table: pa.Table
    stats: Stats
    plans: tuple[RawPlan, ...]


def kept_since(versions: Sequence[Dataset]) -> int | None:
    """Since when a dataset with these versions (oldest first) keeps revisions, µs since 1970. Pure.

    0: since its first record. None: it keeps none. A process may write by the version before for a minute.
    """
    since = None
    for version in reversed(versions):
        if version.revisions != "all":
            break
        since = 0 if version.version == 1 else version.applied_at + CACHE // MICROSECOND
    return since


def require(versions: Sequence[Dataset], at: datetime | None) -> None:
    """Raises InputError where a dataset with these versions (oldest first) does not keep what was known `at` that ref time, or any
    revisions (None)."""
    dataset, since = versions[-1], kept_since(versions)
    if since is None:
        more = " any more" if any(version.revisions == "all" for version in versions) else ""
        raise InputError(
            f"dataset {dataset.name} keeps no revisions{more}, of each time the newest record alone",
            hint="with `revisions: all` in its configuration each one is kept, from then on",
        )
    if at is not None and since and to_micros(at) < since:
        begun = iso_seconds(from_micros(since))
        raise InputError(
            f"dataset {dataset.name} keeps revisions since {begun}, what was known at {iso_seconds(at)} may be gone",
            hint=f"known_at from {begun} on; `revisions` shows all that is kept",
        )


def read_revisions(reading: Reading, fields: Sequence[str] | None = None, at: datetime | None = None) -> dict[str, Revisions]:
    """The revisions of each group whose valid time is wanted, tombstones too, by valid time and ref time; of all that were known
    `at` a ref time, if it is given."""
    ranges = [reading.wanted] if reading.wanted.start < reading.wanted.end else []
    wanted = dict.fromkeys(reading.groups, ranges)
    current, kept = (read_raw(reading.source, reading.dataset, wanted, reading.raw, fields, of=of) for of in (CURRENT, KEPT))
    return {group: _both(current[group], kept[group], at) for group in reading.groups}


def read_known(reading: Reading, at: datetime, fields: Sequence[str] | None = None) -> dict[str, Revisions]:
    """The rows of each group as they were known at a ref time: of each valid time the newest revision that is not newer than that,
    where it is no tombstone."""
    return {group: _known(rows) for group, rows in read_revisions(reading, fields, at).items()}


def shaped(dataset: Dataset, tables: Sequence[pa.Table], fields: Sequence[str] | None) -> pa.Table:
    """The revisions of all groups, in order, as a result: the columns of a raw one, and after `ref_time` `deleted` (the revision is
    a tombstone) and `current` (no newer one is there). Where a field has that name, they end in `_`."""
    table = shape(dataset, None, tables, fields)
    place = table.schema.get_field_index(REF_TIME)
    for name, flag in (("current", IS_CURRENT), ("deleted", DELETED)):
        while name in table.column_names:
            name += "_"
        values = pa.chunked_array([chunk for rows in tables for chunk in rows[flag].chunks], pa.bool_())
        table = table.add_column(place + 1, pa.field(name, pa.bool_()), values)
    return table


def _both(current: Rows, kept: Rows, at: datetime | None) -> Revisions:
    """The revisions of one group."""
    ours, theirs = (_flagged(rows.table, flag) for rows, flag in ((current, True), (kept, False)))
    table, _ = newest([theirs.filter(_counts(theirs, ours)), ours], _LAST_OF_KEY)
    if at is not None:
        refs = table[REF_TIME]
        table = table.filter(pc.or_kleene(pc.is_null(refs), pc.less_equal(refs, pa.scalar(at, TIMESTAMP))))
    stats = Stats()
    for rows in (current, kept):
        stats.add(rows.stats)
    return Revisions(table, _counted(stats, table), (current.plan, kept.plan))


def _counts(kept: pa.Table, current: pa.Table) -> pa.ChunkedArray:
    """Which kept revisions count: those that are not newer than the current row of their time."""
    places = pc.index_in(kept["valid_time"], value_set=current["valid_time"].combine_chunks())
    newer = key_column(current[REF_TIME].take(places), REF_TIME)
    return pc.and_(pc.is_valid(places), pc.less_equal(key_column(kept[REF_TIME], REF_TIME), newer))


def _known(rows: Revisions) -> Revisions:
    table, _ = newest([rows.table], _NEWEST)
    table = table.filter(pc.invert(table[DELETED]))
    return Revisions(table, _counted(rows.stats, table), rows.plans)


def _flagged(table: pa.Table, flag: bool) -> pa.Table:
    return table.append_column(IS_CURRENT, pa.repeat(pa.scalar(flag), len(table)))


def _counted(stats: Stats, table: pa.Table) -> Stats:
    """The counts of what was read, and of the rows that are left by where they lie."""
    stats.rows, stats.only_buffer, stats.both = len(table), table[WRITE_TIME].null_count, 0
    stats.only_archive = stats.rows - stats.only_buffer
    return stats
