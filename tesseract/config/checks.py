"""What the settings of a dataset demand of each other. Every check yields (path, sentence), the path from the dataset on.

They run on what is right of a dataset, so that a typing mistake in one place does not hide a wrong reference in another:
`broken` has the paths whose settings were left out because they are wrong in themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tesseract.config.dataset import INT64
from tesseract.config.faults import nearest
from tesseract.config.models import DatasetConfig, FieldConfig
from tesseract.config.paths import Steps, parse_path, path_name
from tesseract.config.retention import outlasts, too_short
from tesseract.config.tiers import DEFAULT_LADDER, LIVE_LEVELS, MERGED_LEVELS
from tesseract.config.values import DIGITS, ladder_of
from tesseract.config.yaml_lines import Path

Faults = Iterator[tuple[Path, str]]
RESERVED = ("valid_time", "ref_time", "period_start", "rows")
NUMERIC = ("int", "float", "decimal")
MAX_NAME = 255


def check(config: DatasetConfig, broken: set[Path]) -> Faults:
    """All that is wrong between the settings of a dataset."""
    for name, spec in config.fields.items():
        for setting, fault in _field(spec):
            yield ("fields", name, setting), fault
    yield from _names(config, broken)
    yield from _renamed(config, broken)
    yield from _places(config, broken)
    yield from _aggregated(config, broken)
    yield from _retention(config, broken)
    iso = config.time_format == "iso8601" or any(f.type == "timestamp" and _format(f) == "iso8601" for f in config.fields.values())
    if config.time_zone and not iso and not _any(broken, "time_format"):
        yield ("time_zone",), f"time_format {config.time_format} counts from 1970 in UTC: leave time_zone out"


# one field --------------------------------------------------------------------------------------------------------------


def _field(spec: FieldConfig) -> Iterator[tuple[str, str]]:
    kind = spec.type
    for bound in ("min", "max"):
        if getattr(spec, bound) is not None and kind not in NUMERIC:
            yield bound, f"min and max are for numbers, not for type {kind}"
    if spec.scale is None and kind == "decimal":
        yield "scale", "a decimal needs it: the digits after the point, from 0 to 37"
    if spec.scale is not None and kind != "decimal":
        yield "scale", f"it is for type decimal, not for type {kind}"
    if spec.max_length is not None and kind != "string":
        yield "max_length", f"it is for type string, not for type {kind}"
    if spec.format is not None and kind != "timestamp":
        yield "format", f"it is for type timestamp, not for type {kind}"
    if spec.enum and kind not in (*NUMERIC, "string"):
        yield "enum", f"it is for numbers and text, not for type {kind}"
        return
    if kind in NUMERIC:
        yield from _bounds(spec)
    yield from _choices(spec)


def _bounds(spec: FieldConfig) -> Iterator[tuple[str, str]]:
    for bound in ("min", "max"):
        value = getattr(spec, bound)
        if value is not None:
            yield from ((bound, fault) for fault in _fit(value, spec))
    if spec.min is not None and spec.max is not None and spec.min > spec.max:
        yield "min", f"min {spec.min} is greater than max {spec.max}"


def _choices(spec: FieldConfig) -> Iterator[tuple[str, str]]:
    for value in spec.enum:
        if isinstance(value, str) != (spec.type == "string"):
            yield "enum", f"{value!r} is no value of type {spec.type}" + ("; quote it" if spec.type == "string" else "")
        elif isinstance(value, str):
            if spec.max_length is not None and len(value) > spec.max_length:
                yield "enum", f"{value[:40]!r} has more than max_length {spec.max_length} characters"
        else:
            yield from (("enum", fault) for fault in _fit(value, spec, exact=True))
            if (spec.min is not None and value < spec.min) or (spec.max is not None and value > spec.max):
                yield "enum", f"{value!r} is outside min and max"
        if value in spec.missing:
            yield "enum", f"{value!r} is in missing too, where it means null"
        if spec.enum.count(value) > 1:
            yield "enum", f"{value!r} is there twice"


def _fit(value: int | float, spec: FieldConfig, exact: bool = False) -> Iterator[str]:
    """What keeps a number of the configuration from being one of the field's."""
    number = Decimal(repr(value))
    behind = len(f"{number:f}".partition(".")[2].rstrip("0"))
    if spec.type == "int" and behind:
        yield f"{value!r} is no whole number, and type int has no others"
    if spec.type in ("int", "decimal") and number.copy_abs() >= 10 ** (DIGITS - (spec.scale or 0)):
        yield f"{value!r} is beyond the {DIGITS} digits of type {spec.type}" + (f" with scale {spec.scale}" if spec.scale else "")
    elif exact and spec.type == "int" and not -INT64 <= value < INT64 and not _wide(spec):
        yield f"{value!r} is beyond 64 bits: give min or max, which make the type wider"
    elif exact and spec.type == "decimal" and spec.scale is not None and behind > spec.scale:
        yield f"{value!r} has more than {spec.scale} digits after the point"


def _wide(spec: FieldConfig) -> bool:
    return any(bound is not None and not -INT64 <= bound < INT64 for bound in (spec.min, spec.max))


def _format(spec: FieldConfig) -> str:
    return spec.format or "iso8601"


# names and places -------------------------------------------------------------------------------------------------------


