"""Rebuilds a catalog that was lost, from the bucket alone: manifests, groups, how far the archive has come, configurations.

It only fills in what is missing, by conditional puts: it may be repeated, be cut short, or run beside a stage that works.

    from the bucket                                 what it proves
    copies of manifests (`storage.copies`)          the versions that were committed, all on which other work has built
    `closed_through` in them, published progress    how far archive and snapshots had come, at least (`rebuild_progress`)
    copies of configurations                        the versions that were published

Export windows are not brought back. They begin again at the moment up to which the snapshots are proven: point-in-time recovery
still has every change since. What is archived twice merges with itself, and what closed windows had purged is refused, as ever.

Configurations come last: nobody works on a dataset that is not configured, so nobody takes a partition that is yet to come for an
empty one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import NamedTuple

import msgspec

from tesseract.config.dataset import DEFAULT_HISTORY, Dataset, decode_dataset
from tesseract.errors import ConditionFailed, DamagedError
from tesseract.model import Manifest
from tesseract.processing import rebuild_progress
from tesseract.storage import copies, keys
from tesseract.storage.base import Absent, ObjectInfo, Objects
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import from_micros, iso_micros, parse_duration, to_micros

PARALLEL = 16
Say = Callable[[str], None]


class Copy(NamedTuple):
    """A version of a configuration as the bucket has it."""

    version: int
    body: bytes
    applied_at: str


@dataclass
class Report:
    """What was brought back, or would be. `versions`, `partitions` and `groups` are counted by (dataset, level).

    `through`: from there on everything is exported again. `faults` are what could not be brought back, one sentence each.
    """

    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    partitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: Counter[tuple[str, str]] = field(default_factory=Counter)
    configurations: Counter[str] = field(default_factory=Counter)
    through: int = 0
    no_levels: bool = False  # nothing proves that aggregate levels are complete up to `through`
    faults: list[str] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether nothing was missing."""
        return not (self.versions or self.groups or self.configurations)


@dataclass(frozen=True)
class _Partition:
    """What is missing of one partition, newest version first, and what the newest copy proves."""

    newest: Manifest
    missing: tuple[Manifest, ...]
    groups: tuple[str, ...]
    holes: int  # versions within `missing` that have no copy


def run(catalog: Catalog, objects: Objects, now: datetime, dry_run: bool = False, say: Say = lambda _: None) -> Report:
    """Bring back what the catalog lacks; with `dry_run`, only say what that is."""
    report = Report()
    configurations = _configurations(objects)
    datasets = {name: _newest(found) for name, found in configurations.items()}
    proven = rebuild_progress.published(objects, configurations)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for found in pool.map(partial(_look, catalog, objects, datasets, now), _copied(objects)):
            if isinstance(found, str):
                report.faults.append(found)
                continue
            proven = rebuild_progress.wider(proven, found.newest)
            if not dry_run:
                _restore(catalog, found)
            _count(report, found)
            say(f"{report.versions.total():,} versions of {report.partitions.total():,} manifests")
    report.through = proven.snapshot_through or proven.archived_through
    report.no_levels = bool(proven.archived_through and not proven.snapshot_through)
    if report.through and not dry_run:
        rebuild_progress.begin_again(catalog, objects, report.through, now)
    for name, versions in sorted(configurations.items()):
        _configure(catalog, name, versions, report, dry_run)
    return report


# manifests --------------------------------------------------------------------------------------------------------------


def _copied(objects: Objects) -> Iterator[tuple[str, list[int]]]:
    """Every manifest of which the bucket has copies, by the partition key of its items, with their versions in order."""
    named = (keys.split_manifest_object(info.key) for info in objects.list(keys.MANIFESTS))
    for pk, found in groupby(named, key=lambda one: one[0]):
        versions = sorted(version for _, version, committed in found if committed)
        if versions:
            yield pk, versions


def _look(
    catalog: Catalog, objects: Objects, datasets: Mapping[str, Dataset | None], now: datetime, copied: tuple[str, list[int]]
) -> _Partition | str:
    """What is missing of a manifest; or a sentence that says why it cannot be brought back."""
    pk, versions = copied
    present = {item["sk"] for item in catalog.table.query(pk)}
    read = partial(_read, objects, pk)
    try:
        newest = read(versions[-1])
        dataset = datasets.get(newest.dataset)
        history = parse_duration(dataset.history if dataset else DEFAULT_HISTORY)
        kept = list(needed(map(read, reversed(versions)), to_micros(now - history)))
    except DamagedError as error:
        return f"nothing of {pk} is brought back: {error}"
    missing = tuple(manifest for manifest in kept if keys.version_sk(manifest.version) not in present)
    groups = sorted({group for manifest in kept for group in _groups(manifest)}) if missing else ()
    return _Partition(newest, missing, tuple(groups), kept[0].version - kept[-1].version + 1 - len(kept))


