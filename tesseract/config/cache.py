"""Cached reads of configurations: what another process applied is seen within 60 s. Every function reads through here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError, UnknownDataset

CACHE = timedelta(seconds=60)
FRESH = timedelta(seconds=1)  # young enough for one who asks for a fresh copy: at most one read a second and process


class ConfigReader(Protocol):
    """Where versions of configurations are read (storage.configurations)."""

    def dataset_names(self) -> list[str]:
        """All datasets, in order."""

    def dataset(self, name: str, version: int | None = None) -> Dataset | None:
        """One version, the newest by default. Raises DamagedError where it does not decode."""

    def mark_used(self, name: str) -> None:
        """Say that a record of a dataset is about to come."""


class Configs:
    """The configurations of a stage. An unknown name is never answered from the cache, and nor is a damaged one."""

    def __init__(self, store: ConfigReader, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._cache: dict[str, tuple[datetime, Dataset]] = {}
        self._before: dict[tuple[str, int], Dataset] = {}
        self._used: set[str] = set()

    def get(self, name: str, at_least: int = 0) -> Dataset:
        """The newest version of a dataset as of 60 s ago or later, and at least version `at_least`.

        Raises UnknownDataset, and DamagedError where what is stored does not decode; other datasets are not concerned.
        """
        found = self._cached(name, CACHE)
        return found if found is not None and found.version >= at_least else self._read(name)

    def refresh(self, name: str) -> Dataset:
        """The newest version, read afresh unless the cached copy is younger than a second. Raises as `get` does."""
        return self._cached(name, FRESH) or self._read(name)

    def use(self, name: str) -> Dataset:
        """`get` for who is about to write records: they are made for this version, or for one before it.

        Before the process's first write of a dataset it is marked as used, and only then read, afresh. See storage.configurations.
        """
        if name not in self._used:
            self._store.mark_used(name)
            self._read(name)
            self._used.add(name)  # last: another thread must not write on the strength of a read that was before the mark
        return self.get(name)

    def before(self, dataset: Dataset) -> Dataset | None:
        """The version before `dataset`, None of the first. Versions never change, so it is read once."""
        key = (dataset.name, dataset.version - 1)
        if dataset.version > 1 and key not in self._before:
            found = self._store.dataset(*key)
            if found is None:
                raise DamagedError("a version of the configuration is missing", key=f"{key[0]} version {key[1]}")
            self._before = {kept: value for kept, value in self._before.items() if kept[0] != dataset.name} | {key: found}
        return self._before.get(key)

    def knows(self, name: str) -> bool:
        """Whether there is such a dataset. Raises DamagedError where there is, but it does not decode."""
        try:
            self.get(name)
        except UnknownDataset:
            return False
        return True

    def _cached(self, name: str, age: timedelta) -> Dataset | None:
        read_at, dataset = self._cache.get(name, (None, None))
        return dataset if read_at is not None and self._clock() - read_at < age else None

    def _read(self, name: str) -> Dataset:
        now = self._clock()  # before the read: the copy is never older than it says
        dataset = self._store.dataset(name)
        if dataset is None:
            raise UnknownDataset(f"there is no dataset {name!r}", hint=_known(name, self._store.dataset_names()))
        self._cache[name] = (now, dataset)
        return dataset


def _known(name: str, names: list[str]) -> str:
    from difflib import get_close_matches  # hardly ever needed, and cold starts read this module

    close = get_close_matches(name, names, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}known datasets: {', '.join(names) or 'none yet'}"
