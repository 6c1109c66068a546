"""A backend in memory: complete, thread-safe, for tests, the simulation and a first look without any cloud."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import msgspec

from tesseract.errors import ConditionFailed, NotFoundError
from tesseract.model import Item
from tesseract.storage.base import Absent, Backend, Before, Condition, Counters, Is, Key, NotAfter, ObjectInfo, Page
from tesseract.storage.codec import Wire, item_from_wire, item_to_wire, to_wire
from tesseract.utils.time_utils import utc_now

PAGE_BYTES = 1 << 20  # of JSON, about: DynamoDB gives a MB of items in an answer
_to_json = msgspec.json.Encoder().encode


class MemoryTable:
    """A table as a dict. Items pass the codec both ways, so that what comes back is what DynamoDB would give."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.counters = Counters()
        self._partitions: dict[str, dict[str, Wire]] = {}
        self._order: dict[str, list[str]] = {}
        self._lock = RLock()

    def get(self, key: Key) -> Item | None:
        with self._lock:
            wire = self._partitions.get(key[0], {}).get(key[1])
            return None if wire is None else item_from_wire(wire)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        return {key: item for key in keys if (item := self.get(key)) is not None}

    def query(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Item]:
        return map(item_from_wire, self._found(pk, low, high, reverse, limit))

    def pages(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Page]:
        left = limit
        while True:  # as over the wire: each page is of its own moment
            page = Page()
            size = 0
            for wire in self._found(pk, low, high, reverse, left):
                if size >= PAGE_BYTES:
                    break
                body = _to_json(wire)
                page.append(msgspec.Raw(body))
                size += len(body)
                last = wire["sk"]["S"]
            left -= len(page) if limit else 0
            page.more = size >= PAGE_BYTES and not (limit and not left)
            yield page
            if not page.more:
                return
            low, high = (low, last) if reverse else (f"{last}\0", high)

    def _found(self, pk: str, low: str | None, high: str | None, reverse: bool, limit: int) -> list[Wire]:
        with self._lock:
            order = self._order.get(pk, [])
            first = bisect_left(order, low) if low is not None else 0
            last = bisect_left(order, high) if high is not None else len(order)
            names = order[first:last]
            names = names[::-1] if reverse else names
            return [self._partitions[pk][sk] for sk in (names[:limit] if limit else names)]

    def put(self, item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        wire = item_to_wire(item)
        pk, sk = str(item["pk"]), str(item["sk"])
        with self._lock:
            self._check(pk, sk, condition)
            partition = self._partitions.setdefault(pk, {})
            if sk not in partition:
                order = self._order.setdefault(pk, [])
                order.insert(bisect_left(order, sk), sk)
            partition[sk] = wire

    def put_checked(self, item: Item, condition: Condition | None, check_key: Key, check: Condition) -> None:
        with self._lock:
            self._check(*check_key, check)
            self.put(item, condition)

    def put_many(self, items: Iterable[Item], until: datetime | None = None) -> list[Item]:
        for item in items:
            self.put(item)
        return []

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        pk, sk = key
        with self._lock:
            self._check(pk, sk, condition)
            if self._partitions.get(pk, {}).pop(sk, None) is not None:
                self._order[pk].remove(sk)

    def items(self) -> Iterator[Item]:
        """Every item, for oracles and tests."""
        with self._lock:
            return iter([item_from_wire(wire) for part in self._partitions.values() for wire in part.values()])

    def _check(self, pk: str, sk: str, condition: Condition | None) -> None:
        wire = self._partitions.get(pk, {}).get(sk)
        match condition:
            case None:
                return
            case Absent():
                holds = wire is None
            case Is(attribute, value):
                holds = wire is not None and wire.get(attribute) == to_wire(value)
            case Before(attribute, value):
                stored = None if wire is None else item_from_wire(wire).get(attribute)
                holds = stored is None or stored < value
            case NotAfter(attribute, value):
                stored = None if wire is None else item_from_wire(wire).get(attribute)
                holds = stored is None or (value is not None and stored <= value)
        if not holds:
            raise ConditionFailed("somebody else wrote first", operation="put", key=f"{pk} {sk}")


class MemoryObjects:
    """A bucket as a dict."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = RLock()

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._lock:
            if key not in self._objects:
                raise NotFoundError("there is no such object", operation="get", key=key)
            body = self._objects[key][0]
        return body[start:] if length is None else body[start : start + length]

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self.get(key))

    def put(self, key: str, body: bytes) -> None:
        with self._lock:
            self._objects[key] = (bytes(body), utc_now())

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def uri(self, key: str) -> str:
        return f"memory://{key}"

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [ObjectInfo(key, len(body), at) for key, (body, at) in self._objects.items()]
        return iter(sorted((info for info in found if info.key.startswith(prefix)), key=lambda info: info.key))

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)


def memory_backend() -> Backend:
    """A new, empty backend."""
    return Backend(MemoryTable("raw"), MemoryTable("live"), MemoryTable("catalog"), MemoryObjects())
