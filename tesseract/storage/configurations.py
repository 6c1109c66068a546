"""Configurations in the catalog: every version is one immutable item; the bucket holds copies for clients.

A version is applied by the put of version n+1 if nobody has it yet. The bucket follows: `config/{dataset}/v….json` per version,
then `config/{dataset}.json`, the newest. A crash in between leaves the bucket behind until the next publish, never the catalog.

The mark of use says whether a record may have come: an aggregate level that is added before the first one has all records, one
that is added later has not. Between the two lies a race, which the order of reads and writes decides:

    who applies                                      a process's first write to the dataset
    1  read the mark: not used                       1  put the mark: used
    2  put version n+1, level from the first record  2  read the newest version, afresh
       on, if the mark is still: not used            3  write records, made for that version or an earlier one

Either its 1 comes before our 2: then ours is refused, and planned again for a dataset in use. Or our 2 comes before its 1: then
its 2 reads version n+1, and the stream functions, which read no older configuration than the first record's, keep the level.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

import msgspec

from tesseract.config.dataset import Dataset, decode_dataset, encode_dataset
from tesseract.errors import ConditionFailed, DamagedError, NotFoundError, RetryError
from tesseract.model import Item
from tesseract.storage import keys
from tesseract.storage.base import Absent, Is, Objects, Table
from tesseract.utils.time_utils import iso_micros

logger = logging.getLogger(__name__)
PUBLISH_ATTEMPTS = 10


class Configurations:
    """The configurations of one stage."""

    def __init__(self, table: Table, objects: Objects) -> None:
        self.table = table
        self.objects = objects

    def dataset_names(self) -> list[str]:
        """All datasets, in order."""
        return [item["sk"] for item in self.table.query(keys.DATASETS_PK)]

    def dataset(self, name: str, version: int | None = None) -> Dataset | None:
        """One version of a configuration, the newest by default. Raises DamagedError where it does not decode."""
        pk = keys.config_pk(name)
        if version is not None:
            item = self.table.get((pk, keys.version_sk(version)))
        else:
            item = next(self.table.query(pk, "v", "w", reverse=True, limit=1), None)
        return None if item is None else decoded(name, item)

    def versions(self, name: str) -> list[Dataset]:
        """All versions, oldest first; none where there is no such dataset. Raises DamagedError where one does not decode."""
        return [decoded(name, item) for item in self._items(name)]

    def datasets(self, names: Iterable[str] | None = None) -> list[Dataset]:
        """The newest configurations of the datasets named (None: of all) that there are.

        One that is damaged is logged and left out: it must not stop the others.
        """
        found = []
        for name in self.dataset_names() if names is None else names:
            try:
                dataset = self.dataset(name)
            except DamagedError as error:
                logger.error("dataset %s is left out: %s", name, error)
                continue
            found += [] if dataset is None else [dataset]
        return found

    def sound(self, name: str) -> Dataset | None:
        """The newest version that decodes: enough to keep raw rows by, whose groups no version changes. None where none does."""
        for item in self.table.query(keys.config_pk(name), "v", "w", reverse=True):
            try:
                return decoded(name, item)
            except DamagedError as error:
                logger.error("an older version stands in: %s", error)
        return None

    def unused(self, name: str) -> bool:
        """Whether no record of a dataset can have come yet. One without a mark, of an earlier release, is taken for used."""
        mark = self.table.get((keys.USED_PK, name))
        return mark is not None and not mark["used"]

    def mark_used(self, name: str) -> None:
        """Say that a record is about to come; the version to write it under must be read after this."""
        self.table.put({"pk": keys.USED_PK, "sk": name, "used": True})

    def put_dataset(self, dataset: Dataset, now: datetime, unused: bool = False) -> None:
        """Add a version. Raises ConditionFailed where somebody has added it, or, if it is for a dataset `unused`, has used it."""
        self.table.put({"pk": keys.DATASETS_PK, "sk": dataset.name})  # before it exists: no dataset is ever unlisted
        item = {
            "pk": keys.config_pk(dataset.name),
            "sk": keys.version_sk(dataset.version),
            "body": encode_dataset(dataset).decode(),
            "applied_at": iso_micros(now),
        }
        if unused and dataset.version > 1:
            self.table.put_checked(item, Absent(), (keys.USED_PK, dataset.name), Is("used", False))
            return
        if unused:
            with suppress(ConditionFailed):  # whoever has put it before was stopped, or applies the same name now
                self.table.put({"pk": keys.USED_PK, "sk": dataset.name, "used": False}, Absent())
        self.table.put(item, Absent())

    def publish(self, name: str) -> None:
        """Bring the bucket's copies of a dataset up to date; where they are, nothing is written.

        Bodies are copied as they are stored. Two who publish at once both end with the newest: each looks again after its write,
        and the copy is not touched while it is ahead of what was read.
        """
        newest, seen = keys.config_object(name), 0
        for _ in range(PUBLISH_ATTEMPTS):
            items = self._items(name)
            copy = self._copy(newest)
            if not items or copy == items[-1]["body"].encode():
                return
            ahead = _version(copy)
            if ahead > max(seen, _version(items[-1]["body"].encode())):
                seen = ahead  # published by somebody who put it after our read: the next read has it, or the catalog has lost it
                continue
            there = {info.key for info in self.objects.list(keys.config_objects(name))}
            for item in items:
                key = keys.config_object(name, item["sk"])
                if key not in there:
                    self.objects.put(key, item["body"].encode())
            self.objects.put(newest, items[-1]["body"].encode())
        raise RetryError("the configuration changed under every attempt", operation="publish", key=name)

    def _items(self, name: str) -> list[Item]:
        return list(self.table.query(keys.config_pk(name), "v", "w"))

    def _copy(self, key: str) -> bytes:
        try:
            return self.objects.get(key)
        except NotFoundError:
            return b""


class _Numbered(msgspec.Struct):
    version: int


def _version(body: bytes) -> int:
    """The version of a stored body; 0 where it says none."""
    try:
        return msgspec.json.decode(body, type=_Numbered).version
    except msgspec.DecodeError:
        return 0


def decoded(name: str, item: Item) -> Dataset:
    """The configuration in an item of the catalog. Raises DamagedError where it does not decode."""
    try:
        return decode_dataset(item["body"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise DamagedError(
            f"the configuration does not decode: {error}",
            key=f"{name} version {item['sk'].lstrip('v0')}",
            hint="a newer release may have applied it; the other datasets are not concerned",
        ) from error