def _names(config: DatasetConfig, broken: set[Path]) -> Faults:
    groups = _groups(config, broken)
    for name in config.fields:
        if not 0 < len(name) <= MAX_NAME:
            yield ("fields", name), f"{name[:20]!r}: a field's name has 1 to {MAX_NAME} characters"
        elif _reserved(name):
            yield ("fields", name), f"{name!r} is reserved, name the field otherwise and give its path"
        elif name in groups:
            yield ("fields", name), f"{name!r} is a group_by field already"
    for name in groups:
        if _reserved(name):
            yield ("group_by",), f"{name!r} is reserved, results use it"
    columns = {
        f"{name}_{stat}"
        for stats in config.aggregations.values()
        for stat, names in stats.items()
        for name in names or config.fields
    }
    for name in sorted(columns.intersection(groups)):
        yield ("group_by",), f"{name!r} is the name of an aggregate's column too"


def _renamed(config: DatasetConfig, broken: set[Path]) -> Faults:
    groups, known = _groups(config, broken), dict[str, str]()
    for name, spec in config.fields.items():
        former, place = spec.renamed_from, ("fields", name, "renamed_from")
        if former is None:
            continue
        if former in config.fields:
            yield place, f"{former!r} is declared too" + ("" if former == name else ": a field that is renamed leaves its old name")
        elif not 0 < len(former) <= MAX_NAME or _reserved(former) or former in groups:
            yield place, f"{former[:20]!r} cannot have been a field's name"
        elif former in known:
            yield place, f"field {known[former]!r} is renamed from {former!r} already"
        known.setdefault(former, name)


def _groups(config: DatasetConfig, broken: set[Path]) -> list[str]:
    """The columns of the group."""
    return [] if _any(broken, "group_by") else [path_name(parse_path(path)) for path in config.group_by]


def _places(config: DatasetConfig, broken: set[Path]) -> Faults:
    """Every value of a record has one meaning."""
    known: dict[Steps, str] = {}
    places: list[tuple[Path, str]] = [(("group_by",), path) for path in config.group_by]
    places += [(("time_field",), config.time_field), (("ref_time_field",), config.ref_time_field)]
    groups = _groups(config, broken)
    for name, spec in config.fields.items():
        if not _any(broken, "fields", name, "path") and name not in groups:
            places.append((("fields", name), spec.path or name))
    for place, path in places:
        if place[0] != "fields" and _any(broken, place[0]):
            continue
        try:
            steps = parse_path(path)
        except ValueError as error:  # a field's name, which stands for its path
            if path:
                yield place, f"{error}; or give its path"
            continue
        if steps in known:
            yield place, f"{path!r} is read twice, by {known[steps]} too; every value of a record has one meaning"
        known.setdefault(steps, ".".join(map(str, place)))


def _reserved(name: str) -> bool:
    return name in RESERVED or name.startswith("__")


# references -------------------------------------------------------------------------------------------------------------


def _aggregated(config: DatasetConfig, broken: set[Path]) -> Faults:
    declared = _members(config.fields, broken, "fields")
    if not declared or _any(broken, "fields"):
        return
    for level, stats in config.aggregations.items():
        for stat, names in stats.items():
            for name in names:
                place = ("aggregations", level, stat, name)
                if name not in declared:
                    yield place, f"there is no field {name!r}{nearest(name, declared)}"
                elif name in config.fields and config.fields[name].type not in NUMERIC:
                    yield place, f"field {name!r} is of type {config.fields[name].type}, aggregates are of numbers"


def _retention(config: DatasetConfig, broken: set[Path]) -> Faults:
    levels = ["raw", *_members(config.aggregations, broken, "aggregations")]
    ladder = DEFAULT_LADDER if config.archive_schedule is None else ladder_of(config.archive_schedule)
    for level, tiers in config.retention.items():
        if level not in levels and not _any(broken, "aggregations"):
            yield ("retention", level), f"there is no level {level!r}: levels are {', '.join(levels)}{nearest(level, levels)}"
        for tier in tiers:
            if tier not in (*ladder, "*") and not _any(broken, "archive_schedule"):
                yield ("retention", level, tier), f"there is no tier {tier!r}: tiers are {', '.join(ladder)}{nearest(tier, ladder)}"
        if not _any(broken, "archive_schedule"):
            for tier, above in too_short(tiers, ladder):
                hint = f"it needs a whole period of that tier at least, or give one duration for all: {level}: P90D"
                yield ("retention", level, tier), f"the rows would be removed before they come to the {above} tier; {hint}"

    merged = [level for level in MERGED_LEVELS if level in config.aggregations]
    base = next((level for level in reversed(LIVE_LEVELS) if level in config.aggregations), None)
    kept = config.retention.get(base or "") if merged and not _any(broken, "archive_schedule") else None
    if base and kept and not outlasts(kept, config.retention.get("raw", {}), ladder):
        yield ("retention", base), f"{' and '.join(merged)} are merged from it: keep it for ever, or a month longer than raw"


def _any(broken: set[Path], *path: str | int) -> bool:
    return any(path[: len(wrong)] == wrong for wrong in broken)


def _members(right: dict[Any, Any], broken: set[Path], setting: str) -> list[str]:
    """What is declared under a setting, rightly or not."""
    return [*right, *(str(path[1]) for path in broken if len(path) > 1 and path[0] == setting and path[1] not in right)]
