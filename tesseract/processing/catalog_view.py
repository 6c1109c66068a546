"""What the catalog has of a dataset, or of one group, as plain data: partitions, segments, versions, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tesseract.config.dataset import Dataset
from tesseract.model import Manifest, Segment, of_group
from tesseract.processing.verify import partition_levels, partitions_of
from tesseract.storage.catalog import Catalog
from tesseract.storage.keys import is_shared, partition_name
from tesseract.utils.time_utils import from_micros, iso_micros, iso_seconds

Row = dict[str, Any]


def partitions(catalog: Catalog, dataset: Dataset) -> list[Row]:
    """One row per partition, all levels: what its newest manifest holds, and the versions that are kept."""
    rows = []
    for part in partitions_of(catalog, dataset):
        versions = list(catalog.manifests(dataset.name, part.level, part.name))
        if versions:
            newest = versions[0]
            groups = {name for segment in newest.segments for name in segment.groups}
            row: Row = {"level": part.level, "partition": part.name, "groups": len(groups) if is_shared(part.name) else 1}
            written = _moment(newest.committed_at)
            rows.append(row | _sum(newest.segments) | {"version": newest.version, "versions": len(versions), "written": written})
    return rows


def levels(rows: Iterable[Row]) -> list[Row]:
    """The rows of `partitions` added up by level."""
    sums: dict[str, Row] = {}
    for row in rows:
        empty = {"level": row["level"], "partitions": 0, "groups": 0, "segments": 0, "rows": 0, "bytes": 0, "versions": 0}
        found = sums.setdefault(row["level"], empty)
        found["partitions"] += 1
        for name in ("groups", "segments", "rows", "bytes", "versions"):
            found[name] += row[name]
    return list(sums.values())


def group(catalog: Catalog, dataset: Dataset, name: str) -> list[Row]:
    """Each level of one group: its partition, its segments, newest period first, and the versions that are kept, newest first.

    Of a partition that groups share, the segments with rows of the group; `rows` and `bytes` are then those of all of its groups.
    """
    found = []
    for level in partition_levels(catalog, dataset):
        partition = partition_name(dataset, name)
        versions = list(catalog.manifests(dataset.name, level, partition))
        newest = of_group(versions[0], name) if versions else None
        if newest is None or (is_shared(partition) and not newest.segments):
            continue
        segments = sorted(newest.segments, key=lambda segment: (-segment.start, -segment.window_end, segment.key))
        written = _written(versions)
        row: Row = {"level": level, "partition": partition} | _sum(segments)
        row["segments"] = [_segment(segment) | {"written": written.get(segment.key)} for segment in segments]
        found.append(row | {"versions": [_version(manifest) for manifest in versions]})
    return found


def _sum(segments: Sequence[Segment]) -> Row:
    return {
        "segments": len(segments),
        "rows": sum(segment.rows for segment in segments),
        "bytes": sum(segment.bytes for segment in segments),
    }


def _segment(segment: Segment) -> Row:
    times = {name: iso_micros(from_micros(getattr(segment, name))) for name in ("first", "last")}
    period = f"{iso_seconds(from_micros(segment.start))}/{iso_seconds(from_micros(segment.end))}"
    window = iso_seconds(from_micros(segment.window_end))
    row = {"tier": segment.tier, "period": period, "rows": segment.rows, "bytes": segment.bytes}
    return row | times | {"window_end": window, "key": segment.key}


def _version(manifest: Manifest) -> Row:
    count = _sum(manifest.segments)
    return {"version": manifest.version, "written": _moment(manifest.committed_at), "operation": manifest.operation} | count


def _written(versions: Sequence[Manifest]) -> dict[str, str]:
    """When each segment was committed; those of the oldest version may be older, unless it is the first."""
    found: dict[str, str] = {}
    for manifest in reversed(versions):
        known = manifest is not versions[-1] or manifest.version == 1
        for segment in manifest.segments:
            found.setdefault(segment.key, _moment(manifest.committed_at) if known else f"by {_moment(manifest.committed_at)}")
    return found


def _moment(micros: int) -> str:
    return iso_micros(from_micros(micros))


def flat(found: Iterable[Row], what: str) -> Iterator[Row]:
    """The `segments` or `versions` of all levels of `group`, each with its level."""
    for level in found:
        for row in level[what]:
            yield {"level": level["level"]} | row
