"""Storage that counts what is read of it: requests and bytes, by service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import msgspec

from tesseract.model import Item
from tesseract.storage.base import Backend, Condition, Key, ObjectInfo, Objects, Page, Table
from tesseract.storage.codec import item_from_wire

READ_BATCH = 100  # items of a BatchGetItem
LISTED = 1000  # objects of an answer to a listing
_size = msgspec.json.Encoder().encode


class Reads(NamedTuple):
    """What was read. `dynamodb_bytes` are those of the items' JSON, about; `s3_bytes` those of the objects' parts."""

    dynamodb_requests: int = 0
    dynamodb_bytes: int = 0
    s3_requests: int = 0
    s3_bytes: int = 0


class Meter:
    """Counts reads. Safe to share between threads."""

    def __init__(self) -> None:
        self._reads = Reads()
        self._lock = Lock()

    def dynamodb(self, requests: int, received: int) -> None:
        """Count requests to DynamoDB and the bytes that came."""
        with self._lock:
            now = self._reads
            self._reads = now._replace(dynamodb_requests=now[0] + requests, dynamodb_bytes=now[1] + received)

    def s3(self, requests: int, received: int) -> None:
        """Count requests to S3 and the bytes that came."""
        with self._lock:
            now = self._reads
            self._reads = now._replace(s3_requests=now[2] + requests, s3_bytes=now[3] + received)

    def read(self) -> Reads:
        """The counts as they are now."""
        return self._reads


def metered(backend: Backend, meter: Meter) -> Backend:
    """The same storage, every read of which `meter` counts. A page of a query is a request; writes are not counted."""
    raw, live, catalog = (MeteredTable(table, meter) for table in (backend.raw, backend.live, backend.catalog))
    return Backend(raw, live, catalog, MeteredObjects(backend.objects, meter))


class MeteredTable:
    """A table whose reads are counted."""

    def __init__(self, table: Table, meter: Meter) -> None:
        self._table, self._meter, self.counters = table, meter, table.counters

    def get(self, key: Key) -> Item | None:
        found = self._table.get(key)
        self._meter.dynamodb(1, 0 if found is None else _bytes(found))
        return found

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        asked = list(dict.fromkeys(keys))
        found = self._table.get_many(asked)
        self._meter.dynamodb(-(-len(asked) // READ_BATCH), sum(map(_bytes, found.values())))
        return found

    def query(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Item]:
        for page in self.pages(pk, low, high, reverse=reverse, limit=limit):
            yield from map(item_from_wire, page)

    def pages(
        self, pk: str, low: str | None = None, high: str | None = None, *, reverse: bool = False, limit: int = 0
    ) -> Iterator[Page]:
        for page in self._table.pages(pk, low, high, reverse=reverse, limit=limit):
            self._meter.dynamodb(1, len(b"".join(page)))
            yield page

    def put(self, item: Item, condition: Condition | None = None, until: datetime | None = None) -> None:
        self._table.put(item, condition, until)

    def put_checked(self, item: Item, condition: Condition | None, check_key: Key, check: Condition) -> None:
        self._table.put_checked(item, condition, check_key, check)

    def put_many(self, items: Iterable[Item], until: datetime | None = None) -> list[Item]:
        return self._table.put_many(items, until)

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        self._table.delete(key, condition)


class MeteredObjects:
    """A bucket whose reads are counted."""

    def __init__(self, objects: Objects, meter: Meter) -> None:
        self._objects, self._meter = objects, meter

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        found = self._objects.get(key, start, length)
        self._meter.s3(1, len(found))
        return found

    def open(self, key: str) -> BinaryIO:
        self._meter.s3(1, 0)  # how much of it is read is not known
        return self._objects.open(key)

    def put(self, key: str, body: bytes) -> None:
        self._objects.put(key, body)

    def upload(self, key: str, path: Path) -> None:
        self._objects.upload(key, path)

    def download(self, key: str, path: Path) -> None:
        self._objects.download(key, path)
        self._meter.s3(1, path.stat().st_size)

    def uri(self, key: str) -> str:
        return self._objects.uri(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for place, info in enumerate(self._objects.list(prefix)):
            if place % LISTED == 0:
                self._meter.s3(1, 0)
            yield info

    def delete(self, key: str) -> None:
        self._objects.delete(key)


def _bytes(item: Item) -> int:
    return len(_size(item))
