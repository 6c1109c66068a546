"""The keys of every item and object. Values inside a key are percent-encoded, so that no value can forge a separator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, unquote
from zlib import crc32

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import UNITS, Unit
from tesseract.utils.time_utils import from_iso, iso_day, iso_micros, iso_seconds

_QUARANTINE = re.compile(r"quarantine/dataset=([^/]+)/date=(\d{4}-\d\d-\d\d)/([^/]+)\.ndjson")
LATEST_SHARDS = 4
WORKLIST_SHARDS = 16
HISTORY = "r#"  # begins the sort keys of revisions kept: greater than any valid time, which begins with a digit
MAX_GROUP_BYTES = 450  # an object's key holds 1,024 bytes, and encodes the group once more; a sort key holds 1,024, too


def tables(stage: str) -> dict[str, str]:
    """The names of a stage's tables by their role."""
    return {role: f"tesseract-{stage}-{role}" for role in ("raw", "live", "catalog")}


def encode(value: str) -> str:
    """One value as part of a key."""
    return quote(value, safe="", errors="surrogatepass")  # half a pair names nothing that exists, but may be asked for


@lru_cache(maxsize=1024)
def _encoded(dataset: str) -> str:
    """`encode` for names of datasets, which are few and come with every record."""
    return encode(dataset)


def join_group(values: Iterable[str]) -> str:
    """The group key of the group_by values: `KJFK`, or `NETWORK/STATION` for a compound group."""
    return "/".join(encode(value) for value in values)


def split_group(group: str) -> tuple[str, ...]:
    """The group_by values of a group key."""
    return tuple(unquote(part) for part in group.split("/"))


def group_values(dataset: Dataset, group: str) -> dict[str, str]:
    """The columns that carry a group, with its values."""
    return dict(zip(dataset.group_columns, split_group(group), strict=True))


def raw_pk(dataset: str, group: str, day: str) -> str:
    """One group's UTC day in the buffer."""
    return f"{_encoded(dataset)}#{group}#{day}"


def raw_key(dataset: str, group: str, valid_time: datetime) -> tuple[str, str]:
    """(pk, sk) of the raw item at (dataset, group, valid time)."""
    text = iso_micros(valid_time)
    return raw_pk(dataset, group, text[:10]), text


def split_raw_key(pk: str, sk: str) -> tuple[str, str, datetime]:
    """(dataset, group, valid time) of a raw item's key."""
    dataset, group, _ = pk.split("#")
    return unquote(dataset), group, from_iso(sk)


def history_key(dataset: str, group: str, valid_time: datetime, ref_time: datetime | None) -> tuple[str, str]:
    """(pk, sk) of the item that keeps one revision, beside the current item and behind all of its day's."""
    pk, sk = raw_key(dataset, group, valid_time)
    return pk, f"{HISTORY}{sk}#{'' if ref_time is None else iso_micros(ref_time)}"


def is_history(sk: str) -> bool:
    """Whether a sort key of the raw table is that of a revision kept, not of a current item."""
    return sk.startswith(HISTORY)


def history_valid_time(sk: str) -> datetime:
    """The valid time in a sort key made by `history_key`."""
    return from_iso(sk.split("#")[1])


def days_pk(dataset: str, group: str) -> str:
    """The day marks of a group: live table, sort key the day."""
    return f"{encode(dataset)}#{group}#days"


def live_pk(dataset: str, group: str, level: str) -> str:
    """The items of a group at a level: live table, sort key the period's start."""
    return f"{encode(dataset)}#{group}#{level}"


def live_key(dataset: str, group: str, unit: Unit, valid_time: datetime) -> tuple[str, str]:
    """(pk, sk) of the aggregate item that covers `valid_time`."""
    return live_pk(dataset, group, unit.name), iso_seconds(unit.floor(valid_time))


def split_live_key(pk: str, sk: str) -> tuple[str, str, str, datetime]:
    """(dataset, group, level, period start) of an aggregate item's key."""
    dataset, group, level = pk.split("#")
    return unquote(dataset), group, level, from_iso(sk)


def latest_key(dataset: str, group: str) -> tuple[str, str]:
    """(pk, sk) of a group's latest value."""
    return latest_pk(dataset, crc32(group.encode()) % LATEST_SHARDS), group


def latest_pk(dataset: str, shard: int) -> str:
    """One shard of a dataset's latest values."""
    return f"{encode(dataset)}#latest#{shard}"


def is_latest_pk(pk: str) -> bool:
    """Whether a partition of the live table holds latest values: a group may be named `latest`, but no level has a number."""
    _, group, last = pk.split("#")
    return group == "latest" and last.isdigit()


def split_latest_pk(pk: str) -> str:
    """The dataset of a partition of latest values."""
    return unquote(pk.split("#")[0])


def worklist_key(pk: str, sk: str) -> tuple[str, str]:
    """(pk, sk) of the entry that asks for the repair of the live item (pk, sk): live table, spread over partitions."""
    name = f"{pk}|{sk}"
    return f"worklist#{crc32(name.encode()) % WORKLIST_SHARDS}", name


def split_worklist_name(name: str) -> tuple[str, str]:
    """(pk, sk) of the live item that an entry's sort key names."""
    pk, _, sk = name.partition("|")
    return pk, sk


def worklist_pks() -> list[str]:
    """The partitions of the worklist."""
    return [f"worklist#{shard}" for shard in range(WORKLIST_SHARDS)]


def config_pk(dataset: str) -> str:
    """The versions of a dataset's configuration: catalog table, sort key `version_sk`."""
    return f"config#{encode(dataset)}"


