"""The life of a configuration: plan a change, apply it as a new version, go back to the body of a former one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol

from msgspec.structs import replace

from tesseract.config import retention
from tesseract.config.bases import with_lives
from tesseract.config.cache import CACHE, ConfigReader
from tesseract.config.changes import BACKFILL, REFUSED, Change, compare
from tesseract.config.dataset import STATS, Dataset, Level, encode_dataset
from tesseract.config.lives import Gains, gains, kept_since
from tesseract.config.renames import resolve
from tesseract.config.tiers import MERGED_LEVELS, UNITS
from tesseract.errors import ConditionFailed, ConfigError, NotFoundError
from tesseract.utils.time_utils import to_micros

MARGIN = timedelta(seconds=60)  # what the put of a version may take, and clocks may differ by
RESERVED = "datasets"  # the bucket's config/datasets.json lists all of them
SHORT = 12  # characters of a hash that people are shown


class ConfigStore(ConfigReader, Protocol):
    """Where versions of configurations are kept (storage.configurations)."""

    def versions(self, name: str) -> list[Dataset]:
        """All versions of a dataset, oldest first; none where it does not exist."""

    def unused(self, name: str) -> bool:
        """Whether no record of a dataset can have come yet."""

    def put_dataset(self, dataset: Dataset, now: datetime, unused: bool = False) -> None:
        """Add a version. Raises ConditionFailed where it exists, or, if it is for a dataset `unused`, where a record may come."""

    def publish(self, name: str) -> None:
        """Bring the copies in the bucket up to date. Doing it again changes nothing."""


@dataclass(frozen=True)
class Plan:
    """What applying a configuration would do: the version that it would become, and every change with its verdict."""

    dataset: Dataset  # with version, live_from, since and shortest_ttl_hours set
    before: Dataset | None
    changes: tuple[Change, ...] = ()
    faults: tuple[str, ...] = ()  # why there can be no such dataset at all

    @property
    def verdict(self) -> str:
        """`new`, `unchanged`, `compatible`, `needs backfill` or `refused`: the gravest of its changes'."""
        if self.refusals:
            return "refused"
        if self.before is None:
            return "new"
        if not self.changes:
            return "unchanged"
        return BACKFILL if any(change.verdict == BACKFILL for change in self.changes) else "compatible"

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why it will not be done, one sentence each."""
        return self.faults + tuple(f"{change} is refused: {change.why}" for change in self.changes if change.verdict == REFUSED)


def plan(versions: Sequence[Dataset], wanted: Dataset, now: datetime, unused: bool = False) -> Plan:
    """How `wanted` follows on `versions`, all there are, oldest first. Pure; the version is one more where something changes.

    A level that is added begins a life, and a field of a level that its stored numbers lack has its moment: they count from when
    every writer knows of them (60 s of cache, and a margin) and every record that may already be there, stamped ahead of the clock,
    has passed. Where the dataset is `unused` no record is there, and they count from the first one on.
    """
    old = versions[-1] if versions else None
    wanted, clashes = resolve(versions, wanted)
    shortest = min((version.buffer_ttl_hours for version in (*versions, wanted)), default=0)
    plain = replace(_content(wanted), shortest_ttl_hours=shortest if shortest < wanted.buffer_ttl_hours else 0)
    plain = replace(plain, former=wanted.former)
    if old is None:
        faults = (f"the name {RESERVED!r} is taken: give the dataset another",) if wanted.name == RESERVED else ()
        return Plan(replace(plain, version=1), None, clashes, faults)
    removed, since = retention.applied(old, plain, now)
    plain = replace(plain, removed=removed, retention_since=since)
    if clashes:
        return Plan(replace(plain, version=old.version), old, clashes)
    changes = compare(versions, wanted, unused)
    levels = plain.levels
    if not unused:
        horizon = max(version.max_future_seconds for version in (*versions, wanted))
        known = now + CACHE + MARGIN
        moments = to_micros(known), to_micros(known + timedelta(seconds=horizon))
        gained = gains(versions, wanted)
        levels = tuple(_next_level(old.level(level.name), level, plain, gained, *moments) for level in levels)
        levels = with_lives(old, replace(plain, levels=levels), moments[1])
    refused = any(change.verdict == REFUSED for change in changes)
    version = old.version + 1 if changes and not refused else old.version
    return Plan(replace(plain, version=version, levels=levels), old, changes)


def _next_level(old: Level | None, wanted: Level, dataset: Dataset, gained: Gains, known: int, moment: int) -> Level:
    """A level keeps its life; one that is added, also one that was there before, begins a new one. Merged levels see `with_lives`.

    Every process has the new version at `known`; periods that begin after `moment` can have no record that was written before.
    """
    if wanted.name in MERGED_LEVELS:
        return wanted
    if old is None or wanted.name in gained.anew:
        return replace(wanted, live_from=moment, known_from=known)
    since = kept_since(dataset, wanted, old.since) | dict.fromkeys(sorted(gained.fields.get(wanted.name, ())), moment)
    return replace(wanted, live_from=old.live_from, known_from=old.known_from, since=since)


def apply(store: ConfigStore, wanted: Dataset, now: datetime, by: str = "") -> Plan:
    """Plan against what is stored, write the new version, publish it. `by` is who does it.

    A configuration that is in force already is only published again, where the bucket's copy is behind. Raises ConfigError on a
    refusal, and where somebody else applied at the same time; nothing is written then.
    """
    unused = store.unused(wanted.name)
    planned = plan(store.versions(wanted.name), wanted, now, unused)
    if planned.refusals:
        raise ConfigError(f"dataset {wanted.name}: {'; '.join(planned.refusals)}", planned.refusals)
    if planned.verdict != "unchanged":
        planned = Plan(replace(planned.dataset, applied_at=to_micros(now), applied_by=by), planned.before, planned.changes)
        if not _put(store, planned.dataset, now, unused or planned.before is None):
            return apply(store, wanted, now, by)
    store.publish(wanted.name)
    return planned


def _put(store: ConfigStore, dataset: Dataset, now: datetime, unused: bool) -> bool:
    """Whether the version is there; False where the first record came first: plan again, for a dataset in use it is another one."""
    try:
        # two people apply at once: both planned version n+1, the second put finds it there
        store.put_dataset(dataset, now, unused)
        return True
    except ConditionFailed as error:
        found = store.dataset(dataset.name, dataset.version)
        if found == dataset:
            return True  # our own: its answer was lost, and the put was sent again
        if found is None:
            return False
        fault = f"somebody applied version {dataset.version} at the same time, and this was not applied: look, and apply again"
        raise ConfigError(f"dataset {dataset.name}: {fault}", (fault,)) from error


def former(store: ConfigStore, name: str, version: int) -> Dataset:
    """What version `version` said, as something to apply. Raises NotFoundError."""
    found = store.dataset(name, version)
    if found is None:
        newest = store.dataset(name)
        hint = f"versions 1 to {newest.version}" if newest else f"known datasets: {', '.join(store.dataset_names()) or 'none yet'}"
        raise NotFoundError(f"dataset {name} has no version {version}" if newest else f"there is no dataset {name!r}", hint=hint)
    return _content(found)


def rollback(store: ConfigStore, name: str, version: int, now: datetime, by: str = "") -> Plan:
    """Apply what a former version said as a new version, under the same verdicts. Raises as `apply` does, and NotFoundError."""
    return apply(store, former(store, name, version), now, by)


def fingerprint(dataset: Dataset) -> str:
    """The hash of what a configuration says, in hexadecimal: the same for the same body, whoever applied it, whenever."""
    return sha256(encode_dataset(_content(dataset))).hexdigest()


def _content(dataset: Dataset) -> Dataset:
    """What a configuration says, without what applying adds, in one canonical form."""
    levels = sorted(dataset.levels, key=lambda level: UNITS[level.name].rank)
    return replace(
        dataset,
        version=0,
        levels=tuple(Level(level.name, {stat: level.stats[stat] for stat in STATS if stat in level.stats}) for level in levels),
        tags=dict(sorted(dataset.tags.items())),
        retention={level: dict(sorted(tiers.items())) for level, tiers in sorted(dataset.retention.items())},
        shortest_ttl_hours=0,
        former={},
        removed={},
        retention_since=0,
        applied_at=0,
        applied_by="",
    )
