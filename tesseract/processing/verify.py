"""Verification of the archive: what the newest manifests say, against the bytes in the bucket. Reads only; nothing is changed.

`inspect` looks at one segment, `verify` at all of them. Damage is what makes a read wrong or fail; segments that a compaction has
not merged yet, and objects that no manifest names, are information.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tesseract.config.dataset import Dataset
from tesseract.config.tiers import UNITS
from tesseract.errors import DamagedError, NotFoundError
from tesseract.model import Manifest, Segment
from tesseract.processing.merge_plan import plan
from tesseract.processing.segments import RAW, REVISIONS, Partition, group_spans
from tesseract.storage.base import ObjectInfo, Objects
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import dataset_objects, level_partition
from tesseract.storage.parquet_writer import MAGIC
from tesseract.utils.time_utils import from_micros

Kind = Literal["damaged", "unmerged", "orphan"]
TAIL = 8  # bytes at a file's end: the length of the footer, and the magic
_NONE = -(2**63)  # a row without a ref time is older than any with one
Spans = dict[str, tuple[int, int]]


class Finding(msgspec.Struct, frozen=True):
    """Something that was found: `damaged`, or merely worth knowing. `bytes` is the size of the object `key`."""

    kind: Kind
    dataset: str
    level: str
    partition: str
    key: str
    bytes: int
    finding: str


class Verified(NamedTuple):
    """What was looked at, and what was found."""

    segments: int
    rows: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        """Whether something is damaged."""
        return any(finding.kind == "damaged" for finding in self.findings)


def partition_levels(catalog: Catalog, dataset: Dataset) -> list[str]:
    """The levels that a dataset can have partitions of under any of its versions: former lives, and revisions once kept, too."""
    lives = [level_partition(level) for version in catalog.versions(dataset.name) for level in version.levels]
    return list(dict.fromkeys((RAW, REVISIONS, *lives)))


def partitions_of(catalog: Catalog, dataset: Dataset) -> Iterator[Partition]:
    """All partitions of a dataset, see `partition_levels`."""
    for level in partition_levels(catalog, dataset):
        for name in catalog.partitions(dataset, level):
            yield Partition(dataset, level, name)


def verify(
    catalog: Catalog, objects: Objects, datasets: Iterable[Dataset], now: datetime, say: Callable[[str], None] = lambda _: None
) -> Verified:
    """Look at every segment that the newest manifests name, and at what else lies beside them; `say` hears how far it is."""
    seen = rows = size = 0
    findings: list[Finding] = []
    progress = catalog.progress()
    for dataset in datasets:
        # listed before the manifests are read: an object that is committed meanwhile is not taken for one that nobody names
        listed = list(objects.list(dataset_objects(dataset.name)))
        named: set[str] = set()
        readable = True
        for partition in partitions_of(catalog, dataset):
            try:
                versions = list(catalog.manifests(dataset.name, partition.level, partition.name))
            except (DamagedError, NotFoundError) as error:
                findings.append(_finding("damaged", partition, error.key, 0, f"a manifest cannot be read: {error.message}"))
                readable = False
                continue
            named.update(segment.key for manifest in versions for segment in manifest.segments)
            for segment in versions[0].segments if versions else ():
                say(f"looked at {seen:,} segments, {size // 1_000_000:,} MB")
                faults = inspect(objects, partition, segment)
                findings += [_finding("damaged", partition, segment.key, segment.bytes, fault) for fault in faults]
                seen, rows, size = seen + 1, rows + segment.rows, size + segment.bytes
            through = progress.archived_through if partition.level in (RAW, REVISIONS) else progress.snapshot_through
            findings += _unmerged(partition, versions[:1], now, through)
        if readable:  # else nobody knows what that manifest names
            findings += orphans(dataset, listed, named)
    return Verified(seen, rows, size, tuple(findings))


def orphans(dataset: Dataset, listed: Iterable[ObjectInfo], named: set[str]) -> list[Finding]:
    """The objects of a dataset that no kept version of a manifest names: unfinished attempts, or not yet removed."""
    text = "no kept manifest names it"
    return [Finding("orphan", dataset.name, "", "", info.key, info.bytes, text) for info in listed if info.key not in named]


def _unmerged(partition: Partition, newest: Sequence[Manifest], now: datetime, through: int) -> list[Finding]:
    """The merges that the next compaction will make: a delay, not damage."""
    merges = [merge for manifest in newest for merge in plan(manifest, partition.dataset.ladder, now, through)]
    return [
        _finding("unmerged", partition, "", sum(s.bytes for s in merge.inputs), f"{len(merge.inputs)} segments wait: {merge.label}")
        for merge in merges
    ]


def _finding(kind: Kind, partition: Partition, key: str, size: int, text: str) -> Finding:
    return Finding(kind, partition.dataset.name, partition.level, partition.name, key, size, text)


# one segment ------------------------------------------------------------------------------------------------------------


def inspect(objects: Objects, partition: Partition, segment: Segment) -> list[str]:
    """What is wrong with a segment, one sentence each; in bounded memory, over a file on disk."""
    faults = period_faults(segment)
    with TemporaryDirectory(prefix="tesseract-verify-") as folder:
        path = Path(folder) / "segment.parquet"
        try:
            objects.download(segment.key, path)
        except NotFoundError:
            return [*faults, "the object does not exist"]
        wrong = byte_faults(path, segment)
        if wrong:  # bytes that are not those that were written: what they hold says nothing
            return faults + wrong
        try:
            with pq.ParquetFile(path) as file:
                return faults + row_faults(file, partition, segment)
        except (pa.ArrowException, KeyError, OSError) as error:
            return [*faults, f"it cannot be read as Parquet: {error}"]


def period_faults(segment: Segment) -> list[str]:
    """Whether what the manifest says of a segment's tier, period and times goes together. Pure."""
    if segment.tier not in UNITS:
        return [f"there is no tier {segment.tier!r}"]
    faults = []
    whole, start, end = segment.period, from_micros(segment.start), from_micros(segment.end)
    cut = segment.tier == "weekly" and whole.start <= start < end <= whole.end  # a week may end where a coarser tier's period does
    if (start, end) != whole and not cut:
        faults.append(f"{_span(segment.start, segment.end)} is no {segment.tier} period")
    if not segment.start <= segment.first <= segment.last < segment.end:
        faults.append(
            f"its rows, {_span(segment.first, segment.last)}, are not within its period, {_span(segment.start, segment.end)}"
        )
    return faults


