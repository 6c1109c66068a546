"""Protocol A, carried out: read the items of a batch at once, apply the rule, write each item once under a condition."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import groupby
from threading import Event

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Period
from tesseract.errors import ConditionFailed, InputError, NotFoundError, RetryError, TesseractError
from tesseract.model import Change, Manifest
from tesseract.processing.aggregator import known
from tesseract.processing.batches import Planned, Task, plan, tasks_of
from tesseract.processing.extremes import looked_up
from tesseract.processing.live import DELTA, Facts, marked_stale
from tesseract.processing.live_item import LiveItem, decode_item, encode_item
from tesseract.processing.outage import Watch
from tesseract.processing.worklist import entry
from tesseract.storage.base import Absent, Is, Key, Table
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import to_micros

logger = logging.getLogger(__name__)
PARALLEL = 8
ATTEMPTS = 20


class AggregateProcessor:
    """Keeps the aggregate items of a stage. Every call may come again, in part or twice at once: nothing is counted twice."""

    def __init__(self, raw: Table, live: Table, catalog: Catalog, configs: Configs, clock: Callable[[], datetime]) -> None:
        self._raw, self._live, self._catalog, self._configs, self._clock = raw, live, catalog, configs, clock
        self._watch = Watch(catalog, "aggregates")
        self._pool = ThreadPoolExecutor(PARALLEL)

    def process(self, changes: list[Change], held: Sequence[Change] = ()) -> str | None:
        """Apply the changes of one shard, in order. The age of others, `held` back and perhaps lost in the end, counts for outages.

        Returns the lowest sequence number among the changes that are not durably applied, None where all are: the stream
        delivers again from there.
        """
        outage = self._watch.begin([*changes, *held], self._clock())
        tasks, items = self._read(changes, outage)
        stop = Event()
        try:
            planned = plan(tasks, items)
            marks = [entry(part.task.key, self._clock()) for part in planned if part.marks]
            if marks and self._live.put_many(marks):
                return _lowest(tasks)  # an entry is missing: no item may be marked before it is on the worklist
            # what must be looked up comes last, finer levels first: a day's extremes are those of its hours as just written
            for _, parts in groupby(sorted(planned, key=_round), _round):
                list(self._pool.map(lambda part: self._carry_out(part, stop), list(parts)))
        except TesseractError as error:
            logger.warning("a batch was not applied: %s", error)
        lowest = _lowest([task for task in tasks if not task.done])
        if lowest is None and not held:
            self._watch.end(self._clock())
        return lowest

    def _read(self, changes: list[Change], outage: bool) -> tuple[list[Task], dict[Key, LiveItem]]:
        """The tasks of a batch and the items that are there, under configurations no older than those that wrote the items."""
        newest: dict[str, int] = {}
        while True:
            tasks = self._tasks(changes, newest, outage)
            items = {key: decode_item(item) for key, item in self._live.get_many(task.key for task in tasks).items()}
            newer = {
                task.facts.dataset.name: version
                for task in tasks
                if task.key in items and (version := items[task.key].config_version) > task.facts.dataset.version
            }
            if not newer:
                return tasks, items
            if newer.items() <= newest.items():  # asked for, and not there: a catalog that was restored to an earlier day
                raise RetryError("items were written under configurations that the catalog does not have", key=str(newer))
            newest |= newer

    def _tasks(self, changes: list[Change], newest: Mapping[str, int], outage: bool) -> list[Task]:
        by_dataset: dict[str, list[Change]] = {}
        for change in changes:
            by_dataset.setdefault(change.dataset, []).append(change)
        tasks: list[Task] = []
        for name, own in by_dataset.items():
            # a change is never read under an older configuration than the one that wrote it
            dataset = self._configs.get(name, max((newest.get(name, 0), *(c.new.config_version for c in own if c.new))))
            tasks += tasks_of(own, dataset, self._facts(dataset, outage))
        return tasks

    def _facts(self, dataset: Dataset, outage: bool) -> Callable[[Level, str], Facts]:
        manifests: dict[str, Manifest] = {}
        now = self._clock()

        def facts(level: Level, group: str) -> Facts:
            return Facts(dataset, level, now, lambda period: self._archived(dataset, group, manifests, period), outage)

        return facts

    def _archived(self, dataset: Dataset, group: str, manifests: dict[str, Manifest], period: Period) -> bool:
        """Whether a segment of the group has rows within a period; one read of the manifest a batch and group."""
        if group not in manifests:
            manifests[group] = self._catalog.manifest_of(dataset, "raw", group)
        start, end = to_micros(period.start), to_micros(period.end)
        return any(segment.first < end and segment.last >= start for segment in manifests[group].segments)

    def _carry_out(self, part: Planned, stop: Event) -> None:
        """Write one item; on a conflict read again and apply again. The first failure stops what has not begun."""
        try:
            for _ in range(ATTEMPTS):
                if stop.is_set() or self._attempt(part):
                    return
                found = self._live.get(part.task.key)
                items = {} if found is None else {part.task.key: decode_item(found)}
                if any(item.config_version > part.task.facts.dataset.version for item in items.values()):
                    raise RetryError("the item was written under a newer configuration", key=" ".join(part.task.key))
                (part,) = plan([part.task], items)
                if part.marks:
                    self._live.put(entry(part.task.key, self._clock()))
        except TesseractError as error:  # what was not written is delivered again; the log says why
            stop.set()
            logger.warning("an aggregate was not written: %s", error)

    def _attempt(self, part: Planned) -> bool:
        """Whether the item is as it should be: written, or nothing to write."""
        new = part.new
        if new is not None and not known(new.state):
            new = looked_up(new, part.task.facts, self._raw, self._live, self._clock)
            if new.stale_at is not None:
                self._live.put(entry(part.task.key, self._clock()))  # before the mark
        part.task.done = new is None or self._write(part.task, part.old, new)
        return part.task.done

    def _write(self, task: Task, old: LiveItem | None, new: LiveItem) -> bool:
        # two invocations of one shard after a time-out: both read version n, only one writes n+1, the other reads again
        # and finds its changes below the watermark
        condition = Absent() if old is None else Is("version", old.version)
        try:
            self._live.put(encode_item(new, task.facts.level, self._clock()), condition)
        except ConditionFailed:
            return False
        except InputError as error:
            if isinstance(error, NotFoundError) or new.stale_at is not None:
                raise
            # statistics of thousands of fields: more than an item holds, however often the batch comes again
            logger.error("an aggregate shows no numbers: %s", error)
            self._live.put(entry(task.key, self._clock()))
            return self._write(task, old, marked_stale(new, task.facts.level, int(self._clock().timestamp()) + DELTA))
        return True


def _round(part: Planned) -> int:
    """0 for what can be written at once, then the levels, finer ones first."""
    return 0 if part.new is None or known(part.new.state) else 1 + UNITS[part.task.facts.level.name].rank


def _lowest(tasks: Sequence[Task]) -> str | None:
    return min((change.sequence for task in tasks for change in task.changes), key=int, default=None)
