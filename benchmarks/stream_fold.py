"""The pure part of a batch: changes to items with their numbers, against a bare fold of plain decimals.

The bare fold keeps count, sum, sum of squares, least and greatest of each field and level as Python's decimals, and knows nothing
of order, watermarks, first, last, averages and deviations. Both get the same changes, decoded. Seconds are those of the processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from benchmarks import stream_samples
from benchmarks.figures import Figure, medians
from tesseract.config.dataset import Dataset
from tesseract.model import Change
from tesseract.processing.batches import Planned, plan, tasks_of
from tesseract.processing.changes import decode_batch
from tesseract.processing.live import Facts
from tesseract.processing.live_item import LiveItem, encode_item
from tesseract.storage.base import Key
from tesseract.utils.time_utils import utc_now

GROUPS, SECONDS, ROUNDS = 100, 60, 9
DATASET: Dataset = stream_samples.dataset()
NOW: datetime = utc_now()


def run() -> Iterator[Figure]:
    """A minute into items that hold a minute already, and into new ones; and what decoding the event takes before."""
    start = stream_samples.last_hour()
    events = [stream_samples.event(stream_samples.items(GROUPS, start + n * timedelta(seconds=SECONDS), SECONDS)) for n in (0, 1)]
    first, second = (decode_batch(event).changes for event in events)
    held = {part.task.key: part.new for part in _fold(first, {}) if part.new is not None}
    count, said = len(second), f"{len(second):,} records of {GROUPS} groups, 5 fields, 2 levels"
    for what, changes, items in (("a batch", second, held), ("a batch of new items", first, {})):
        bare, ours = medians(ROUNDS, _timed(partial(_bare, changes)), _timed(partial(_encoded, changes, items)))
        yield Figure(f"fold of {what}", count / ours, "records/s", f"{said}, one core", bar=100_000, more_is_better=True)
        plain = f"bare fold of decimals {count / bare:,.0f} records/s"
        yield Figure(f"fold of {what}, against a bare one", bare / ours, "×", plain, bar=0.4, more_is_better=True)
    (decoding,) = medians(ROUNDS, _timed(partial(decode_batch, events[1])))
    yield Figure("stream event to changes", count / decoding, "records/s", said)


def _fold(changes: Sequence[Change], items: Mapping[Key, LiveItem]) -> list[Planned]:
    of, now = DATASET, NOW
    return plan(tasks_of(changes, of, lambda level, group: Facts(of, level, now, lambda period: False)), items)


def _encoded(changes: Sequence[Change], items: Mapping[Key, LiveItem]) -> list[Any]:
    """The whole of the pure work: items with their plain numbers and states, as the table takes them."""
    planned = _fold(changes, items)
    return [encode_item(part.new, part.task.facts.level, NOW) for part in planned if part.new is not None]


def _bare(changes: Sequence[Change]) -> dict[Any, list[Any]]:
    states: dict[Any, list[Any]] = {}
    for change in changes:
        image = change.new
        if image is None:
            continue
        for level, period in (("hourly", change.time[:13]), ("daily", change.time[:10])):
            for name, value in image.fields.items():
                key = (change.group, level, period, name)
                state = states.get(key)
                if state is None:
                    states[key] = [1, value, value * value, value, value]  # type: ignore[operator]
                    continue
                state[0] += 1
                state[1] += value
                state[2] += value * value  # type: ignore[operator]
                if value < state[3]:
                    state[3] = value
                if value > state[4]:
                    state[4] = value
    return states


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return measure
