"""The pure part of a batch: changes to items with their numbers, against a bare fold of plain decimals.

The bare fold keeps count, sum, sum of squares, least and greatest of each field and level, with Python's decimals, and knows
nothing of order, watermarks, first, last, averages or deviations. Both get the same changes, decoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

from benchmarks import stream_samples
from benchmarks.figures import Figure, medians
from benchmarks.stream_samples import FIELDS, LEVELS
from tesseract.config.dataset import Level
from tesseract.model import Change
from tesseract.processing.batches import plan, tasks_of
from tesseract.processing.changes import decode_batch
from tesseract.processing.live import Facts
from tesseract.processing.live_item import LiveItem, encode_item
from tesseract.storage.base import Key

GROUPS, SECONDS, ROUNDS = 100, 60, 9
SUM = Context(prec=60)


def run() -> Iterator[Figure]:
    """A batch into new items, and into items that hold a batch already."""
    start = stream_samples.begin()
    first = _changes(start)
    second = _changes(start + timedelta(seconds=SECONDS), len(first) + 1)
    decoding, _ = medians(ROUNDS, lambda: _seconds(lambda: _changes(start)), lambda: 0.0)
    held = _items(first, {}, start)
    for what, changes, items in (("", second, held), (", items new", first, {})):
        bare, ours = medians(ROUNDS, _timed(lambda: _bare(changes)), _timed(lambda: _items(changes, items, start)))
        rate, plain = len(changes) / ours, len(changes) / bare
        said = f"{len(changes):,} records of {GROUPS} groups, 5 fields, 2 levels, one core"
        yield Figure(f"fold of a batch{what}", rate, "records/s", said, 100_000, more_is_better=True)
        yield Figure(f"fold of a batch{what}, of a bare one", bare / ours, "×", f"bare fold {plain:,.0f}/s", 0.4, more_is_better=True)
