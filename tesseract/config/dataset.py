"""A dataset as the functions see it: the checked, complete form of what the user wrote. No pydantic: cold starts read this."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tesseract.utils.time_utils import from_micros

FieldType = Literal["int", "float", "decimal", "string", "bool", "timestamp"]
TimeFormat = Literal["iso8601", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]
Revisions = Literal["last_write", "latest_ref", "all"]
STATS = ("count", "sum", "avg", "std", "min", "max", "first", "last")
DEFAULT_MAX_FUTURE = 3600
DEFAULT_HISTORY = "P7D"
INT64 = 2**63


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of a record. Its key in `Dataset.fields` never changes; `name` is what people call it where it was renamed."""

    type: FieldType
    path: str  # dotted, where the value lies in the record
    missing: tuple[str | int | float, ...] = ()  # sentinels that mean null
    required: bool = False
    min: int | float | None = None
    max: int | float | None = None
    unit: str = ""
    description: str = ""
    scale: int = 0  # of a decimal: digits after the point
    max_length: int | None = None  # of a string, in characters
    enum: tuple[str | int | float, ...] = ()  # the only values there are, besides null
    format: TimeFormat = "iso8601"  # of a timestamp
    name: str = ""  # empty: its key

    @property
    def numeric(self) -> bool:
        """Whether aggregates cover it."""
        return self.type in ("int", "float", "decimal")

    @property
    def wide(self) -> bool:
        """Whether it is an integer beyond 64 bits: its bounds say so, and its column has 38 digits."""
        return self.type == "int" and any(bound is not None and not -INT64 <= bound < INT64 for bound in (self.min, self.max))


class Level(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one aggregate level is kept: which statistics of which fields, and since when.

    `stats` maps a statistic to its fields; an empty tuple means every numeric field. `live_from` (µs since 1970) is None for a
    level that was there before the first record; an item with another value belongs to another life of the level.

    `known_from` (µs since 1970): from then on every process knows that life; None: as `live_from`.

    `since` (field → µs since 1970) has the fields that the level got later, or got a statistic of, while earlier records may hold
    values: the periods that began by then lack that field, unless their numbers were recomputed since.
    """

    name: str
    stats: dict[str, tuple[str, ...]]
    live_from: int | None = None
    since: dict[str, int] = {}
    known_from: int | None = None

    def wanted(self, field: str) -> tuple[str, ...]:
        """The statistics shown for `field`, in the order of STATS."""
        return tuple(s for s in STATS if s in self.stats and (not self.stats[s] or field in self.stats[s]))

    def covered(self) -> frozenset[str] | None:
        """The fields that any statistic is kept of; None for every number that comes."""
        if not all(self.stats.values()):
            return None
        return frozenset(name for names in self.stats.values() for name in names)

    def live_since(self) -> datetime | None:
        """`live_from` as a moment."""
        return None if self.live_from is None else from_micros(self.live_from)

    def lacks(self, start: int, fields_from: int | None = None) -> frozenset[str]:
        """The fields that the stored numbers of the period that starts at `start` (µs) lack.

        `fields_from` is what they say of themselves: a recomputation took in all fields that the level had before that moment (µs).
        """
        bound = start if fields_from is None else max(start, fields_from)
        return frozenset(name for name, moment in self.since.items() if moment >= bound)

    def fields_from(self, start: int) -> int | None:
        """What numbers with all fields say of themselves, recomputed for the period that starts at `start` (µs).

        None where the period has them all anyway.
        """
        after = max(self.since.values()) + 1 if self.since else start
        return after if after > start else None


class Dataset(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of one dataset's configuration."""

    name: str
    version: int
    group_by: tuple[str, ...]  # dotted paths
    time_field: str
    ref_time_field: str
    unknown_fields: Literal["keep", "drop", "reject"]
    buffer_ttl_hours: int
    ladder: tuple[str, ...]
    levels: tuple[Level, ...]
    fields: dict[str, Field] = {}  # by key: all that is stored is named by keys, and so is it here
    max_future_seconds: int = DEFAULT_MAX_FUTURE
    description: str = ""
    revisions: Revisions = "last_write"
    time_format: TimeFormat = "iso8601"  # of the valid time and the ref time
    time_zone: str = ""  # IANA name, of times without a zone; empty: such a time is rejected
    on_invalid: Literal["reject", "null"] = "reject"  # what happens to a record with an invalid value in a field
    records_path: str = ""  # where the records of an envelope lie; empty: the object is the record
    retention: dict[str, dict[str, str]] = {}  # level → tier ("*": every tier) → ISO 8601 duration
    history: str = DEFAULT_HISTORY  # how long versions of a manifest stay readable
    partitions: int = 0  # hash buckets of groups that share a manifest; 0: every group has its own
    tags: dict[str, str] = {}
    shortest_ttl_hours: int = 0  # the shortest buffer_ttl_hours of any version; 0: the present one is
    former: dict[str, str] = {}  # former name, as a path in records → key: producers may send a renamed field there still
    removed: dict[str, int] = {}  # level → µs since 1970: rows before may have been removed, under a former `retention`
    retention_since: int = 0  # µs since 1970: when `retention` became what it is; 0: with this version
    applied_at: int = 0  # µs since 1970; 0: not applied yet
    applied_by: str = ""

    def __str__(self) -> str:
        from tesseract.config.describe import text  # for people, who are not in a hurry

        return text(self)

    def _repr_html_(self) -> str:
        from tesseract.config.describe import html

        return html(self)

    @property
    def by_ref_time(self) -> bool:
        """Whether the newest ref time wins, whatever the order of arrival; else the last put does."""
        return self.revisions != "last_write"

    @property
    def buffer_ttl(self) -> timedelta:
        """How long after its valid time a raw item stays in the buffer, at least."""
        return timedelta(hours=self.buffer_ttl_hours)

    @property
    def shortest_ttl(self) -> timedelta:
        """How long after its valid time a raw item stayed in the buffer under every version: before that, none can have expired."""
        return timedelta(hours=self.shortest_ttl_hours or self.buffer_ttl_hours)

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The result columns that carry the group."""
        return self.group_by

    @property
    def keys(self) -> dict[str, str]:
        """Name → key of the declared fields, in their order."""
        return {field.name or key: key for key, field in self.fields.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the declared fields, in their order."""
        return tuple(self.keys)

    def label(self, key: str) -> str:
        """The name of the field with that key; of one that is not declared the key."""
        field = self.fields.get(key)
        return key if field is None else field.name or key

    def places(self) -> list[tuple[str, Field]]:
        """Where declared values lie in records, former names included, with the field that each belongs to."""
        present = [(field.path, field) for field in self.fields.values()]
        return present + [(path, self.fields[key]) for path, key in self.former.items() if key in self.fields]

    def former_paths(self, key: str) -> tuple[str, ...]:
        """Where else a renamed field may lie in records: its former names."""
        return tuple(path for path, owner in self.former.items() if owner == key)

    def level(self, name: str) -> Level | None:
        """The aggregate level of that name, if it is kept."""
        return next((level for level in self.levels if level.name == name), None)


def decode_dataset(body: str | bytes) -> Dataset:
    """The inverse of `encode_dataset`."""
    return msgspec.json.decode(body, type=Dataset)


def encode_dataset(dataset: Dataset) -> bytes:
    """The stored form: JSON with the fields in a fixed order, so that equal configurations are equal text."""
    return msgspec.json.encode(dataset)
