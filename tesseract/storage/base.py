"""What a storage backend can do: three tables and one bucket. Every backend passes the suite in tests/contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Protocol

import msgspec

from tesseract.model import Item

Key = tuple[str, str]  # (pk, sk)


@dataclass(frozen=True)
class Absent:
    """Nobody has written the item yet."""


@dataclass(frozen=True)
class Is:
    """The item is there and its attribute still has the value that was read."""

    attribute: str
    value: Any


@dataclass(frozen=True)
class Before:
    """The item is absent, or its attribute is less than `value`: the attribute only ever moves forward."""

    attribute: str
    value: Any


@dataclass(frozen=True)
class NotAfter:
    """The item is absent, or its attribute is, or is at most `value`. A value of None is before all others."""

    attribute: str
    value: Any


Condition = Absent | Is | Before | NotAfter


class Counters:
    """What happened to writes since the process began: how often, by name. Safe to share between threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, name: str, times: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += times

    def read(self) -> Counter[str]:
        """The counts as they are now; a name that was never counted has 0."""
        with self._lock:
            return self._counts.copy()


class Page(list[msgspec.Raw]):
    """The items of one answer to a query. `more`: they may not be all, another request follows."""

    more = False


class Table(Protocol):
    """A table of items with `pk` and `sk`. Reads are strongly consistent; errors are those of tesseract.errors.

    `counters` counts of its writes: `throttled` (calls that were refused for it), `unprocessed` (items that a call gave back).
    """

    counters: Counters

    def get(self, key: Key) -> Item | None:
        """The item, or None."""

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """The items that exist among `keys`, any number of them."""

    def query(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Item]:
        """The items of one partition with low <= sk < high in sort-key order; `limit` 0 means all."""

    def pages(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Page]:
        """`query`, undecoded: each item as JSON in DynamoDB's wire form, a page for each request; one may be empty.

        `codec.item_from_wire` decodes an item, `buffer_columns.buffer_table` those of a group's day together.
        """

    def put(self, item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        """Write the whole item. Raises ConditionFailed where the condition does not hold.

        With `until`, throttling is sat out until then, and nothing is sent after; raises Throttled where it lasts longer.
        """

    def put_checked(self, item: Item, condition: Condition | None, check_key: Key, check: Condition) -> None:
        """`put` that is also conditional on another item of the table, both as of one moment.

        Raises ConditionFailed where either condition does not hold: a reader finds out which. Costs twice what a put does.
        """

    def put_many(self, items: Iterable[Item], until: datetime | None = None) -> list[Item]:
        """Write items with distinct keys, without conditions; returns those that were not written by `until`, never drops one."""

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        """Remove the item if it is there."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object of the bucket."""

    key: str
    bytes: int
    modified: datetime


class Objects(Protocol):
    """The bucket."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes [start, start + length) of an object. Raises NotFoundError."""

    def open(self, key: str) -> BinaryIO:
        """An object as a stream, for reading once. Raises NotFoundError."""

    def put(self, key: str, body: bytes) -> None:
        """Write an object whole."""

    def upload(self, key: str, path: Path) -> None:
        """Write a local file as an object, whole or not at all, in bounded memory."""

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file, in bounded memory. Raises NotFoundError."""

    def uri(self, key: str) -> str:
        """Where other programs find an object: `s3://bucket/key`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under a prefix, in key order."""

    def delete(self, key: str) -> None:
        """Remove an object if it is there."""


@dataclass(frozen=True)
class Backend:
    """A stage's storage."""

    raw: Table
    live: Table
    catalog: Table
    objects: Objects
