"""Publishes configuration and catalog as JSON in the bucket, for clients that read it without our library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.model import Segment
from tesseract.processing import external
from tesseract.processing.external import Listing, listing
from tesseract.processing.segments import RAW, REVISIONS
from tesseract.storage.base import Objects
from tesseract.storage.catalog import Catalog, Progress
from tesseract.storage.keys import encode, level_partition
from tesseract.utils.time_utils import from_micros, iso_micros

CONFIG_OBJECT = "config/datasets.json"
_Partition = tuple[str, str, tuple[Segment, ...]]  # level, name, segments


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
    texts: dict[str, str] = {}
    for dataset in datasets:
        partitions = list(_partitions(catalog, dataset))
        clean = {level: listing(segments for own, _, segments in partitions if own == level) for level in _levels(dataset)}
        documents[catalog_object(dataset.name)] = _document(dataset, partitions, clean, progress, now)
        for level, found in clean.items():
            texts |= external.documents(dataset, level, _levels(dataset)[level], found, objects.uri)
    for key, document in documents.items():
        objects.put(key, msgspec.json.encode(document))
    for key, text in texts.items():
        objects.put(key, text.encode())
    return [*documents, *texts]


def sizes(catalog: Catalog, dataset: Dataset) -> list[TierSize]:
    """Segments, rows and bytes per level and tier, in the order of the configuration."""
    return _sizes((level, segment) for level, _, segments in _partitions(catalog, dataset) for segment in segments)


def _document(
    dataset: Dataset, partitions: Sequence[_Partition], clean: dict[str, Listing], progress: Progress, now: datetime
) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "config_version": dataset.version,
        "published_at": iso_micros(now),
        "archived_through": _moment(progress.archived_through),
        "snapshot_through": _moment(progress.snapshot_through),
        "clean_through": {level: _moment(found.clean_through or 0) for level, found in clean.items()},
        "tiers": _sizes((level, segment) for level, _, segments in partitions for segment in segments),
        "partitions": [
            {"level": level, "group": group, "segments": [_segment(segment) for segment in segments]}
            for level, group, segments in partitions
        ],
    }


def _levels(dataset: Dataset) -> dict[str, str]:
    """The levels that may have segments, as partitions name them → as a user does."""
    kept = {RAW: RAW} | ({REVISIONS: REVISIONS} if dataset.by_ref_time else {})
    return kept | {level_partition(level): level.name for level in dataset.levels}


def _partitions(catalog: Catalog, dataset: Dataset) -> Iterator[_Partition]:
    for level in _levels(dataset):
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
