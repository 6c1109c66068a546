"""When an aggregate level begins a new life: its stored numbers lack what the new version shows. Pure.

A life is named by its `live_from`. Items and segments of another life are not read: readers compute those periods from raw records.
"""

from __future__ import annotations

from collections.abc import Sequence

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import MERGED_LEVELS


def begins_anew(versions: Sequence[Dataset], wanted: Dataset) -> frozenset[str]:
    """The kept levels whose stored numbers lack what the new version shows: statistics of values that earlier records may hold.

    A merged level stores nothing: it has no life of its own.
    """
    old = versions[-1]
    own = [level for level in wanted.levels if level.name not in MERGED_LEVELS]
    kept = [(before, level) for level in own if (before := old.level(level.name)) is not None]
    return frozenset(
        level.name
        for before, level in kept
        if any(may_hold(versions, wanted, name) for name, *_ in _coverage(wanted, level) - _coverage(old, before))
    )


def _coverage(dataset: Dataset, level: Level) -> set[tuple[str | None, bool, str]]:
    """What a level shows: (field, whether it is declared, statistic); None stands for all undeclared fields.

    Declaring a field is a change even where its undeclared values were shown: they are read by its type from then on.
    """
    pairs: set[tuple[str | None, bool, str]] = {
        (name, True, stat) for name, field in dataset.fields.items() if field.numeric for stat in level.wanted(name)
    }
    if dataset.unknown_fields == "keep":
        pairs |= {(None, False, stat) for stat, names in level.stats.items() if not names}
        pairs |= {(name, False, stat) for stat, names in level.stats.items() for name in names if name not in dataset.fields}
    return pairs


def may_hold(versions: Sequence[Dataset], wanted: Dataset, name: str | None) -> bool:
    """Whether a record of any of `versions` may hold a value of that name; None: of any name that `wanted` does not declare."""
    if any(version.unknown_fields == "keep" for version in versions):
        return True
    declared = {known for version in versions for known in version.fields}
    return bool(declared - set(wanted.fields)) if name is None else name in declared
