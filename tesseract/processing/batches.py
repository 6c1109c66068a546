"""A batch of changes as tasks, one for each aggregate item that it touches, and what it makes of all of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS
from tesseract.model import Change
from tesseract.processing.aggregator import State, identity, merge, shift
from tesseract.processing.live import Applied, Facts, News, apply, finish, inserted, news_of
from tesseract.processing.live_item import LiveItem, included, live_levels
from tesseract.storage.base import Key
from tesseract.storage.keys import live_key
from tesseract.utils.time_utils import from_micros

MINUTE = 16  # characters of a time as text that tell its minute: all periods begin on one


class Task(msgspec.Struct, eq=False):
    """One aggregate item of a batch, with its changes in order, and the tasks of the next finer level within its period."""

    key: Key
    facts: Facts
    changes: list[Change]
    parts: list[Task]
    done: bool = False


class Planned(msgspec.Struct):
    """A task with the item that was read and the one to write; None where there is none, or nothing to write."""

    task: Task
    old: LiveItem | None
    new: LiveItem | None

    @property
    def marks(self) -> bool:
        """Whether this write is what makes the item stale: an item of a former life, stale or not, is on no list."""
        old, new = self.old, self.new
        return (
            new is not None and new.stale_at is not None and (old is None or old.stale_at is None or old.live_from != new.live_from)
        )


def tasks_of(changes: Iterable[Change], dataset: Dataset, facts: Callable[[Level, str], Facts]) -> list[Task]:
    """The aggregate items of one dataset that changes belong to, finer levels first. `facts` are those of a level and a group."""
    levels = sorted(live_levels(dataset), key=lambda level: UNITS[level.name].rank)
    found: dict[str, dict[Key, Task]] = {level.name: {} for level in levels}
    chains: dict[tuple[str, str], list[Task]] = {}
    for change in changes:
        place = (change.group, change.time[:MINUTE])
        chain = chains.get(place)
        if chain is None:
            at = from_micros(change.at)
            chain = chains[place] = []
            for level in levels:
                key = live_key(dataset.name, change.group, UNITS[level.name], at)
                task = found[level.name].get(key)
                if task is None:
                    task = found[level.name][key] = Task(key, facts(level, change.group), [], [])
                if chain and chain[-1] not in task.parts:
                    task.parts.append(chain[-1])
                chain.append(task)
        for task in chain:
            task.changes.append(change)
    return [task for own in found.values() for task in own.values()]


def plan(tasks: Iterable[Task], items: Mapping[Key, LiveItem]) -> list[Planned]:
    """What a batch makes of its items, `tasks` finer levels first.

    The records that are new in an hour are folded once, and serve the day, too, where both watermarks select the same ones.
    """
    deltas: dict[int, tuple[Applied, State]] = {}
    news: dict[int, News | None] = {}
    planned = []
    for task in tasks:
        old = items.get(task.key)
        alone = id(task.parts[0]) if [len(part.changes) for part in task.parts] == [len(task.changes)] else None
        news[id(task)] = news[alone] if alone in news else news_of(task.changes)
        applied = apply(old, task.key, task.changes, task.facts, news[id(task)])
        new = delta = None
        if applied is not None:
            if applied.inserts and applied.folds:
                delta = _of_parts(task, applied, deltas) or inserted(applied, task.facts)
                deltas[id(task)] = (applied, delta)
            new = finish(applied, task.facts, delta)
        planned.append(Planned(task, old, new))
    return planned


def _of_parts(task: Task, applied: Applied, deltas: Mapping[int, tuple[Applied, State]]) -> State | None:
    """The state of the new records of an item, merged from its finer items of this batch; None where those hold others."""
    fields, total, records = included(applied.item, task.facts.level), identity(), 0
    own: set[int] | None = None
    for part in task.parts:
        if id(part) not in deltas:
            continue
        finer, state = deltas[id(part)]
        if included(finer.item, part.facts.level) != fields:
            return None
        if finer.folds != applied.folds:  # nearly always the batch lies within one of them, whose changes are those of all
            own = own or set(map(id, applied.folds))
            if not own.issuperset(map(id, finer.folds)):
                return None
        total = merge(total, shift(state, finer.item.start - applied.item.start))
        records += len(finer.folds)
    return total if records == len(applied.folds) else None
