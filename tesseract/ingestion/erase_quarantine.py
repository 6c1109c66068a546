"""Erasure from quarantine: objects are written again without the records of a group.

A record that was refused may be wrong anywhere. It counts as the group's if its group fields say so, or, where they cannot be read,
if the text of each value is somewhere in it; and as of a range unless its time can be read and lies outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.config.paths import parse_path, path_name
from tesseract.ingestion.answers import TooLarge
from tesseract.ingestion.fastpath import BAD_JSON
from tesseract.ingestion.flatten import Flattener, Odd, lenient
from tesseract.ingestion.records_path import expand
from tesseract.ingestion.rejections import Fault
from tesseract.ingestion.times import TimeReader
from tesseract.storage.base import Objects
from tesseract.storage.keys import split_group, split_raw_key
from tesseract.storage.quarantine import STREAM, UNKNOWN, Entry, Place, places, read, write
from tesseract.utils.time_utils import to_micros

Span = tuple[int, int]  # [start, end) of valid time, µs since 1970


class Match:
    """Tells the quarantined records of a group."""

    def __init__(self, dataset: Dataset, group: str, span: Span) -> None:
        self._dataset, self._group, self._values, self._span = dataset, group, split_group(group), span
        self._names = [path_name(parse_path(path)) for path in (*dataset.group_by, dataset.time_field)]
        self._flattener = Flattener(dataset, [parse_path(path) for path in (*dataset.group_by, dataset.time_field)])
        self._times = TimeReader(dataset.time_format, dataset.time_zone)

    def __call__(self, place: Place, entry: Entry) -> bool:
        """Whether an entry is, or may be, a record of the group in the span."""
        if place.dataset == STREAM:
            return self._is_change(entry.record)
        try:
            lines = expand(self._dataset, [entry.record]).lines
        except TooLarge:
            lines = [entry.record]
        return any(self._is_record(bytes(line)) for line in lines)

    def _is_change(self, record: bytes) -> bool:
        try:
            keys = msgspec.json.decode(record)["dynamodb"]["Keys"]
            name, group, at = split_raw_key(keys["pk"]["S"], keys["sk"]["S"].removeprefix("r#").partition("#")[0])
        except (*BAD_JSON, KeyError, TypeError, ValueError):
            return self._mentions(record)
        return (name, group) == (self._dataset.name, self._group) and self._within(at)

    def _is_record(self, record: bytes) -> bool:
        try:
            flat = self._flattener.flatten(lenient(record))
        except (*BAD_JSON, AttributeError, RecursionError):
            return self._mentions(record)
        found = [flat.get(name) for name in self._names]
        if any(value is None or isinstance(value, Odd | bool | list | dict) for value in found[:-1]):
            return self._mentions(record)
        if tuple(map(str, found[:-1])) != self._values:
            return False
        try:
            return self._within(self._times.read(self._names[-1], found[-1]))
        except (Fault, ValueError, TypeError, OverflowError):
            return True

    def _mentions(self, record: bytes) -> bool:
        return all(value.encode() in record or json.dumps(value)[1:-1].encode() in record for value in self._values)

    def _within(self, at: datetime) -> bool:
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        return self._span[0] <= to_micros(moment) < self._span[1]


def found(objects: Objects, match: Match, dataset: str) -> Iterator[tuple[Place, list[Entry], list[Entry]]]:
    """The objects that hold entries of the group: those entries, and the others."""
    for name in (dataset, UNKNOWN, STREAM):
        for place in places(objects, name):
            entries = read(objects, place.key)
            own = [entry for entry in entries if match(place, entry)]
            if own:
                yield place, own, [entry for entry in entries if entry not in own]


def erase(objects: Objects, match: Match, dataset: str) -> int:
    """Write the objects that hold entries of the group again, without them; how many entries went."""
    count = 0
    for place, own, others in list(found(objects, match, dataset)):
        if place.key not in write(objects, place.dataset, others):
            objects.delete(place.key)  # after the others are put: a crash in between keeps them twice
        count += len(own)
    return count