def byte_faults(path: Path, segment: Segment) -> list[str]:
    """Whether a file has the bytes, the sum and the footer that the manifest says."""
    size = path.stat().st_size
    if size != segment.bytes:
        return [f"it has {size} bytes, its manifest says {segment.bytes}"]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        file.seek(max(size - TAIL, 0))
        tail = file.read(TAIL)
    faults = (
        [] if digest.hexdigest() == segment.sha256 else [f"its sha256 is {digest.hexdigest()}, its manifest says {segment.sha256}"]
    )
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or (segment.footer_offset, segment.footer_length) != (size - TAIL - length, length):
        faults.append("its footer is not where its manifest says")
    return faults


def row_faults(file: pq.ParquetFile, partition: Partition, segment: Segment) -> list[str]:
    """Whether the rows of an open file are as many, in such an order, and of such times and groups as the manifest says."""
    faults = []
    if file.metadata.num_rows != segment.rows:
        faults.append(f"it has {file.metadata.num_rows} rows, its manifest says {segment.rows}")
    keys = list(partition.order.key)
    before: pa.Table | None = None
    spans: Spans = {}
    ends: list[int] = []
    disorder = twice = 0
    for batch in file.iter_batches(columns=list(dict.fromkeys([*keys, partition.time_column]))):
        table = pa.Table.from_batches([batch])
        joined = table if before is None else pa.concat_tables([before, table])
        out, same = _steps(joined.select(keys))
        disorder, twice, before = disorder + out, twice + same, table.slice(max(len(table) - 1, 0))
        if len(table):
            ends += pc.min_max(table[partition.time_column].cast(pa.int64())).as_py().values()
            _widen(spans, group_spans(partition, table))
    if disorder:
        faults.append(f"its rows are not sorted: {disorder} follow a later one")
    if twice:
        faults.append(f"{twice} of its rows have the key of the row before")
    if ends and (min(ends), max(ends)) != (segment.first, segment.last):
        faults.append(f"its rows are of {_span(min(ends), max(ends))}, its manifest says {_span(segment.first, segment.last)}")
    if spans != segment.groups:
        faults.append("the groups of its rows, or their times, are not those that its manifest says")
    return faults


def _widen(spans: Spans, others: Spans) -> None:
    for group, (first, last) in others.items():
        low, high = spans.get(group, (first, last))
        spans[group] = (min(low, first), max(high, last))


def _steps(table: pa.Table) -> tuple[int, int]:
    """How many rows sort before the row above them, and how many have its key."""
    count = len(table) - 1
    if count < 1:
        return 0, 0
    after, same = pa.array([False] * count), pa.array([True] * count)
    for column in table.columns:
        whole = column.combine_chunks()
        numbers = whole if pa.types.is_string(whole.type) else pc.fill_null(whole.cast(pa.int64()), _NONE)
        upper, lower = numbers.slice(0, count), numbers.slice(1)
        after = pc.or_(after, pc.and_(same, pc.greater(upper, lower)))
        same = pc.and_(same, pc.equal(upper, lower))
    return int(pc.sum(after).as_py() or 0), int(pc.sum(same).as_py() or 0)


def _span(start: int, end: int) -> str:
    return f"{from_micros(start):%Y-%m-%dT%H:%M:%S} to {from_micros(end):%Y-%m-%dT%H:%M:%S}"
