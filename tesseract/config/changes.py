"""What a change of a configuration means for the records that are stored: a verdict per change, and why. Pure.

A change is `compatible` where everything stored reads as the new version says at once; it `needs backfill` where the stored numbers
of aggregate levels lack something, so that readers compute earlier periods from raw records; it is `refused` where stored records
would come to mean something else. The reasons are in docs/decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from tesseract.config.dataset import Dataset, Field, Level
from tesseract.config.kinds import kind, narrows, widened
from tesseract.config.lives import Gains, gains, may_hold
from tesseract.config.retention import consequence
from tesseract.config.tiers import MERGED_LEVELS

Verdict = Literal["compatible", "needs backfill", "refused"]
COMPATIBLE: Verdict = "compatible"
BACKFILL: Verdict = "needs backfill"
REFUSED: Verdict = "refused"
NEW_DATASET = "give the new meaning a new dataset name"
MERGED = "it is merged from finer levels or raw records; where nothing is stored of it, when it is read"
INCOMING = "it concerns new records only; what is stored stays as it is"
UNUSED = "no record has come yet: it has all of them"

# setting → why its change is compatible
COMPATIBLE_SETTINGS = {
    "description": "it is for people",
    "tags": "they are for people",
    "time_field": "it is the name in new records only: producers send it from now on",
    "ref_time_field": "it is the name in new records only: producers send it from now on",
    "max_future_seconds": INCOMING,
    "buffer_ttl_hours": "new records get it; those in the buffer keep the expiry that they have",
    "ladder": "files keep the tier that they are in until a compaction takes them up",
    "time_format": INCOMING,
    "time_zone": INCOMING,
    "on_invalid": INCOMING,
    "records_path": INCOMING,
    "retention": "files that are older now are removed two weeks later, for good; those that were removed do not come back",
    "history": "former states are kept for that long from now on; those that have gone do not come back",
}
REFUSED_SETTINGS = {
    "group_by": f"stored records are filed under the groups of the old one; {NEW_DATASET}",
    "partitions": f"every file and manifest would have to move, which this release cannot do; {NEW_DATASET}",
}
FIELD_SETTINGS = {
    "path": "new records are read there; stored values came from the old place and stay",
    "missing": INCOMING,
    "required": INCOMING,
    "min": INCOMING,
    "max": INCOMING,
    "max_length": INCOMING,
    "enum": INCOMING,
    "format": INCOMING,
    "unit": "it is shown for all numbers; those stored before are in the old one, and are not converted",
    "description": "it is for people",
}
SHOWN_AS = {"ladder": "archive_schedule", "max_future_seconds": "max_future", "partitions": "partitioning"}


class Change(NamedTuple):
    """One change: the setting, how it changes, what that means, and why in one sentence."""

    setting: str
    how: str
    verdict: Verdict
    why: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.how}"


def compare(versions: Sequence[Dataset], wanted: Dataset, unused: bool = False) -> tuple[Change, ...]:
    """What is different in `wanted` from the last of `versions` (all there were, oldest first, at least one).

    Of a dataset `unused` no record is stored, so that no level lacks anything.
    """
    old = versions[-1]
    gained = Gains({}, frozenset()) if unused else gains(versions, wanted)
    return (
        *_settings(old, wanted),
        *_unknown_fields(versions, wanted, gained),
        *_fields(versions, wanted, gained),
        *_levels(old, wanted, gained, unused),
    )


# settings of a dataset --------------------------------------------------------------------------------------------------


def _settings(old: Dataset, wanted: Dataset) -> Iterator[Change]:
    rules = [(name, REFUSED, why) for name, why in REFUSED_SETTINGS.items()]
    rules += [(name, COMPATIBLE, why) for name, why in COMPATIBLE_SETTINGS.items()]
    for name, verdict, why in rules:
        before, after = getattr(old, name), getattr(wanted, name)
        if before != after:
            why = consequence(old, wanted) if name == "retention" else why
            yield Change(SHOWN_AS.get(name, name), f"{_shown(name, before)} → {_shown(name, after)}", verdict, why)
    if old.revisions != wanted.revisions:
        yield _revisions(old, wanted)


def _revisions(old: Dataset, wanted: Dataset) -> Change:
    how = f"{old.revisions} → {wanted.revisions}"
    if old.by_ref_time != wanted.by_ref_time:
        why = f"of two stored revisions another one would win; the one order is of writing, the other of ref times; {NEW_DATASET}"
        return Change("revisions", how, REFUSED, why)
    if wanted.revisions == "all":
        why = "revisions are kept from now on; those replaced before are gone, and present ones will be once they are replaced"
        return Change("revisions", how, COMPATIBLE, why)
    return Change("revisions", how, COMPATIBLE, "the order is the same; replaced revisions are no longer kept from now on")


def _unknown_fields(versions: Sequence[Dataset], wanted: Dataset, gained: Gains) -> Iterator[Change]:
    old = versions[-1]
    if old.unknown_fields == wanted.unknown_fields:
        return
    how = f"{old.unknown_fields} → {wanted.unknown_fields}"
    anew = sorted(name for name in gained.anew if "*" in _wants(wanted, name))
    lacking = sorted(name for name in gained.fields if "*" in _wants(wanted, name))
    if wanted.unknown_fields != "keep":
        hidden = "undeclared values that are stored stay, and are hidden" if old.unknown_fields == "keep" else INCOMING
        yield Change("unknown_fields", how, COMPATIBLE, hidden)
    elif not may_hold(versions, wanted, None):
        yield Change("unknown_fields", how, COMPATIBLE, "undeclared values are kept from now on")
    elif anew or lacking:
        why = f"values that no field declares any more are shown again; {_lack(anew, lacking, 'them')}"
        yield Change("unknown_fields", how, BACKFILL, why)
    else:
        yield Change("unknown_fields", how, COMPATIBLE, "undeclared values are kept from now on; stored ones are shown again")


def _wants(dataset: Dataset, name: str) -> set[str]:
    """The fields that a level names; `*` where a statistic is of all."""
    level = dataset.level(name)
    return set() if level is None else {field for names in level.stats.values() for field in names or ("*",)}


# fields -----------------------------------------------------------------------------------------------------------------


def _fields(versions: Sequence[Dataset], wanted: Dataset, gained: Gains) -> Iterator[Change]:
    old = versions[-1]
    for key, field in wanted.fields.items():
        if key not in old.fields:
            yield _added(versions, wanted, key, gained)
            continue
        if old.label(key) != wanted.label(key):
            yield _renamed(versions, wanted, key)
        yield from _field(key, old.fields[key], field)
    for key in old.fields:
        if key not in wanted.fields:
            yield _removed(old, wanted, key)
    kept = [key for key in old.fields if key in wanted.fields]
    if kept != [key for key in wanted.fields if key in old.fields]:
        yield Change("fields", "another order", COMPATIBLE, "it is the order of the columns of results")


def _renamed(versions: Sequence[Dataset], wanted: Dataset, key: str) -> Change:
    before, after = versions[-1].label(key), wanted.label(key)
    why = "its stored values are shown under the new name, and nothing of them is written anew"
    if wanted.fields[key].path != versions[-1].fields[key].path:
        why += f"; records that carry {before!r} are understood"
    if any(version.unknown_fields == "keep" for version in versions):
        why += f"; values of an undeclared {after!r} that were kept are hidden"
    return Change(f"fields.{after}", f"renamed from {before}", COMPATIBLE, why)


def _field(key: str, old: Field, new: Field) -> Iterator[Change]:
    name = new.name or key
    if kind(old) != kind(new):
        why = narrows(old, new)
        verdict = COMPATIBLE if why is None else REFUSED
        yield Change(f"fields.{name}.type", f"{kind(old)} → {kind(new)}", verdict, why or widened(old, new))
    for setting, why in FIELD_SETTINGS.items():
        before, after = getattr(old, setting), getattr(new, setting)
        named = setting == "path" and (before, after) == (old.name or key, name)  # the default: it goes with the name
        if before != after and not named:
            yield Change(f"fields.{name}.{setting}", f"{_text(before)} → {_text(after)}", COMPATIBLE, why)


def _added(versions: Sequence[Dataset], wanted: Dataset, name: str, gained: Gains) -> Change:
    """`name` is the field's key."""
    setting, field = f"fields.{wanted.label(name)}", wanted.fields[name]
    how = f"added, {kind(field)}"
    former = next((version for version in reversed(versions) if name in version.fields), None)
    if former is not None:
        before = former.fields[name]
        how += "" if former.label(name) == wanted.label(name) else f", renamed from {former.label(name)}"
        why = None if kind(before) == kind(field) else narrows(before, field)
        if why is not None:
            return Change(setting, how, REFUSED, f"version {former.version} had it as {kind(before)}: {why}")
    if not may_hold(versions, wanted, name):
        return Change(setting, how, COMPATIBLE, "no earlier record can hold it: it is null there")
    shown = "values that earlier records hold are shown"
    if any(version.unknown_fields == "keep" for version in versions):
        shown += f", and one that is not of type {kind(field)} reads as null"
    anew = sorted(level.name for level in wanted.levels if level.name in gained.anew and field.numeric and level.wanted(name))
    lacking = [level for level, fields in sorted(gained.fields.items()) if name in fields]
    if not anew and not lacking:
        return Change(setting, how, COMPATIBLE, shown)
    return Change(setting, how, BACKFILL, f"{shown}; {_lack(anew, lacking, 'it')}")


