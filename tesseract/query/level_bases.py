"""What the periods of a level are read from: rows of its own, those of a finer kept level, or raw rows. Pure."""

from __future__ import annotations

from tesseract.config.bases import base_level, bases_of
from tesseract.config.dataset import Dataset, Level
from tesseract.config.retention import rows_kept_from
from tesseract.config.tiers import LIVE_LEVELS, MERGED_LEVELS
from tesseract.processing.snapshots import LENGTHS
from tesseract.query.buckets import Buckets, calendar
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN, Facts, Range
from tesseract.storage.keys import level_partition

YEAR = 366 * DAY


def is_stored(dataset: Dataset, level: Level, buckets: Buckets | None = None) -> bool:
    """Whether a level's periods have rows of their own. `buckets` are its periods where these are not the calendar's, in UTC."""
    return buckets is None and dataset.level(level.name) == level


def read_partitions(dataset: Dataset, level: Level, buckets: Buckets | None = None) -> list[str]:
    """The partitions that a level may be read from as of a moment, beside that of raw rows."""
    if not is_stored(dataset, level, buckets):
        return [level_partition(kept) for kept in dataset.levels if kept.name in LIVE_LEVELS]
    base = base_level(dataset, level) if level.name in MERGED_LEVELS else level
    return [level_partition(base)] if base is not None else []


def main_partition(dataset: Dataset, level: Level, wanted: Range, facts: Facts, buckets: Buckets | None = None) -> str:
    """The partition that most of a level is read from, `raw` among them."""
    if is_stored(dataset, level, buckets):
        return next(iter(read_partitions(dataset, level)), "raw")
    base = base_of(dataset, level, buckets or calendar(level.name), wanted, facts)
    return "raw" if base is None else level_partition(base)


def base_of(dataset: Dataset, level: Level, cut: Buckets, wanted: Range, facts: Facts) -> Level | None:
    """The coarsest kept level that the periods of one that is not kept can be merged from; None: they are computed from raw rows.

    Where retention takes rows of several levels before the range begins, the one that reaches farthest back.
    """
    end = max(min(wanted.end, facts.horizon, TIME_MAX - YEAR), TIME_MIN + 2 * YEAR)
    start = min(max(wanted.start, end - YEAR), end)  # as a zone's clock went lately; what went otherwise before, its rows tell
    fitting = [base for base in bases_of(dataset, level) if _divides(base, cut, start, end)]
    reach = [(rows_kept_from(dataset, base.name, facts.settled), base) for base in fitting]
    found = [*reach, (rows_kept_from(dataset, "raw", facts.settled), None)]
    return min(found, key=lambda base: max(base[0], wanted.start))[1]


def _divides(base: Level, cut: Buckets, start: int, end: int) -> bool:
    """Whether no edge within [start, end] cuts a period of `base`."""
    if base.name == "monthly":
        return bool(cut.step.months) and not cut.zone
    if base.name == "weekly":
        return cut.step.counts_weeks and not cut.zone
    return cut.divisible(LENGTHS[base.name], start, end)