def needed(versions: Iterable[Manifest], since: int) -> Iterator[Manifest]:
    """Those of a manifest's versions, newest first, that were the newest one at any moment from `since` (µs) on."""
    for manifest in versions:
        yield manifest
        if manifest.committed_at <= since:
            return


def _read(objects: Objects, pk: str, version: int) -> Manifest:
    key = f"{keys.MANIFESTS}{pk}/{keys.version_sk(version)}.json"
    manifest = copies.read(objects, key)
    if copies.copy_key(manifest) != key:
        raise DamagedError(f"it holds version {manifest.version} of {manifest.dataset} {manifest.level} {manifest.group}", key=key)
    return manifest


def _groups(manifest: Manifest) -> Iterable[str]:
    if not keys.is_shared(manifest.group):
        return [manifest.group]
    return {name for segment in manifest.segments for name in segment.groups}


def _restore(catalog: Catalog, found: _Partition) -> None:
    """The groups before the manifest, as a commit does; the newest version first, so that a commit follows on it."""
    for group in found.groups:
        catalog.table.put({"pk": keys.partitions_pk(found.newest.dataset, found.newest.level), "sk": group})
    for manifest in found.missing:
        catalog.restore(manifest)


def _count(report: Report, found: _Partition) -> None:
    place = found.newest.dataset, found.newest.level
    if found.missing:
        report.versions[place] += len(found.missing)
        report.partitions[place] += 1
        report.groups[place] += len(found.groups)
    if found.missing and found.holes:
        name = f"{found.newest.dataset} {found.newest.level} {found.newest.group}"
        report.faults.append(f"{found.holes} former versions of {name} have no copy: --as-of shows the one before instead")


# configurations ---------------------------------------------------------------------------------------------------------


def _configurations(objects: Objects) -> dict[str, list[Copy]]:
    """The versions of every dataset that the bucket has, newest first."""
    found: dict[str, dict[int, Copy]] = {}
    for info in objects.list(keys.CONFIG):
        name = keys.split_config_object(info.key)
        if name is not None:
            copy = _copy(info, objects.get(info.key))
            found.setdefault(name, {}).setdefault(copy.version, copy)
    return {name: [own[version] for version in sorted(own, reverse=True)] for name, own in found.items()}


class _Numbered(msgspec.Struct):
    version: int = 0
    applied_at: int = 0


def _copy(info: ObjectInfo, body: bytes) -> Copy:
    try:
        said = msgspec.json.decode(body, type=_Numbered)
    except msgspec.DecodeError as error:
        raise DamagedError(f"the copy of a configuration does not decode: {error}", key=info.key) from error
    applied = from_micros(said.applied_at) if said.applied_at else info.modified
    return Copy(said.version, body, iso_micros(applied))


def _newest(versions: Sequence[Copy]) -> Dataset | None:
    """The newest version that this release understands."""
    for copy in versions:
        with suppress(msgspec.DecodeError):  # a newer release has applied it: its body is brought back all the same
            return decode_dataset(copy.body)
    return None


def _configure(catalog: Catalog, name: str, versions: Sequence[Copy], report: Report, dry_run: bool) -> None:
    """Put the versions that are missing: the newest first, since whoever reads in between takes it for the newest."""
    pk = keys.config_pk(name)
    present = {item["sk"]: item["body"].encode() for item in catalog.table.query(pk)}
    for copy in versions:
        sk = keys.version_sk(copy.version)
        if sk in present:
            if present[sk] != copy.body:
                report.faults.append(f"version {copy.version} of dataset {name} is another one in the bucket: it was applied anew")
            continue
        report.configurations[name] += 1
        if not dry_run:
            item = {"pk": pk, "sk": sk, "body": copy.body.decode(), "applied_at": copy.applied_at}
            with suppress(ConditionFailed):  # a run beside this one was first
                catalog.table.put(item, Absent())
    if not dry_run and catalog.table.get((keys.DATASETS_PK, name)) is None:
        catalog.table.put({"pk": keys.DATASETS_PK, "sk": name})
