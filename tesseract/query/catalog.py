"""What a query must know before it reads rows: groups, marks, and the bounds of a dataset's life. Loads no pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import NamedTuple

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError, InputError
from tesseract.model import Segment
from tesseract.query.plan import DAY, LATE, TIME_MIN, Facts, Range, day_number, day_text
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.configurations import decoded
from tesseract.storage.keys import LATEST_SHARDS, config_pk, days_pk, join_group, latest_key, latest_pk, partitions_pk, split_group
from tesseract.utils.time_utils import from_iso, to_micros

Group = str | int | Sequence[str | int]  # one group: its value, `NETWORK/STATION`, or the tuple of its values


class Life(NamedTuple):
    """When a dataset was first applied (µs), and how far ahead of the clock any of its versions let a record be."""

    applied: int
    max_future: timedelta


def group_key(dataset: Dataset, group: Group) -> str:
    """The key of a group. A dataset with one group_by field takes text as the value itself, whatever it holds; with several, text
    is cut at `/`, and a value that holds one needs the tuple. Raises InputError where the number of parts is another.
    """
    wanted = len(dataset.group_by)
    if isinstance(group, str):
        parts: list[str | int] = [group] if wanted == 1 else list(group.split("/"))
    else:
        parts = [group] if isinstance(group, int) else list(group) if isinstance(group, list | tuple) else []
    if len(parts) != wanted or not all(isinstance(part, str | int) and str(part) for part in parts):
        form = "/".join(name.upper() for name in dataset.group_by)
        shown = "/".join(map(str, group)) if isinstance(group, list | tuple) else str(group) if isinstance(group, int) else group
        raise InputError(
            f"a group of dataset {dataset.name} has {wanted} part{'s' if wanted > 1 else ''}, {form}; {shown!r} is not one"
        )
    return join_group(str(part) for part in parts)


def group_name(group: str) -> str:
    """A group key as a person writes it."""
    return "/".join(split_group(group))


def group_order(group: str) -> tuple[str, ...]:
    """What results are sorted by."""
    return split_group(group)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a name that is not known."""
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known[:10])}{' …' if len(known) > 10 else ''}" if known else "none is known yet"


def of_manifest(facts: Facts, segments: Iterable[Segment]) -> Facts:
    """The facts of a group with these segments. Where marks were lost (`Progress.to_readers`) and the start is open, the buffer is
    read from the group's first archived day on: a record that is older than all of it is seen once it is archived."""
    if facts.floor == TIME_MIN:
        return facts
    return facts._replace(floor=min((facts.floor, *(segment.first // DAY * DAY for segment in segments))))


class Lookup:
    """Reads of the catalog and the live table on behalf of queries."""

    def __init__(self, backend: Backend, catalog: Catalog) -> None:
        self._backend, self._catalog = backend, catalog
        self._lives: dict[tuple[str, int], Life] = {}

    def groups(self, dataset: Dataset, each: Callable[..., Iterable[set[str]]] = map) -> list[str]:
        """The keys of all groups that the archive or the stream of changes knows, in result order. `each` is a `map`."""

        def part(shard: int | None) -> set[str]:
            if shard is None:
                return set(self._catalog.groups(dataset.name, "raw"))
            return {item["sk"] for item in self._backend.live.query(latest_pk(dataset.name, shard))}

        return sorted(set().union(*each(part, [None, *range(LATEST_SHARDS)])), key=group_order)

    def is_known(self, dataset: Dataset, group: str) -> bool:
        """Whether a group has a partition, a latest value or a day mark. Without any of them it may still have fresh rows."""
        if self._backend.catalog.get((partitions_pk(dataset.name, "raw"), group)) is not None:
            return True
        if self._backend.live.get(latest_key(dataset.name, group)) is not None:
            return True
        return next(self._backend.live.query(days_pk(dataset.name, group), limit=1), None) is not None

    def marks(self, dataset: Dataset, group: str, wanted: Range) -> dict[int, int]:
        """Day → marked_at of the days that `wanted` touches. Never cached."""
        low, high = day_text(wanted.start // DAY), day_text(wanted.end // DAY) + "~"
        items = self._backend.live.query(days_pk(dataset.name, group), low, high)
        return {day_number(item["sk"]): int(item["marked_at"]) for item in items}

    def life(self, dataset: Dataset) -> Life:
        """When the dataset began, and its farthest future. One Query per version and process."""
        key = (dataset.name, dataset.version)
        if key not in self._lives:
            items = list(self._backend.catalog.query(config_pk(dataset.name), "v", "w"))
            if not items:
                raise DamagedError("the dataset has no stored version", key=dataset.name)
            horizon = max(decoded(dataset.name, item).max_future_seconds for item in items)
            self._lives[key] = Life(to_micros(from_iso(items[0]["applied_at"])), timedelta(seconds=horizon))
        return self._lives[key]

    def bounds(self, dataset: Dataset, through: int, open_start: bool, now: datetime) -> Facts:
        """The facts of a query before the marks of a group are known.

        The horizon: nothing is accepted farther ahead of the writers' clock than `max_future`, and ours is less than a day behind
        theirs. The floor is needed only while no watermark is known (0, before the first export window of a stage is planned) and
        the start is open: nothing was written before the dataset existed, so an older day has a mark or no record.
        """
        life = self.life(dataset)
        horizon = to_micros(now + life.max_future + timedelta(days=1))
        if through or not open_start:
            return Facts(through, {}, horizon=horizon)
        return Facts(through, {}, (life.applied - LATE) // DAY * DAY, horizon)
