"""Which groups a user means: names, and patterns of names on each part of a compound key. Pure.

    KJFK        the group of that name
    K*  K?FK    groups by wildcards: `*` any text, `?` one character, `[JL]` one of some, `[!JL]` any other one
    NY/*        of several group_by fields each part has its own pattern: a `*` does not reach over the `/`
    [*]         a character as it is; or give the group as a tuple, which is never a pattern

A name that is a group's, exactly, means that group alone, whatever characters it has: what `store.groups` lists can be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate

from tesseract.config.dataset import Dataset
from tesseract.errors import NotFoundError
from tesseract.query.catalog import Group, group_key, group_name, nearest
from tesseract.storage.keys import split_group

_WILD = re.compile(r"[*?]|\[!?.[^\]]*\]", re.DOTALL)


def is_pattern(group: Group) -> bool:
    """Whether a group as a user gives it has wildcards."""
    return isinstance(group, str) and _WILD.search(group) is not None


def expand(dataset: Dataset, wanted: Iterable[Group], known: Callable[[], Sequence[str]]) -> list[str]:
    """The keys of the groups that `wanted` names, each once; of a pattern in the order of `known`, whose keys are asked for at most
    once, and only where there is a pattern.

    Raises InputError for a group with another number of parts, NotFoundError for a pattern that no known group matches.
    """
    keys: list[str] | None = None
    found: dict[str, None] = {}
    for group in wanted:
        key = group_key(dataset, group)
        if is_pattern(group):
            keys = list(known()) if keys is None else keys
            found |= dict.fromkeys([key] if key in keys else _matching(dataset, key, keys))
        else:
            found[key] = None
    return list(found)


def _matching(dataset: Dataset, pattern: str, keys: Sequence[str]) -> list[str]:
    """The keys whose parts match those of a pattern, which is encoded as a key is."""
    parts = [re.compile(translate(part)) for part in split_group(pattern)]
    found = [key for key in keys if all(part.match(value) for part, value in zip(parts, split_group(key), strict=True))]
    if not found:
        name = group_name(pattern)
        raise NotFoundError(
            f"no group of dataset {dataset.name} matches {name!r}", hint=_hint(name, [group_name(key) for key in keys])
        )
    return found


def _hint(pattern: str, known: Sequence[str]) -> str:
    """A near name: of the pattern without its wildcards, if one is near."""
    bare = _WILD.sub("", pattern)
    return nearest(bare if bare.strip("/") else pattern, known)
