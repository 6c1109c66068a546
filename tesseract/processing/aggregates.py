"""Protocol A, carried out: read the items of a batch at once, apply the rule, write each item once under a condition."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from threading import Event

import msgspec

from tesseract.config.cache import Configs
from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import Period
from tesseract.errors import ConditionFailed, TesseractError
from tesseract.model import Change, Item, Manifest
from tesseract.processing.live import Facts, apply, touched
from tesseract.processing.live_item import LiveItem, decode_item, encode_item
from tesseract.storage.base import Absent, Is, Key, Table
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import worklist_key
from tesseract.utils.time_utils import iso_micros, to_micros

logger = logging.getLogger(__name__)
PARALLEL = 8
ATTEMPTS = 20


class _Task(msgspec.Struct):
    """One aggregate item of a batch."""

    key: Key
    level: Level
    facts: Facts
    changes: list[Change]
    done: bool = False


class AggregateProcessor:
    """Keeps the aggregate items of a stage. Every call may come again, in part or twice at once: nothing is counted twice."""

    def __init__(self, live: Table, catalog: Catalog, configs: Configs, clock: Callable[[], datetime]) -> None:
        self._live, self._catalog, self._configs, self._clock = live, catalog, configs, clock
        self._pool = ThreadPoolExecutor(PARALLEL)

    def process(self, changes: list[Change]) -> str | None:
        """Apply the changes of one shard, in order.

        Returns the lowest sequence number among the changes that are not durably applied, None where all are: the stream
        delivers again from there.
        """
        tasks = self._tasks(changes)
        items = self._live.get_many(task.key for task in tasks)
        stop = Event()
        planned = [(task, *self._plan(task, items.get(task.key))) for task in tasks]
        marks = [task.key for task, old, new in planned if _is_marked(old, new)]
        if marks and self._live.put_many(_worklist_entry(key, self._clock()) for key in marks):
            return _lowest(tasks)  # an entry is missing: no item may be marked before it is on the worklist
        list(self._pool.map(lambda plan: self._carry_out(*plan), [(*plan, stop) for plan in planned]))
        return _lowest([task for task in tasks if not task.done])

    def _tasks(self, changes: list[Change]) -> list[_Task]:
        by_dataset: dict[str, list[Change]] = {}
        for change in changes:
            by_dataset.setdefault(change.dataset, []).append(change)
        tasks: list[_Task] = []
        for name, own in by_dataset.items():
            # a change is never read under an older configuration than the one that wrote it
            dataset = self._configs.get(name, max((c.new.config_version for c in own if c.new), default=0))
            manifests: dict[str, Manifest] = {}
            covered = {level.name: level.covered() for level in dataset.levels}
            for key, (level, group) in touched(own, dataset).items():
                archived = partial(self._archived, dataset, group[0].group, manifests)
                tasks.append(_Task(key, level, Facts(dataset, level, self._clock(), archived, covered[level.name]), group))
        return tasks

    def _archived(self, dataset: Dataset, group: str, manifests: dict[str, Manifest], period: Period) -> bool:
        """Whether a segment of the group has rows within a period; one read of the manifest a batch and group."""
        if group not in manifests:
            manifests[group] = self._catalog.manifest(dataset.name, "raw", group)
        start, end = to_micros(period.start), to_micros(period.end)
        return any(segment.first < end and segment.last >= start for segment in manifests[group].segments)

    def _plan(self, task: _Task, item: Item | None) -> tuple[LiveItem | None, LiveItem | None]:
        old = None if item is None else decode_item(item)
        return old, apply(old, task.key, task.changes, task.facts)

    def _carry_out(self, task: _Task, old: LiveItem | None, new: LiveItem | None, stop: Event) -> None:
        """Write one item; on a conflict read again and apply again. The first failure stops what has not begun."""
        try:
            for _ in range(ATTEMPTS):
                if stop.is_set():
                    return
                if new is None or self._write(task, old, new):
                    task.done = True
                    return
                old, new = self._plan(task, self._live.get(task.key))
                if _is_marked(old, new):
                    self._live.put(_worklist_entry(task.key, self._clock()))
        except TesseractError as error:  # what was not written is delivered again; the log says why
            stop.set()
            logger.warning("an aggregate was not written: %s", error)

    def _write(self, task: _Task, old: LiveItem | None, new: LiveItem) -> bool:
        # two invocations of one shard after a time-out: both read version n, only one writes n+1, the other reads again
        # and finds its changes below the watermark
        condition = Absent() if old is None else Is("version", old.version)
        try:
            self._live.put(encode_item(new, task.level, self._clock()), condition)
        except ConditionFailed:
            return False
        return True


def _is_marked(old: LiveItem | None, new: LiveItem | None) -> bool:
    """Whether this write is what makes the item stale."""
    return new is not None and new.stale_at is not None and (old is None or old.stale_at is None)


def _worklist_entry(key: Key, now: datetime) -> Item:
    """Asks the archiver to repair an item. The token tells this request from an earlier one."""
    pk, sk = worklist_key(*key)
    return {"pk": pk, "sk": sk, "token": uuid.uuid4().hex, "put_at": iso_micros(now)}


def _lowest(tasks: list[_Task]) -> str | None:
    return min((change.sequence for task in tasks for change in task.changes), key=int, default=None)
