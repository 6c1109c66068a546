"""A world whose objects are as old as its clock says, and a life of it: records, corrections, deletes, exports, compactions."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tests.support.archive_world import START, MemoryExports, World, temp

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class ClockedObjects(MemoryObjects):
    """Objects whose `modified` is what a clock said at their put."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.clock = clock

    def put(self, key: str, body: bytes) -> None:
        super().put(key, body)
        self._objects[key] = (bytes(body), self.clock())

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())


class KeepingWorld(World):
    """A world with `ClockedObjects`."""

    def __init__(self, dataset: Dataset | None = None) -> None:
        super().__init__(dataset)
        objects = ClockedObjects(lambda: self.now)
        self.backend = Backend(MemoryTable("raw"), MemoryTable("live"), MemoryTable("catalog"), objects)
        self.catalog = Catalog(self.backend.catalog, objects)
        self.exports = MemoryExports(self.backend, START)
        self.catalog.put_dataset(self.dataset, START)

    def day(self, seed: random.Random, groups: tuple[str, ...] = ("A", "B")) -> None:
        """A day passes: records of today and of the weeks before, some corrected, some deleted; then an export, at times more."""
        self.now = self.now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY + seed.randrange(20) * HOUR
        for _ in range(seed.randrange(1, 12)):
            at = self.now - seed.choice((0, 0, 0, 1, 3, 40)) * DAY - seed.randrange(24) * HOUR
            at = at.replace(minute=seed.choice((0, 30)), second=0, microsecond=0)
            gone = seed.random() < 0.15
            self.put(seed.choice(groups), at, {} if gone else temp(str(seed.randrange(400) / 10), seed.randrange(9)), gone)
        self.archive()
        if seed.random() < 0.8:
            self.snapshot()
        if seed.random() < 0.5:
            self.compact()

    def copy(self) -> KeepingWorld:
        """Another world in the same state: a life takes seconds, and many tests begin with one."""
        other = KeepingWorld(self.dataset)
        other.now = self.now
        for mine, its in (
            (self.backend.raw, other.backend.raw),
            (self.backend.live, other.backend.live),
            (self.backend.catalog, other.backend.catalog),
        ):
            its._partitions = {pk: dict(items) for pk, items in mine._partitions.items()}  # type: ignore[attr-defined]
            its._order = {pk: list(order) for pk, order in mine._order.items()}  # type: ignore[attr-defined]
        other.backend.objects._objects = dict(self.backend.objects._objects)  # type: ignore[attr-defined]
        other.exports.log, other.exports.tokens = list(self.exports.log), dict(self.exports.tokens)
        other.exports.status = dict(self.exports.status)
        return other

    def configure(self, **changes: object) -> None:
        """Apply another version of the configuration."""
        self.dataset = replace(self.dataset, version=self.dataset.version + 1, **changes)
        self.catalog.put_dataset(self.dataset, self.now)
