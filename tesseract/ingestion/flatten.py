"""A record of nested JSON as values by dotted name, and as little of it as the dataset asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.paths import Steps, path_name
from tesseract.ingestion.rejections import Fault, cut
from tesseract.ingestion.values import MAX_NAME, exact

MAX_DEPTH = 16
MAX_VALUES = 130_000  # of undeclared ones: an item of 400 kB holds fewer
SHOWN = 400  # bytes of a part that a message may show

_exact = msgspec.json.Decoder(float_hook=exact).decode
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode


class Odd(NamedTuple):
    """A part of a record that is no value, and why. Where the dataset drops it, that is no fault."""

    value: Any
    reason: str
    limit: int = 0

    def fault(self, name: str) -> Fault:
        """The reason, for the value of `name`."""
        return Fault(name, self.value, self.reason, name=cut(name), depth=self.limit, length=self.limit)


class Flattener:
    """Flattens the records of one dataset.

    Under `keep` all values come out; else those of declared paths, and under `reject` the first one that is not declared besides.
    A list is entered only where a declared path goes into it.
    """

    def __init__(self, dataset: Dataset, paths: Iterable[Steps]) -> None:
        paths = list(paths)
        self.wanted = {path_name(steps) for steps in paths}
        prefixes = [(steps, end) for steps in paths for end in range(1, len(steps))]
        self._parents = {path_name(steps[:end]) for steps, end in prefixes}
        self._parents |= {name[:at] for name in self.wanted for at, char in enumerate(name) if char == "."}
        self._lists = {path_name(steps[:end]) for steps, end in prefixes if isinstance(steps[end], int)}
        self._unknown = dataset.unknown_fields
        self._longest = max(MAX_NAME, *map(len, self.wanted))  # a longer name is no field's, and a million of them fill the memory

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Dotted name → value, None or Odd. The record may become the answer."""
        if self._unknown == "keep" and not self._parents and len(record) <= MAX_VALUES:
            classes = set(map(type, record.values()))
            if dict not in classes and list not in classes:
                return record
        flat: dict[str, Any] = {}
        self._members(record.items(), "", flat, [], 0)
        return flat

    def _members(
        self, members: Iterable[tuple[str | int, Any]], prefix: str, flat: dict[str, Any], unwanted: list[str], depth: int
    ) -> None:
        for key, part in members:
            name = f"{prefix}{key}"
            inner = self._inner(name, part)
            if inner is not None and depth < MAX_DEPTH and len(name) < self._longest:
                if self._unknown != "drop" or name in self._parents:
                    self._members(inner, f"{name}.", flat, unwanted, depth + 1)
            elif part is None and name in self._parents:
                pass  # {"wind": null} is {"wind": {}}
            elif name in flat:
                flat[name] = Odd(part, "twice")
            elif name in self.wanted or self._takes(name, unwanted):
                flat[name] = self._leaf(name, part, depth)

    def _inner(self, name: str, part: Any) -> Iterable[tuple[str | int, Any]] | None:
        if part.__class__ is dict:
            members: Iterable[tuple[str | int, Any]] = part.items()
            return members
        return enumerate(part) if part.__class__ is list and name in self._lists else None

    def _takes(self, name: str, unwanted: list[str]) -> bool:
        if self._unknown == "drop" or (self._unknown == "reject" and unwanted):
            return False
        if len(unwanted) >= MAX_VALUES:
            raise Fault("", None, "too_many", count=MAX_VALUES)
        unwanted.append(name)
        return True

    def _leaf(self, name: str, part: Any, depth: int) -> Any:
        if part.__class__ is not list and part.__class__ is not dict:
            return part
        if part.__class__ is list and name not in self._lists:
            return Odd(part, "list")
        return Odd(part, "deep", MAX_DEPTH) if depth >= MAX_DEPTH else Odd(part, "name", MAX_NAME)


def spelt(flat: dict[str, Any], places: tuple[str, ...]) -> str:
    """The place, of those that a renamed field may lie in, where a flat record has it. Raises Fault for two."""
    there = [place for place in places if flat.get(place) is not None]
    if len(there) > 1:
        raise Fault(there[1], flat[there[1]], "renamed", name=there[0], former=there[1])
    for place in places:
        if place not in there:
            flat.pop(place, None)
    return there[0] if there else places[0]


def lenient(text: bytes | msgspec.Raw, depth: int = 0) -> Any:
    """JSON with numbers that msgspec takes for no value: each of them is an Odd. Raises what decoding raises, but for numbers."""
    try:
        return _exact(text)
    except msgspec.ValidationError:
        pass
    if depth > MAX_DEPTH:
        return Odd("", "deep", MAX_DEPTH)
    try:
        parts = _parts(text)
    except msgspec.ValidationError:
        return Odd(bytes(text)[:SHOWN].decode(), "number")
    if isinstance(parts, dict):
        return {name: lenient(part, depth + 1) for name, part in parts.items()}
    return [lenient(part, depth + 1) for part in parts]
