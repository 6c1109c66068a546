"""Manifests as they were decoded last: a query asks which is the newest, and nearly always it is the one that it had before."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

import msgspec

from tesseract.errors import DamagedError
from tesseract.model import Item, Manifest
from tesseract.storage.base import Objects

SIZE = 32 << 20  # bytes of JSON, whose manifests take about twice that


def decoded(item: Item, objects: Objects) -> tuple[Manifest, int]:
    """The manifest of an item, which may lie in the bucket, and the length of its JSON. Raises DamagedError."""
    body = item["body"] if "body" in item else objects.get(item["object"])
    try:
        return msgspec.json.decode(body, type=Manifest), len(body)
    except msgspec.DecodeError as error:
        raise DamagedError(f"a manifest does not decode: {error}", key=f"{item['pk']} {item['sk']}") from error


class _Known(NamedTuple):
    """A manifest and what it was decoded from: the text of its item, or the name of its object, which carries its hash."""

    source: str
    manifest: Manifest
    bytes: int


class Manifests:
    """The newest manifest of the partitions last read, as many as `size` bytes of JSON hold. Safe to share between threads."""

    def __init__(self, size: int = SIZE) -> None:
        self._size, self._held = size, 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = Lock()

    def get(self, pk: str, item: Item, objects: Objects) -> Manifest:
        """The manifest of a partition's newest item; it is decoded where it is another than before. Raises DamagedError."""
        source = item.get("body") or item["object"]
        with self._lock:
            known = self._known.get(pk)
            if known is not None and known.source == source:
                self._known.move_to_end(pk)
                return known.manifest
        manifest, length = decoded(item, objects)
        with self._lock:
            self._drop(pk)
            self._known[pk] = _Known(source, manifest, length)
            self._held += length
            while self._held > self._size:
                self._drop(next(iter(self._known)))
        return manifest

    def last(self, pk: str) -> Manifest | None:
        """The manifest of a partition that was the newest when it was last asked for; None where it is not kept."""
        with self._lock:
            known = self._known.get(pk)
            return None if known is None else known.manifest

    def _drop(self, pk: str) -> None:
        known = self._known.pop(pk, None)
        self._held -= 0 if known is None else known.bytes