CONFIG = "config/"
_CONFIG = re.compile(r"config/(?!datasets\.json$)([^/]+?)(?:/v\d+)?\.json")  # datasets.json lists all of them


def config_objects(dataset: str) -> str:
    """Where the bucket's copies of all versions of a dataset's configuration lie."""
    return f"{CONFIG}{encode(dataset)}/"


def config_object(dataset: str, version: str = "") -> str:
    """The bucket's copy of a configuration: of the version with that sort key, else of the newest."""
    return f"{config_objects(dataset)}{version}.json" if version else f"{CONFIG}{encode(dataset)}.json"


def split_config_object(key: str) -> str | None:
    """The dataset of an object with a version of a configuration; None where it is none."""
    match = _CONFIG.fullmatch(key)
    return None if match is None else unquote(match[1])


def manifest_pk(dataset: str, level: str, group: str) -> str:
    """The versions of one partition's manifest: catalog table, sort key `version_sk`."""
    return f"manifest#{encode(dataset)}#{level}#{group}"


def partition_name(dataset: Dataset, group: str) -> str:
    """The partition that a group's rows lie in: the group itself, or its bucket `*0007` under `partitioning: hash(N)`.

    A group's key never has a `*`: that is encoded.
    """
    return f"*{crc32(group.encode()) % dataset.partitions:04d}" if dataset.partitions else group


def is_shared(partition: str) -> bool:
    """Whether a partition's name is that of a bucket of several groups."""
    return partition.startswith("*")


MANIFESTS = "catalog/manifests/"


def manifest_objects(dataset: str) -> str:
    """Where the bucket has manifests of a dataset: the copy of every commit, and those that are too large for an item."""
    return f"{MANIFESTS}manifest#{encode(dataset)}#"


def manifest_object(dataset: str, level: str, partition: str, version: int) -> str:
    """The bucket's copy of one version of a manifest, from which a lost catalog is rebuilt."""
    return f"{MANIFESTS}{manifest_pk(dataset, level, partition)}/{version_sk(version)}.json"


def split_manifest_object(key: str) -> tuple[str, int, bool]:
    """(pk, version, whether it is the copy of a commit) of an object with a manifest in it."""
    folder, _, name = key.rpartition("/")
    version, dash, _ = name.removesuffix(".json").partition("-")
    return folder.removeprefix(MANIFESTS), int(version[1:]), not dash


def level_partition(level: Level) -> str:
    """The partition name of an aggregate level: a level that was added again keeps its segments apart from its former life."""
    return level.name if level.live_from is None else f"{level.name}@{level.live_from}"


def partitions_pk(dataset: str, level: str) -> str:
    """The groups that have segments at a level, whichever partition they lie in: catalog table, sort key the group."""
    return f"partitions#{encode(dataset)}#{level}"


def version_sk(version: int) -> str:
    """A version as a sort key: zero-padded, so that text order is number order."""
    return f"v{version:012d}"


DATASETS_PK = "datasets"
USED_PK = "used"
WINDOWS_PK = "windows"
PROGRESS_PK = "progress"
OUTAGE_PK = "outage"  # also how far each stream function has come: both are read together


def window_files_pk(window: str) -> str:
    """The finished files of one export window: catalog table, sort key (export, file)."""
    return f"window#{window}"


def exports_prefix(window: str) -> str:
    """Where DynamoDB writes the export of a window."""
    return f"exports/{window}"


def touched_object(window: str, export: str, file: str) -> str:
    """Where a worker notes which hours the rows of an export file touched."""
    return f"catalog/touched/{window}/{export}/{file}"


PENDING = "catalog/pending/"


def pending_object(window: str) -> str:
    """Where the snapshots of a window note the touched periods that had not ended by its end."""
    return f"{PENDING}{window}.json"


MISMATCHES = "catalog/mismatches/"


def mismatches_object(window: str) -> str:
    """Where the snapshots of a window note the live items that differed from raw, to be looked at again."""
    return f"{MISMATCHES}{window}.json"


def dataset_objects(dataset: str) -> str:
    """Where all segments of a dataset lie."""
    return f"archive/dataset={encode(dataset)}/"


def partition_objects(dataset: str, level: str, partition: str) -> str:
    """Where all segments of a partition lie."""
    folder = f"bucket={partition[1:]}" if is_shared(partition) else f"group={encode(partition)}"
    return f"{dataset_objects(dataset)}level={level}/{folder}/"


def segment_object(dataset: str, level: str, partition: str, tier: str, label: str, unique: str) -> str:
    """The object of a segment, in hive-style folders. `unique` carries the attempt: a name is never used twice."""
    return f"{partition_objects(dataset, level, partition)}tier={tier}/{label}-{unique}.parquet"


def quarantine_object(dataset: str, day: str, name: str) -> str:
    """Where records lie that could be neither accepted nor answered."""
    return f"quarantine/dataset={encode(dataset)}/date={day}/{name}.ndjson"


def split_quarantine_object(key: str) -> tuple[str, str, str] | None:
    """(dataset, day, name) of a quarantine object's key; None where it is none."""
    match = _QUARANTINE.fullmatch(key)
    return None if match is None else (unquote(match[1], errors="surrogatepass"), match[2], match[3])


def days_between(start: datetime, end: datetime) -> Iterator[str]:
    """The UTC days that [start, end) touches."""
    day = UNITS["daily"].floor(start)
    while day < end:
        yield iso_day(day)
        try:
            day += timedelta(days=1)
        except OverflowError:
            return
