"""A first configuration from sample records, with comments that say what was seen. Pure: records in, YAML text out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median
from textwrap import wrap
from typing import Any, NamedTuple

import yaml

from tesseract.config.checks import RESERVED
from tesseract.config.dataset import TimeFormat
from tesseract.config.paths import written
from tesseract.errors import InputError
from tesseract.ingestion.profile import Column, Profile, moment, profile
from tesseract.utils.time_utils import MICROSECOND

_TIME_NAMES = ("validtime", "timestamp", "time", "datetime", "ts", "at", "date", "timehour", "observedat", "measuredat")
_REF_NAMES = ("reftime", "issued", "issuedat", "receivedat", "recordedat", "createdat", "ingestedat")
_GROUP_NAMES = ("sensorid", "stationid", "station", "sensor", "deviceid", "device", "site", "siteid", "origin", "id", "name")
_ANGLE = re.compile(r"(^|_|\.)(wind_?)?(dir|direction|bearing|heading|azimuth|winddir)($|_|\.)", re.IGNORECASE)
_LABEL = re.compile(r"(^|_|\.)(flags?|qc|quality|status|code|year|month|day|hour|minute|second|doy|jday)($|_|\.)", re.IGNORECASE)
_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]*$")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
WIDTH = 132
ENUM = 8  # distinct texts that are offered as an enum


class _Shape(NamedTuple):
    """What decides the dataset: how records are told apart, and how often they come."""

    group_by: tuple[str, ...]
    time_field: str
    time_format: TimeFormat
    zoned: bool
    ref_time_field: str | None
    cadence: timedelta | None
    repeated: int  # records with the group and time of another


def infer(lines: Iterable[bytes], name: str, group_by: Sequence[str] = (), time_field: str | None = None) -> str:
    """A configuration of dataset `name` as YAML. Raises InputError where group or time cannot be told: they can be named."""
    seen = profile(lines)
    shape = _shape(seen, tuple(group_by), time_field)
    return "".join(f"{line}\n" for line in [*_head(name, seen, shape), *_levels(seen, shape), *_fields(seen, shape)])


def _shape(seen: Profile, group_by: tuple[str, ...], time_field: str | None) -> _Shape:
    for name in (*group_by, *((time_field,) if time_field else ())):
        if name not in seen.columns:
            raise InputError(f"no record has {name!r}", hint=f"there are: {', '.join(list(seen.columns)[:20])}")
    time = time_field or _named(_times(seen), _TIME_NAMES, "time field", "--time-field")
    form = seen.columns[time].epoch() or "iso8601"
    ref = next((n for n in _times(seen) if n != time and _simple(n) in _REF_NAMES), None)
    group = group_by or _group(seen, time, form)
    cadence, repeated = _cadence(seen, group, time, form)
    return _Shape(group, time, form, seen.columns[time].zoned > 0 or form != "iso8601", ref, cadence, repeated)


def _times(seen: Profile) -> list[str]:
    """The paths that hold times in every record, the likeliest first."""
    whole = [c for c in seen.columns.values() if c.present == len(seen.rows) and not c.nulls]
    texts = [c.name for c in whole if c.times == c.present]
    numbers = [c.name for c in whole if c.epoch() and (_simple(c.name) in _TIME_NAMES or "time" in _simple(c.name))]
    return texts + numbers


def _named(candidates: list[str], names: Sequence[str], what: str, option: str) -> str:
    for name in names:
        for candidate in candidates:
            if _simple(candidate.rpartition(".")[2]) == name:
                return candidate
    if not candidates:
        raise InputError(f"the records do not tell which is the {what}", hint=f"name it with {option}")
    return candidates[0]


def _group(seen: Profile, time: str, form: TimeFormat) -> tuple[str, ...]:
    """The field whose values tell two records of one time apart: the likeliest name first, then the fewest values."""
    whole = [
        c
        for c in seen.columns.values()
        if c.present == len(seen.rows)
        and not c.nulls
        and not c.many
        and not c.fractions
        and not c.bools
        and not c.times
        and c.name != time
    ]
    names = {n: i for i, n in enumerate(_GROUP_NAMES)}
    likely = sorted(
        (c for c in whole if c.texts == c.present or _simple(c.name.rpartition(".")[2]) in names),
        key=lambda c: (names.get(_simple(c.name.rpartition(".")[2]), len(names)), len(c.distinct)),
    )
    for column in likely:
        if _cadence(seen, (column.name,), time, form)[1] == 0:
            return (column.name,)
    if likely:
        return (likely[0].name,)
    raise InputError("the records do not tell what a series belongs to", hint="name the field or fields with --group-by")


def _cadence(seen: Profile, group: Sequence[str], time: str, form: TimeFormat) -> tuple[timedelta | None, int]:
    """The usual distance of two records of a group, and how many have the group and time of another."""
    series: dict[tuple[Any, ...], set[datetime]] = {}
    read = 0
    for row in seen.rows:
        at = moment(row.get(time), form)
        if at is not None:
            series.setdefault(tuple(row.get(name) for name in group), set()).add(at)
            read += 1
    steps: list[int] = []
    for times in series.values():
        steps += [(after - before) // MICROSECOND for before, after in pairwise(sorted(times))]
    repeated = read - sum(map(len, series.values()))
    return (median(steps) * MICROSECOND if steps else None), repeated


def _head(name: str, seen: Profile, shape: _Shape) -> list[str]:
    count = len(seen.rows)
    lines = [
        f"# Learned from {count} record{'s' if count != 1 else ''}. Read it before you apply it: samples do not show everything.",
        "datasets:",
        f"  {_text(name)}:",
    ]
    groups = Counter(tuple(row.get(part) for part in shape.group_by) for row in seen.rows)
    note = f"{len(groups)} in the sample"
    if shape.repeated:
        note += f"; {shape.repeated} records have the group and the time of another, of which one is kept: is a field missing here?"
    paths = [_text(written(seen.columns[part].steps)) for part in shape.group_by]
    value = paths[0] if len(paths) == 1 else f"[{', '.join(paths)}]"
    lines.append(f"    group_by: {value}  # {note}")
    every = f"  # usually every {_duration(shape.cadence)}" if shape.cadence else ""
    lines.append(f"    time_field: {_text(written(seen.columns[shape.time_field].steps))}{every}")
    if shape.time_format != "iso8601":
        lines.append(f"    time_format: {shape.time_format}")
    if not shape.zoned:
        lines.append("    time_zone: UTC  # the times carry no zone: put the one that they are in")
    if shape.ref_time_field:
        lines.append(f"    ref_time_field: {_text(written(seen.columns[shape.ref_time_field].steps))}")
    if seen.records_path:
        lines.append(f"    records_path: {_text(seen.records_path)}  # each object of this list is a record")
    lines.append("    buffer_ttl_hours: 168  # how long a record stays in DynamoDB after its time")
    lines.append("    archive_schedule: { buffer_to_daily: P1D, daily_to_monthly: P1M, monthly_to_yearly: P1Y }")
    return lines


def _levels(seen: Profile, shape: _Shape) -> list[str]:
    columns = [c for c in _columns(seen, shape) if _type(c) in ("int", "float")]
    if not columns:
        return ["    # no aggregations: no field is a number"]
    averaged = [c.name for c in columns if not _ANGLE.search(c.name) and not _LABEL.search(c.name)]
    measured = [c.name for c in columns if not _LABEL.search(c.name)]
    if not measured:
        return ["    # no aggregations: every number looks like a label"]
    lines = ["    aggregations:"]
    names = ["hourly", "daily"] if shape.cadence is None or shape.cadence < timedelta(hours=1) else ["daily"]
    lines += [f"      {names[0]}: &statistics", *_list("        count: &measured ", measured)]
    lines += [f"        {stat}: *measured" for stat in ("min", "max", "first", "last")]
    if averaged:
        lines += [
            "        # the mean of two directions is no direction, that of two flags no flag",
            *_list("        avg: &averaged ", averaged),
            "        std: *averaged",
        ]
    return lines + [f"      {name}: *statistics" for name in names[1:]]


def _list(head: str, names: Sequence[str]) -> list[str]:
    """A list of names, cut into lines that can be read."""
    body = ", ".join(map(_text, names))
    return wrap(f"{head}[{body}]", WIDTH, subsequent_indent="          ", break_long_words=False, break_on_hyphens=False)


def _fields(seen: Profile, shape: _Shape) -> list[str]:
    columns = _columns(seen, shape)
    lines = []
    mixed = [column for column in columns if not _type(column)]
    if mixed:
        names = ", ".join(_text(column.name) for column in mixed)
        lines.append(
            f"    unknown_fields: keep  # {names}: values of several types, kept as they come; declare the one that is right"
        )
        columns = [column for column in columns if _type(column)]
    if not columns:
        return lines
    lines += ["    # a value outside these types is rejected; min and max would reject, too: set them where nature does"]
    common = sorted({value for column in columns for value in column.sentinels()}, key=str)
    if common:
        lines.append(
            f"    # {', '.join(map(_value, common))} stood for null in the sample: taken as null in every field of numbers"
        )
    lines.append("    fields:")
    for column in columns:
        missing = [value for value in common if _may_mean_null(value, column)]
        sentinels = ", ".join(map(_value, missing))
        path = written(column.steps)
        settings = [f"type: {_type(column)}", *([f"path: {_text(path)}"] if path != column.name else [])]
        settings += [f"missing: [{sentinels}]"] if missing else []
        value = f"{{ {', '.join(settings)} }}" if settings[1:] else _type(column)
        lines.append(f"      {_text(column.name)}: {value}{_note(column, len(seen.rows))}")
    return lines


def _columns(seen: Profile, shape: _Shape) -> list[Column]:
    """The columns that are fields; a name that a field may not have is changed, its path says where the value lies."""
    identity = {*shape.group_by, shape.time_field, shape.ref_time_field}
    columns = [column for column in seen.columns.values() if column.name not in identity]
    return [replace(column, name=f"field_{column.name.strip('_')}") if _is_taken(column.name) else column for column in columns]


def _is_taken(name: str) -> bool:
    return not name or name in RESERVED or name.startswith("__")


def _type(column: Column) -> str:
    """The type that holds all values, sentinels set aside; empty where none does."""
    words = column.texts - sum(column.words[value] for value in column.sentinels() if isinstance(value, str))
    if column.bools and not column.numbers and not words:
        return "bool"
    if column.numbers and not words and not column.bools:
        return "float" if column.fractions else "int"
    if column.numbers or (words and column.bools):
        return ""
    return "timestamp" if column.texts and column.times == column.texts == column.zoned else "string"


def _may_mean_null(value: str | float, column: Column) -> bool:
    """Whether a sentinel of the sample can be one of this field: of numbers, outside what it holds, and of its type."""
    bounds = column.bounds()
    if _type(column) not in ("int", "float") or bounds is None:
        return value in column.sentinels()
    if isinstance(value, str):
        return True
    fits = _type(column) == "float" or float(value).is_integer()
    return fits and not bounds[0] <= Decimal(str(value)) <= bounds[1]


def _note(column: Column, records: int) -> str:
    parts = []
    bounds = column.bounds()
    if bounds is not None and _type(column) in ("int", "float"):
        parts.append(f"{_number(bounds[0])} to {_number(bounds[1])}")
    elif _type(column) == "string" and column.texts and len(column.words) <= ENUM < column.values:
        parts.append(f"enum: [{', '.join(map(_value, sorted(column.words)))}]")
    absent = records - column.present + column.nulls + sum(map(column.count, column.sentinels()))
    if absent:
        parts.append("always null" if absent == records else f"null in {absent} of {records}")
    return f"  # {'; '.join(parts)}" if parts else ""


def _number(value: int | Decimal) -> str:
    return str(value) if isinstance(value, int) else format(value.normalize(), "f")


def _value(value: str | int | float) -> str:
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """A name as YAML reads it back."""
    if _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return str(yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True)).strip()


def _simple(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _duration(cadence: timedelta) -> str:
    seconds = cadence.total_seconds()
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit and seconds % unit == 0:
            return name if seconds == unit else f"{int(seconds // unit)} {name}s"
    return "second" if seconds == 1 else f"{seconds:g} seconds"
