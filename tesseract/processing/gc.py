"""Garbage collection: versions of manifests that `history` no longer asks for, then objects that no kept version names. Pure plan.

A version is needed while it was the newest one at some moment of the history. An object goes only once it is older than GRACE and
no version names it that was there when the run began: what a run forgets keeps its objects until the next run, so a reader of an
old moment that began before is not disturbed. The race with a commit:

    who commits                                a run of gc
    1  put the object                          1  list the objects
    2  put version n+1, which names it         2  read all versions
                                               3  remove objects of list 1 that are older than GRACE and not named in 2

An object that is older than GRACE at our 1 was put that long ago. Its attempt has made its commit since, which our 2 sees, or is
over: a function lives for 15 minutes. GRACE is a day, since programs on a person's machine may sleep in between. Nothing else
ever removes an object of the archive. A run may be cut short anywhere: what it leaves, the next one finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError
from tesseract.model import Manifest
from tesseract.processing.verify import partitions_of
from tesseract.storage import keys
from tesseract.storage.base import ObjectInfo, Objects
from tesseract.storage.catalog import Catalog
from tesseract.utils.time_utils import parse_duration, to_micros

GRACE = timedelta(days=1)
Versions = tuple[Manifest, ...]  # the kept versions of one manifest, newest first; at least one


class Facts(NamedTuple):
    """What a run looks at: the objects of one dataset as listed first, then its manifests."""

    dataset: Dataset
    segments: tuple[ObjectInfo, ...]
    copies: tuple[ObjectInfo, ...]  # manifests in the bucket
    manifests: tuple[Versions, ...]


class Step(NamedTuple):
    """One thing to do: `copy` a manifest that has none in the bucket, `forget` a version of one, `remove` an object."""

    action: Literal["copy", "forget", "remove"]
    manifest: Manifest | None
    key: str
    bytes: int


class Sum(msgspec.Struct, frozen=True):
    """What a run did, or would do, for one dataset."""

    dataset: str
    versions: int  # of manifests, forgotten
    objects: int  # removed
    bytes: int
    retired: int = 0  # segments that `retention` took off the manifests; their objects follow after `history`
    rows: int = 0  # of these


def facts_of(catalog: Catalog, objects: Objects, dataset: Dataset) -> Facts:
    """Objects first, then manifests: see the race above."""
    segments = tuple(objects.list(keys.dataset_objects(dataset.name)))
    copies = tuple(objects.list(keys.manifest_objects(dataset.name)))
    found = (tuple(catalog.manifests(dataset.name, part.level, part.name)) for part in partitions_of(catalog, dataset))
    return Facts(dataset, segments, copies, tuple(versions for versions in found if versions))


def plan(facts: Facts, now: datetime) -> list[Step]:
    """The steps that are due, in an order that may be cut short anywhere. `now` was read before the facts were.

    Raises DamagedError where the bucket has newer manifests than the catalog: it has lost some, and everything would look unnamed.
    """
    _check(facts)
    copied = {info.key for info in facts.copies}
    steps = [_copy(versions[0]) for versions in facts.manifests if _copy_key(versions[0]) not in copied]
    since = to_micros(now - parse_duration(facts.dataset.history))
    before = now - GRACE
    oldest: dict[str, int] = {}
    for versions in facts.manifests:
        kept, gone = needed(versions, since)
        oldest[_pk(kept[-1])] = kept[-1].version
        steps += [Step("forget", manifest, "", 0) for manifest in reversed(gone)]  # oldest first: what is left has no holes
    old = [info for info in facts.copies if info.modified < before and _outlived(info, oldest)]
    return steps + [Step("remove", None, info.key, info.bytes) for info in [*old, *_unnamed(facts, before)]]


def needed(versions: Versions, since: int) -> tuple[Versions, Versions]:
    """(kept, gone) of a manifest's versions, newest first: kept is what was the newest one at any moment from `since` (µs) on."""
    count = next((place + 1 for place, manifest in enumerate(versions) if manifest.committed_at <= since), len(versions))
    return versions[:count], versions[count:]


def execute(catalog: Catalog, objects: Objects, step: Step) -> None:
    """Carry out one step; doing it twice changes nothing."""
    if step.manifest is None:
        objects.delete(step.key)
    elif step.action == "copy":
        objects.put(_copy_key(step.manifest), msgspec.json.encode(step.manifest))
    else:
        catalog.forget(step.manifest)


def collect(
    catalog: Catalog,
    objects: Objects,
    datasets: Iterable[Dataset],
    now: datetime,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Sum]:
    """Plan the steps of each dataset and carry them out; with `dry_run`, only plan. Raises what `plan` raises."""
    done = []
    for dataset in datasets:
        steps = plan(facts_of(catalog, objects, dataset), now)
        for place, step in enumerate(() if dry_run else steps):
            say(f"{dataset.name}: {place} of {len(steps)}")
            execute(catalog, objects, step)
        removed = [step for step in steps if step.action == "remove"]
        forgotten = sum(step.action == "forget" for step in steps)
        done.append(Sum(dataset.name, forgotten, len(removed), sum(step.bytes for step in removed)))
    return done


def _check(facts: Facts) -> None:
    newest = {_pk(versions[0]): versions[0].version for versions in facts.manifests}
    for info in facts.copies:
        pk, version, committed = keys.split_manifest_object(info.key)
        if committed and version > newest.get(pk, 0):
            has = newest.get(pk, 0)
            raise DamagedError(
                f"the bucket has version {version} of a manifest, the catalog {has}: nothing of the dataset is removed",
                key=facts.dataset.name,
                hint="the catalog has lost manifests; `tesseract archive rebuild-catalog` brings them back",
            )


def _unnamed(facts: Facts, before: datetime) -> list[ObjectInfo]:
    """The segments that no version names, of partitions that have one, older than `before`."""
    named = {segment.key for versions in facts.manifests for manifest in versions for segment in manifest.segments}
    folders = {keys.partition_objects(v[0].dataset, v[0].level, v[0].group) for v in facts.manifests}
    old = (info for info in facts.segments if info.modified < before and info.key not in named)
    return [info for info in old if f"{info.key.rpartition('/tier=')[0]}/" in folders]


def _outlived(info: ObjectInfo, oldest: dict[str, int]) -> bool:
    pk, version, _ = keys.split_manifest_object(info.key)
    return version < oldest.get(pk, 0)


def _copy(manifest: Manifest) -> Step:
    return Step("copy", manifest, _copy_key(manifest), 0)


def _copy_key(manifest: Manifest) -> str:
    return keys.manifest_object(manifest.dataset, manifest.level, manifest.group, manifest.version)


def _pk(manifest: Manifest) -> str:
    return keys.manifest_pk(manifest.dataset, manifest.level, manifest.group)
