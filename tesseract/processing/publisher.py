"""Publishes configuration and catalog as JSON in the bucket, for clients that read it without our library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.model import Segment
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog, Progress
from tesseract.storage.keys import encode, level_partition
from tesseract.utils.time_utils import from_micros, iso_micros

CONFIG_OBJECT = "config/datasets.json"


class TierSize(msgspec.Struct):
    """What one tier of a level holds."""

    level: str
    tier: str
    segments: int = 0
    rows: int = 0
    bytes: int = 0


def catalog_object(dataset: str) -> str:
    """Where a dataset's catalog is published."""
    return f"catalog/{encode(dataset)}.json"


def datasets_of(catalog: Catalog, name: str | None = None) -> list[Dataset]:
    """The newest configuration of every dataset that is not damaged, or of the one named (nothing where it does not exist)."""
    if name is None:
        return catalog.datasets()
    return [dataset for dataset in (catalog.dataset(name),) if dataset is not None]


def publish(catalog: Catalog, objects: Objects, now: datetime) -> list[str]:
    """Write `config/datasets.json` and one `catalog/….json` per dataset; returns their keys.

    Copies of configurations that an interrupted `config apply` left behind are brought up to date, too.
    """
    for name in catalog.dataset_names():
        catalog.publish(name)
    progress, datasets = catalog.progress(), datasets_of(catalog)
    documents: dict[str, Any] = {
        CONFIG_OBJECT: {"published_at": iso_micros(now), "datasets": {dataset.name: dataset for dataset in datasets}}
    }
    for dataset in datasets:
        documents[catalog_object(dataset.name)] = _document(catalog, dataset, progress, now)
    for key, document in documents.items():
        objects.put(key, msgspec.json.encode(document))
    return list(documents)


def sizes(catalog: Catalog, dataset: Dataset) -> list[TierSize]:
    """Segments, rows and bytes per level and tier, in the order of the configuration."""
    return _sizes((level, segment) for level, _, segments in _partitions(catalog, dataset) for segment in segments)


def _document(catalog: Catalog, dataset: Dataset, progress: Progress, now: datetime) -> dict[str, Any]:
    partitions = list(_partitions(catalog, dataset))
    return {
        "dataset": dataset.name,
        "config_version": dataset.version,
        "published_at": iso_micros(now),
        "archived_through": _moment(progress.archived_through),
        "snapshot_through": _moment(progress.snapshot_through),
        "tiers": _sizes((level, segment) for level, _, segments in partitions for segment in segments),
        "partitions": [
            {"level": level, "group": group, "segments": [_segment(segment) for segment in segments]}
            for level, group, segments in partitions
        ],
    }


def _partitions(catalog: Catalog, dataset: Dataset) -> Iterator[tuple[str, str, tuple[Segment, ...]]]:
    for level in (RAW, *((REVISIONS,) if dataset.by_ref_time else ()), *map(level_partition, dataset.levels)):
        for name in catalog.partitions(dataset, level):
            yield level, name, catalog.manifest(dataset.name, level, name).segments


def _sizes(segments: Iterable[tuple[str, Segment]]) -> list[TierSize]:
    found: dict[tuple[str, str], TierSize] = {}
    for level, segment in segments:
        size = found.setdefault((level, segment.tier), TierSize(level, segment.tier))
        size.segments += 1
        size.rows += segment.rows
        size.bytes += segment.bytes
    return list(found.values())


def _segment(segment: Segment) -> dict[str, Any]:
    times = {name: iso_micros(from_micros(getattr(segment, name))) for name in ("start", "end", "first", "last", "window_end")}
    return {**msgspec.to_builtins(segment), **times}


def _moment(micros: int) -> str | None:
    return iso_micros(from_micros(micros)) if micros else None
