"""The bucket's copies of manifests, one for each committed version: what a lost catalog is rebuilt from.

A copy is written after its version is committed. An attempt that dies in between leaves a version without one. Whoever comes after
it, and finds that there is nothing left to commit, writes the copy (`Catalog.commit`, `segments.is_committed`). So work counts as
done only when a copy has it:

    an attempt that dies               the one after it
    1  put version n+1                 1  read version n+1: it has our commit
    2  put its copy   ← never          2  put its copy
                                       3  say that the work is done

A catalog that is lost must not begin anew: its versions would be written over the copies of the former ones. So the first commit of
a partition looks for copies, and refuses where there is one.
"""

from __future__ import annotations

import msgspec

from tesseract.errors import DamagedError
from tesseract.model import Manifest
from tesseract.storage import keys
from tesseract.storage.base import Objects


def copy_key(manifest: Manifest) -> str:
    """Where the copy of a version lies."""
    return keys.manifest_object(manifest.dataset, manifest.level, manifest.group, manifest.version)


def keep(objects: Objects, manifest: Manifest) -> None:
    """Write the copy of a committed version; again, it is the same."""
    if manifest.version:
        objects.put(copy_key(manifest), msgspec.json.encode(manifest))


def read(objects: Objects, key: str) -> Manifest:
    """The version that a copy holds. Raises DamagedError where it does not decode."""
    try:
        return msgspec.json.decode(objects.get(key), type=Manifest)
    except msgspec.DecodeError as error:
        raise DamagedError(f"the copy of a manifest does not decode: {error}", key=key) from error


def exist(objects: Objects, dataset: str, level: str, partition: str) -> bool:
    """Whether the bucket has a copy of any version of a partition's manifest."""
    folder = keys.manifest_object(dataset, level, partition, 0).rpartition("/")[0]
    return any(keys.split_manifest_object(info.key)[2] for info in objects.list(f"{folder}/"))


def lost(dataset: str, level: str, partition: str) -> DamagedError:
    """What a commit raises where there are copies, and the catalog has no version."""
    return DamagedError(
        "the bucket has versions of a manifest that the catalog has lost",
        operation="commit",
        key=f"{dataset} {level} {partition}",
        hint="`tesseract archive rebuild-catalog` brings them back",
    )
