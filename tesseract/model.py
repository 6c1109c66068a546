"""The nouns of Tesseract: frozen, without I/O. Times are aware datetimes in UTC unless a name says `_micros` (since 1970)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from tesseract.config.tiers import UNITS, Period
from tesseract.utils.time_utils import from_micros

FieldValue = int | Decimal | str | bool  # a null is an absent field
ItemValue = str | int | Decimal | bool | bytes | None | list[Any] | dict[str, Any]
Item = dict[str, Any]  # of ItemValue: one item of a table, keys `pk` and `sk` among its attributes


class Record(msgspec.Struct, frozen=True):
    """One reading at (group, valid time). `group` is the encoded key (see storage.keys); floats are Decimals of shortest text."""

    group: str
    valid_time: datetime
    ref_time: datetime | None
    fields: dict[str, FieldValue]
    deleted: bool = False


class Change(msgspec.Struct, frozen=True):
    """One record of the raw table's stream: `old` and `new` are the images, `created` its creation time, to the second.

    `new` is None where the image could not be read: the change is in quarantine, and its periods must be marked stale.
    """

    dataset: str
    group: str
    time: str  # the valid time as the item's sort key has it
    at: int  # the valid time, µs since 1970
    sequence: str  # as the stream gave it
    watermark: str  # its place in the stream as `label/sequence`, padded: text order is the order of the numbers
    created: int  # seconds since 1970
    old: RawImage | None
    new: RawImage | None


class RawImage(msgspec.Struct, frozen=True):
    """A raw item, decoded: what the stream processors need of it."""

    fields: dict[str, FieldValue]
    ref_time: str | None
    deleted: bool
    expires_at: int  # seconds since 1970
    config_version: int


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One immutable Parquet file as its manifest knows it. Times are µs since 1970; [start, end) is its tier period.

    `window_end` is the end of the export window that the rows came with, the latest one for a merged segment. `groups` is there
    in a partition that several groups share: group → (first, last) valid time of its rows.
    """

    key: str
    tier: str
    start: int
    end: int
    rows: int
    bytes: int
    first: int  # valid time of the first row
    last: int  # valid time of the last row
    window_end: int
    footer_offset: int
    footer_length: int
    sha256: str
    groups: dict[str, tuple[int, int]] = {}

    @property
    def period(self) -> Period:
        """The period of its tier that the segment lies in."""
        return UNITS[self.tier].period(from_micros(self.start))


class Applied(msgspec.Struct, frozen=True):
    """A commit that a manifest remembers, so that running it again changes nothing."""

    id: str
    window_end: int


class Manifest(msgspec.Struct, frozen=True):
    """The live segments of one partition (dataset, level, group) at one version. Version 0 is the empty one before the first.

    `group` is the partition's name: the group itself, or the bucket that the group shares with others (`keys.partition_name`).
    """

    dataset: str
    level: str
    group: str
    version: int = 0
    segments: tuple[Segment, ...] = ()
    applied: tuple[Applied, ...] = ()
    closed_through: int = 0
    committed_at: int = 0
    operation: str = ""


def of_group(manifest: Manifest, group: str) -> Manifest:
    """What a manifest has of one group: of a bucket, the segments that hold rows of the group, with its own first and last."""
    if manifest.group == group:
        return manifest
    own = [(segment, segment.groups[group]) for segment in manifest.segments if group in segment.groups]
    segments = tuple(msgspec.structs.replace(segment, first=first, last=last) for segment, (first, last) in own)
    return msgspec.structs.replace(manifest, group=group, segments=segments)


WindowState = Literal["open", "exporting", "exported", "collecting", "closed"]
WindowKind = Literal["incremental", "full", "covered"]


class Window(msgspec.Struct, frozen=True):
    """One export window [start, end) in write time, µs since 1970, on whole seconds. `files` is 0 until the summary is read.

    `open`: no export has been asked for under this attempt; `exporting`: one has been; `exported`: it is complete and verified;
    `collecting`: its files are tasks; `closed`: all are committed. A `full` window has everything that was in the table at its
    end; a `covered` one needs no export of its own, because a full window spans it.
    """

    start: int
    end: int
    state: WindowState
    attempt: int = 1
    export_arn: str = ""
    files: int = 0
    items: int = 0
    requested_at: int = 0
    collected_at: int = 0  # when its files were last made into tasks; 0 before
    closed_at: int = 0
    snapshot_at: int = 0  # when the aggregate snapshots of the window were committed; 0 before
    kind: WindowKind = "incremental"

    @property
    def unasked(self) -> bool:
        """Whether an export is still to be asked for under the present attempt."""
        # windows of an earlier version of this library were stored as exporting before anything was asked for
        return self.state == "open" or (self.state == "exporting" and not self.export_arn)

    @property
    def export(self) -> str:
        """The export that counts, as folders and commits name it."""
        return self.export_arn.rpartition("/")[2]

    @property
    def id(self) -> str:
        """The name of the window in keys, commits and paths."""
        return window_id(self.start)


def window_id(start: int) -> str:
    """The name of the export window that starts in the second of `start` (µs since 1970); names sort as their windows do."""
    return f"{from_micros(start):%Y%m%dT%H%M%SZ}"
