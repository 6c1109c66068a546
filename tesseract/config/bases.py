"""Which level the periods of a coarser one are made of, and when what is stored of a merged level counts no more. Pure.

A merged level (weekly, monthly) has one base, and rows of its own. A level that is not kept is made, when it is read, of whichever
kept one serves best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from tesseract.config.dataset import STATS, Dataset, Level
from tesseract.config.tiers import LIVE_LEVELS, MERGED_LEVELS, UNITS
from tesseract.utils.time_utils import EPOCH, MICROSECOND


def base_level(dataset: Dataset, level: Level) -> Level | None:
    """The coarsest level with states of its own that cover all fields of a merged level; None where there is none."""
    finer = (other for other in reversed(dataset.levels) if other.name in LIVE_LEVELS)
    return next((base for base in finer if _covers(dataset, base, level)), None)


def named_level(dataset: Dataset, name: str) -> Level | None:
    """The level of that name: as it is kept, else as it would be; None where no calendar unit has that name."""
    return dataset.level(name) or (unkept_level(dataset, name) if name in UNITS else None)


def unkept_level(dataset: Dataset, name: str, stats: Iterable[str] | None = None, length: int | None = None) -> Level:
    """A level that the dataset does not keep: of the statistics `stats`, else of those of the coarsest kept level that is not
    coarser (of the finest one where all are), else of all. `length` (µs, about) is that of its periods, where no unit has its name.
    """
    if stats is not None:
        return Level(name, {stat: () for stat in STATS if stat in stats})
    if not dataset.levels:
        return Level(name, dict.fromkeys(STATS, ()))
    longest = _length(name) if length is None else length
    finer = [level for level in dataset.levels if _length(level.name) <= longest]
    return Level(name, dict((finer[-1] if finer else dataset.levels[0]).stats))


def _length(name: str) -> int:
    """The µs of a unit's periods, about."""
    period = UNITS[name].period(EPOCH)
    return (period.end - period.start) // MICROSECOND


def bases_of(dataset: Dataset, level: Level) -> Iterator[Level]:
    """The kept levels whose states have all fields of a level that is not kept, the coarsest first."""
    for other in reversed(dataset.levels):
        states = base_level(dataset, other) if other.name in MERGED_LEVELS else other
        if states is not None and _covers(dataset, states, level):
            yield other


def merged_levels(dataset: Dataset) -> list[tuple[Level, Level]]:
    """The merged levels of a dataset that are stored, each with its base."""
    pairs = ((level, base_level(dataset, level)) for level in dataset.levels if level.name in MERGED_LEVELS)
    return [(level, base) for level, base in pairs if base is not None]


def with_lives(old: Dataset, new: Dataset, moment: int) -> tuple[Level, ...]:
    """The levels of `new`, which follows on `old`; a merged level keeps its life as long as it is there and has one base.

    Else it begins another, named by `moment` (µs since 1970): its stored rows were not kept up to date while it was not there, or
    had another base. Periods that it has no row of are merged when they are read.
    """
    return tuple(
        replace(level, live_from=_life(old, new, level, moment)) if level.name in MERGED_LEVELS else level for level in new.levels
    )


def _life(old: Dataset, new: Dataset, level: Level, moment: int) -> int | None:
    before = old.level(level.name)
    if before is None or _identity(base_level(old, before)) != _identity(base_level(new, level)):
        return moment
    return before.live_from


def _identity(base: Level | None) -> tuple[str, int | None] | None:
    return None if base is None else (base.name, base.live_from)


def _covers(dataset: Dataset, base: Level, level: Level) -> bool:
    has, wants = base.covered(), level.covered()
    if wants is None and dataset.unknown_fields != "keep":
        wants = frozenset(name for name, field in dataset.fields.items() if field.numeric)
    return has is None or (wants is not None and wants <= has)
