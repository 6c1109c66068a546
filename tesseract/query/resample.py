"""Any interval instead of a level's: what is asked for, checked, and gaps filled. Reading is the levels'."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple

from tesseract.config.bases import unkept_level
from tesseract.config.dataset import STATS, Dataset, Level
from tesseract.errors import InputError
from tesseract.query.buckets import Buckets
from tesseract.query.buckets import parse as intervals
from tesseract.query.catalog import nearest

Fill = Literal["none", "null", "previous", "linear"] | int | float | Decimal
FILLS = ("none", "null", "previous", "linear")


class Spec(NamedTuple):
    """What a resampling is to give."""

    buckets: Buckets
    stats: tuple[str, ...] | None  # None: those of the coarsest level that the dataset keeps and that is not coarser, else all
    fill: Fill

    def level(self, dataset: Dataset) -> Level:
        """The level that its rows are like."""
        return unkept_level(dataset, self.buckets.name, self.stats, self.buckets.length)


def parse(every: str, *, stats: Iterable[str] | None = None, fill: Fill = "none", tz: str | None = None) -> Spec:
    """What a person asks for. Raises InputError with what would be right."""
    if stats is not None:
        stats = (stats,) if isinstance(stats, str) else tuple(stats)
        for stat in stats:
            if stat not in STATS:
                raise InputError(f"there is no statistic {stat!r}", hint=nearest(stat, STATS))
        if not stats:
            raise InputError("stats names no statistic", hint=f"of {', '.join(STATS)}")
    if not (_finite(fill) if isinstance(fill, int | float | Decimal) else fill in FILLS):
        raise InputError(f"fill {fill!r} is no way to fill gaps", hint=f"{', '.join(FILLS)}, or a number")
    return Spec(intervals(every, tz or ""), stats, fill)


def _finite(fill: float | Decimal) -> bool:
    try:
        return math.isfinite(fill) and not isinstance(fill, bool)
    except OverflowError:  # of an integer that no double holds
        return False
