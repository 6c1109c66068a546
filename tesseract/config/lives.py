"""What the stored numbers of an aggregate level lack of what a new version shows: fields, or all of them. Pure.

Fields that can be named get a moment of their own (`Level.since`): earlier periods lack them, and only them. Else the level begins
a new life, named by its `live_from`: items and segments of another life are not read. Readers compute what is lacking from raw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tesseract.config.dataset import Dataset, Level
from tesseract.config.tiers import MERGED_LEVELS


class Gains(NamedTuple):
    """What the kept levels show that their stored numbers lack, though earlier records may hold it.

    `fields`: level → fields; `anew`: the levels of which no version can name the fields, since any undeclared one was kept.
    """

    fields: dict[str, frozenset[str]]
    anew: frozenset[str]


def gains(versions: Sequence[Dataset], wanted: Dataset) -> Gains:
    """What the levels of `wanted` lack, which follows on `versions`. A merged level's rows have all that its base has."""
    old = versions[-1]
    loose = any(version.unknown_fields == "keep" for version in versions)
    former = {name for version in versions for name, field in version.fields.items() if field.numeric} - set(wanted.fields)
    fields, anew = {}, set()
    for level in wanted.levels:
        before = old.level(level.name)
        if before is None or level.name in MERGED_LEVELS:
            continue
        names = {name for name, *_ in _coverage(wanted, level) - _coverage(old, before)}
        if None in names and loose:
            anew.add(level.name)
            continue
        named = {name for name in names if name is not None and may_hold(versions, wanted, name)}
        found = frozenset(named | former if None in names else named)
        if found:
            fields[level.name] = found
    return Gains(fields, frozenset(anew))


def kept_since(dataset: Dataset, level: Level, since: Mapping[str, int]) -> dict[str, int]:
    """Those of `since` that a level still shows: a field that comes back is added again."""
    shown = {name for name, *_ in _coverage(dataset, level)}
    return dict(since) if None in shown else {name: moment for name, moment in since.items() if name in shown}


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
