"""The life of a configuration: plan a change, apply it as a new version, read it through a cache that is 60 s old at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from tesseract.config.dataset import Dataset, Level
from tesseract.errors import ConditionFailed, ConfigError, UnknownDataset
from tesseract.utils.time_utils import to_micros

CACHE = timedelta(seconds=60)


class ConfigStore(Protocol):
    """Where versions of configurations are kept (storage.catalog)."""

    def dataset_names(self) -> list[str]:
        """All datasets, in order."""

    def dataset(self, name: str, version: int | None = None) -> Dataset | None:
        """One version, the newest by default."""

    def put_dataset(self, dataset: Dataset, now: datetime) -> None:
        """Add a version. Raises ConditionFailed where it exists."""


@dataclass(frozen=True)
class Plan:
    """What applying a configuration would do. `refusals` says why it will not be done."""

    dataset: Dataset  # with its version and live_from set
    changes: tuple[str, ...]
    refusals: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`new`, `unchanged`, `changed` or `refused`."""
        if self.refusals:
            return "refused"
        if not self.changes:
            return "unchanged"
        return "new" if self.dataset.version == 1 else "changed"


def plan(old: Dataset | None, wanted: Dataset, now: datetime) -> Plan:
    """How `wanted` follows on `old`. Pure.

    What records and numbers mean may not change yet: the group, the times, the fields and the statistics of a level stay as they
    were first applied. A level that is added counts from when every writer knows of it (60 s of cache) and every record that may
    already be there, stamped ahead of the clock, has passed.
    """
    if old is None:
        levels = tuple(msgspec.structs.replace(level, live_from=None) for level in wanted.levels)
        return Plan(msgspec.structs.replace(wanted, version=1, levels=levels), ("new dataset",))
    refusals = tuple(
        f"{name} cannot change once a dataset exists: give the new meaning a new dataset name"
        for name in ("group_by", "time_field", "ref_time_field", "unknown_fields", "fields")
        if getattr(old, name) != getattr(wanted, name)
    )
    refusals += tuple(
        f"the statistics of level {level.name} cannot change once it exists"
        for level in wanted.levels
        if (before := old.level(level.name)) is not None and before.stats != level.stats
    )
    horizon = max(old.max_future_seconds, wanted.max_future_seconds)
    live_from = to_micros(now + CACHE + timedelta(seconds=horizon))
    levels = tuple(_next_level(old.level(level.name), level, live_from) for level in wanted.levels)
    new = msgspec.structs.replace(wanted, version=old.version, levels=levels)
    changes = tuple(
        f"{name}: {getattr(old, name)!r} → {getattr(new, name)!r}"
        for name in ("buffer_ttl_hours", "ladder", "levels", "max_future_seconds", "description")
        if getattr(old, name) != getattr(new, name)
    )
    if changes and not refusals:
        new = msgspec.structs.replace(new, version=old.version + 1)
    return Plan(new, changes, refusals)


def _next_level(old: Level | None, wanted: Level, live_from: int) -> Level:
    """A level keeps its life; one that is added, also one that was there before, begins a new one."""
    return msgspec.structs.replace(wanted, live_from=live_from if old is None else old.live_from)


def apply(store: ConfigStore, wanted: Dataset, now: datetime) -> Plan:
    """Plan against what is stored, and write the new version. Raises ConfigError on a refusal or a race."""
    planned = plan(store.dataset(wanted.name), wanted, now)
    if planned.refusals:
        raise ConfigError(f"dataset {wanted.name}: {'; '.join(planned.refusals)}", planned.refusals)
    if planned.verdict != "unchanged":
        try:
            # two people apply at once: both planned version n+1, the second put finds it there
            store.put_dataset(planned.dataset, now)
        except ConditionFailed as error:
            raise ConfigError(
                f"dataset {wanted.name}: somebody applied version {planned.dataset.version} at the same time; look and apply again"
            ) from error
    return planned


class Configs:
    """Cached reads. A change of another process is seen within 60 s; an unknown name is never answered from the cache."""

    def __init__(self, store: ConfigStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._cache: dict[str, tuple[datetime, Dataset]] = {}

    def get(self, name: str, at_least: int = 0) -> Dataset:
        """The newest version of a dataset, at least version `at_least`. Raises UnknownDataset."""
        now = self._clock()
        cached = self._cache.get(name)
        if cached and now - cached[0] < CACHE and cached[1].version >= at_least:
            return cached[1]
        dataset = self._store.dataset(name)
        if dataset is None:
            known = ", ".join(self._store.dataset_names()) or "none yet"
            raise UnknownDataset(f"there is no dataset {name!r}", hint=f"known datasets: {known}")
        self._cache[name] = (now, dataset)
        return dataset

    def knows(self, name: str) -> bool:
        """Whether there is such a dataset."""
        try:
            self.get(name)
        except UnknownDataset:
            return False
        return True