def _removed(old: Dataset, wanted: Dataset, key: str) -> Change:
    name = old.label(key)
    if wanted.unknown_fields == "keep":
        why = "its stored values stay, and are shown like other undeclared ones" + (f", under {key!r}" if name != key else "")
    else:
        carried = "; a record that carries it is rejected from now on" if wanted.unknown_fields == "reject" else ""
        why = f"its stored values stay, and are hidden{carried}"
    return Change(f"fields.{name}", "removed", COMPATIBLE, why)


# levels -----------------------------------------------------------------------------------------------------------------


def _levels(old: Dataset, wanted: Dataset, gained: Gains, unused: bool) -> Iterator[Change]:
    for level in wanted.levels:
        before = old.level(level.name)
        setting = f"aggregations.{level.name}"
        if before is None and level.name in MERGED_LEVELS:
            yield Change(setting, "added", COMPATIBLE, MERGED)
        elif before is None:
            yield (
                Change(setting, "added", COMPATIBLE, UNUSED) if unused else Change(setting, "added", BACKFILL, _lack([level.name]))
            )
        elif before.stats != level.stats:
            how = f"{_statistics(old, before)} → {_statistics(wanted, level)}"
            if level.name in gained.anew:
                yield Change(setting, how, BACKFILL, f"stored periods lack statistics that are new: {_lack([level.name])}")
            elif level.name in gained.fields:
                lack = _lack((), [level.name], " and ".join(sorted(map(wanted.label, gained.fields[level.name]))))
                yield Change(setting, how, BACKFILL, f"stored periods lack statistics that are new: {lack}")
            else:
                enough = UNUSED if unused else "stored periods have every statistic that it shows"
                yield Change(setting, how, COMPATIBLE, MERGED if level.name in MERGED_LEVELS else enough)
    for level in old.levels:
        if wanted.level(level.name) is None:
            why = "what is stored of it is not used any more; added again, it begins anew"
            why = MERGED if level.name in MERGED_LEVELS else why
            yield Change(f"aggregations.{level.name}", "removed", COMPATIBLE, why)


def _lack(anew: Sequence[str], lacking: Sequence[str] = (), what: str = "") -> str:
    """What becomes of levels that begin a new life, and of those whose stored numbers lack `what`."""
    said = [f"{_named(anew)} {'start' if len(anew) > 1 else 'starts'} anew"] if anew else []
    said += [f"{_named(lacking)} {'have' if len(lacking) > 1 else 'has'} {what} from now on"] if lacking else []
    return f"{' and '.join(said)}, earlier periods are computed from raw records when they are read"


def _named(levels: Sequence[str]) -> str:
    return f"level{'s' if len(levels) > 1 else ''} {' and '.join(levels)}"


def _statistics(dataset: Dataset, level: Level) -> str:
    shown = (f"{stat}({', '.join(map(dataset.label, keys))})" if keys else stat for stat, keys in level.stats.items())
    return ", ".join(shown) or "none"


def _shown(setting: str, value: Any) -> str:
    match setting:
        case "max_future_seconds":
            return f"{value} s"
        case "partitions":
            return f"hash({value})" if value else "group"
        case "ladder" | "group_by":
            return "/".join(value)
        case _:
            return _text(value)


def _text(value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(part)}" for name, part in sorted(value.items())) + "}"
    return str(value)
