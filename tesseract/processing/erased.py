"""The proof of an erasure: every object and item where rows of a group can be is looked at, and told. Reads only."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tesseract.config.tiers import UNITS
from tesseract.processing.erase import Subject, partitions
from tesseract.processing.erase_items import days, live_items, raw_items
from tesseract.processing.erase_objects import NOTES, naming
from tesseract.processing.publisher import catalog_object
from tesseract.processing.segments import RAW, REVISIONS, Partition
from tesseract.storage import keys
from tesseract.storage.base import Backend, Objects
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import from_iso, from_micros, to_micros

Say = Callable[[str], None]


class Left(NamedTuple):
    """Something that is still there: what, how much of it, and where."""

    what: str
    number: int
    place: str


def scan(backend: Backend, catalog: Catalog, subject: Subject, now: datetime, say: Say = lambda _: None) -> Iterator[Left]:
    """What remains of a range, quarantine apart; of a whole group also what merely names it.

    Aggregates are looked at where their period lies in the range as a whole: one that it cuts has other records, too.
    """
    yield from _segments(backend.objects, catalog, subject, say)
    yield from _exports(backend.objects, subject, say)
    say("items")
    for day in days(catalog, backend.live, subject, now):
        found = raw_items(backend, subject, day)
        if found:
            yield Left("raw items", len(found), keys.raw_pk(subject.dataset.name, subject.group, day))
    for item in live_items(backend, catalog, subject):
        if subject.whole or _counts(item, subject):
            yield Left("live item", 1, f"{item['pk']} {item['sk']}")
    if subject.whole:
        yield from _names(backend, catalog, subject)


def _segments(objects: Objects, catalog: Catalog, subject: Subject, say: Say) -> Iterator[Left]:
    for partition in partitions(catalog, subject):
        found = list(objects.list(keys.partition_objects(subject.dataset.name, partition.level, partition.name)))
        for number, info in enumerate(found, 1):
            say(f"{partition.level}: looking at {number:,} of {len(found):,} objects")
            rows = _rows(objects.get(info.key), partition, subject)
            if rows:
                yield Left(f"{partition.level} rows", rows, info.key)


def _rows(body: bytes, partition: Partition, subject: Subject) -> int:
    """How many rows of a segment are of the range."""
    file = pq.ParquetFile(pa.BufferReader(body))
    raw = partition.level in (RAW, REVISIONS)
    own = keys.group_values(subject.dataset, subject.group)
    names = [partition.time_column, *([] if raw else ["rows"]), *(own if partition.shared else ())]
    count = 0
    for batch in file.iter_batches(columns=names):
        table = pa.table(batch)
        time = table[partition.time_column].cast(pa.int64())
        keep = pc.and_(pc.greater_equal(time, subject.start), pc.less(time, subject.end))
        if not raw and not subject.whole:
            unit = UNITS[partition.level.partition("@")[0]]
            ends = pa.array([to_micros(unit.end(from_micros(at))) for at in time.to_pylist()], pa.int64())
            keep = pc.and_(keep, pc.and_(pc.less_equal(ends, subject.end), pc.greater(table["rows"], 0)))
        for name, value in own.items() if partition.shared else ():
            keep = pc.and_(keep, pc.equal(table[name], value))
        count += pc.sum(keep).as_py() or 0
    return count


def _exports(objects: Objects, subject: Subject, say: Say) -> Iterator[Left]:
    prefix = f"{keys.encode(subject.dataset.name)}#{subject.group}#"
    found = [info for info in objects.list("exports/") if "/data/" in info.key]
    for number, info in enumerate(found, 1):
        say(f"exports: looking at {number:,} of {len(found):,} objects")
        with objects.open(info.key) as stream, gzip.open(stream) as lines:
            count = sum(_is_row(line, prefix, subject) for line in lines if prefix.encode() in line)
        if count:
            yield Left("rows of an export", count, info.key)


def _is_row(line: bytes, prefix: str, subject: Subject) -> bool:
    """Whether a line of an export has the image of an item of the range; one of a removed item has its key alone."""
    item = msgspec.json.decode(line)
    image = item.get("NewImage") or item.get("Item")
    if not image or not image["pk"]["S"].startswith(prefix):
        return False
    sk = image["sk"]["S"]
    at = keys.history_valid_time(sk) if keys.is_history(sk) else from_iso(sk)
    return subject.start <= to_micros(at) < subject.end


def _counts(item: dict[str, object], subject: Subject) -> bool:
    """Whether a live item counts records of a period, or is the latest value, of the range."""
    if keys.is_latest_pk(str(item["pk"])):
        if item.get("none") or item.get("stale"):
            return False
        return subject.start <= to_micros(from_iso(str(item["valid_time"]))) < subject.end
    _, _, level, start = keys.split_live_key(str(item["pk"]), str(item["sk"]))
    inside = subject.start <= to_micros(start) and to_micros(UNITS[level].end(start)) <= subject.end
    return inside and bool(item.get("rows"))


def _names(backend: Backend, catalog: Catalog, subject: Subject) -> Iterator[Left]:
    """Of a whole group: what names it."""
    dataset, group, objects = subject.dataset, subject.group, backend.objects
    for mark in backend.live.query(keys.days_pk(dataset.name, group)):
        yield Left("day mark", 1, f"{mark['pk']} {mark['sk']}")
    own = (f"{keys.encode(dataset.name)}#{group}#", "|".join(keys.latest_key(dataset.name, group)))
    for pk in keys.worklist_pks():
        for entry in backend.live.query(pk):
            if entry["sk"].startswith(own[0]) or entry["sk"] == own[1]:
                yield Left("worklist entry", 1, f"{pk} {entry['sk']}")
    for partition in partitions(catalog, subject):
        if catalog.table.get((keys.partitions_pk(dataset.name, partition.level), group)) is not None:
            yield Left("listed partition", 1, f"{partition.level} {group}")
        versions = 0 if partition.shared else len(list(catalog.manifests(dataset.name, partition.level, partition.name)))
        if versions:
            yield Left("manifest versions", versions, f"{partition.level} {partition.name}")
        pk = keys.manifest_pk(dataset.name, partition.level, partition.name)
        copies = 0 if partition.shared else len(list(objects.list(f"catalog/manifests/{pk}/")))
        if copies:
            yield Left("manifests in the bucket", copies, f"catalog/manifests/{pk}/")
    for key in naming(objects, subject, (*NOTES, keys.MISMATCHES)):
        yield Left("note", 1, key)
    for info in objects.list(catalog_object(dataset.name)):
        document = msgspec.json.decode(objects.get(info.key))
        if any(
            part["group"] == group or any(group in one.get("groups", {}) for one in part["segments"])
            for part in document["partitions"]
        ):
            yield Left("published catalog", 1, info.key)
