"""A stage's storage as one query reads it: the tiers, a pool of threads since most of a query is waiting, and a deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import TIMEOUT_MAX, local
from time import monotonic, sleep
from typing import ParamSpec, TypeVar

import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import RetryError
from tesseract.model import Manifest, of_group
from tesseract.query.catalog import Lookup
from tesseract.query.density import Densities
from tesseract.query.past import Past
from tesseract.query.plan import SegmentSlice
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.footers import Bounds, Footers
from tesseract.storage.keys import group_values, partition_name
from tesseract.storage.metered import Meter, Reads, metered
from tesseract.storage.segment_reader import read
from tesseract.storage.wire import pauses
from tesseract.utils.time_utils import from_micros

PARALLEL = 16
PATIENCE = 20.0  # seconds of throttling that a query without a time-out sits out
P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class _Asking(local):
    """For which query a thread is at work."""

    meter: Meter | None = None


_asking = _Asking()


class _PerQuery(Meter):
    """Counts for the query that a thread is at work for."""

    def dynamodb(self, requests: int, received: int) -> None:
        if _asking.meter is not None:
            _asking.meter.dynamodb(requests, received)

    def s3(self, requests: int, received: int) -> None:
        if _asking.meter is not None:
            _asking.meter.s3(requests, received)


def counting(backend: Backend) -> Backend:
    """The same storage, whose reads count for the query that they are made for."""
    return metered(backend, _PerQuery())


class Source:
    """The storage of a stage, for any number of queries; `within` gives one for a single query, which is timed and counted."""

    def __init__(self, backend: Backend, catalog: Catalog | Past, lookup: Lookup | Past, like: Source | None = None) -> None:
        self.backend, self.catalog, self.lookup = backend, catalog, lookup
        self._pool: ThreadPoolExecutor = like._pool if like else ThreadPoolExecutor(PARALLEL, thread_name_prefix="tesseract-query")
        self._footers: Footers = like._footers if like else Footers()
        self.densities: Densities = like.densities if like else Densities()
        self._meter: Meter = like._meter if like else Meter()
        self._running: set[Future[object]] = like._running if like else set()
        self._seconds: float | None = like._seconds if like else None
        self._deadline: float | None = like._deadline if like else None

    @property
    def is_past(self) -> bool:
        """Whether it shows a state of the past."""
        return isinstance(self.catalog, Past)

    def at(self, past: Past) -> Source:
        """The same storage as it was at a moment, for the same query."""
        return Source(self.backend, past, past, self)

    def within(self, seconds: float | None) -> Source:
        """The same storage for one query, whose reads raise RetryError once `seconds` are over; None: never."""
        other = Source(self.backend, self.catalog, self.lookup, self)
        other._meter, other._running, other._seconds = Meter(), set(), seconds
        other._deadline = None if seconds is None else monotonic() + seconds
        return other

    @property
    def reads(self) -> Reads:
        """What has been read for this query so far."""
        return self._meter.read()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a call in the pool; `result` gives what it gives. A call that was begun must not wait for another one."""
        future = self._pool.submit(lambda: self.counted(lambda: self._patiently(lambda: function(*args, **kwargs))))
        self._running.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._running.discard)
        return future

    def counted(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call whose reads count for this query."""
        before, _asking.meter = _asking.meter, self._meter
        try:
            return function(*args, **kwargs)
        finally:
            _asking.meter = before

    def _patiently(self, call: Callable[[], T]) -> T:
        """A read that is tried again where the same may succeed later, as long as the query may take, for PATIENCE at most."""
        end = monotonic() + PATIENCE
        end = end if self._deadline is None else min(end, self._deadline)
        for pause in pauses():
            try:
                return call()
            except RetryError:
                if monotonic() + pause >= end:
                    raise
            sleep(pause)
        raise AssertionError("unreachable")

    def result(self, future: Future[T]) -> T:
        """What a call gave. Raises what it raised, and RetryError where the query's time is over."""
        if self._deadline is None:
            return future.result()
        try:
            return future.result(min(max(self._deadline - monotonic(), 0), TIMEOUT_MAX))
        except TimeoutError:
            if future.done():  # the call's own
                raise
            raise RetryError(
                f"the query took longer than {self._seconds:g} s", hint="ask for less, for a coarser level, or allow it more time"
            ) from None

    def cancel(self) -> None:
        """Give up the calls that have been begun and are not under way."""
        for future in list(self._running):
            future.cancel()

    def map(self, function: Callable[[S], T], values: Iterable[S]) -> list[T]:
        """`function` of each value, in order; the first error stops it. Must not be called from within itself."""
        futures = [self.submit(function, value) for value in values]
        try:
            return [self.result(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def manifests(self, dataset: Dataset, level: str, groups: Iterable[str]) -> dict[str, Callable[[], Manifest]]:
        """Group → a call that waits for what the newest manifest has of it. Partitions that groups share are read once."""
        if isinstance(self.catalog, Past):
            past = self.catalog
            return {group: lambda group=group: past.manifest_of(dataset, level, group) for group in groups}  # type: ignore[misc]
        names = {group: partition_name(dataset, group) for group in groups}
        begun = {name: self.submit(self.catalog.manifest, dataset.name, level, name) for name in dict.fromkeys(names.values())}
        return {group: lambda group=group, name=name: of_group(self.result(begun[name]), group) for group, name in names.items()}  # type: ignore[misc]

    def last_manifest(self, dataset: Dataset, level: str, group: str) -> Manifest | None:
        """What the newest manifest had of a group when this process last saw it; None where it has not, and of the past."""
        if isinstance(self.catalog, Past):
            return None
        known = self.catalog.last_manifest(dataset.name, level, partition_name(dataset, group))
        return None if known is None else of_group(known, group)

    def segment(
        self,
        dataset: Dataset,
        group: str,
        part: SegmentSlice,
        time: str,
        columns: Sequence[str] | None = None,
        may: Callable[[Bounds], bool] | None = None,
    ) -> pa.Table:
        """The rows of a group in a segment's slice, without the row groups of which `may` says that none is wanted."""
        start = None if part.start <= part.segment.first else from_micros(part.start)
        end = None if part.end > part.segment.last else from_micros(part.end)
        own, objects = group_values(dataset, group), self.backend.objects
        return read(objects, part.segment, time, start, end, columns, own, footers=self._footers, may=may)
