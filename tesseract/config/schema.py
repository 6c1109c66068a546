"""What a user may write about datasets, and its translation into the complete form that the functions read (config.dataset).

One document, JSON or YAML: `{"datasets": {NAME: {…}}}`. Every fault is reported at once, with its path, its value and what
would be right.
"""

from __future__ import annotations

import difflib
import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic import Field as Spec

from tesseract.config.dataset import DEFAULT_MAX_FUTURE, STATS, Dataset, Field, Level
from tesseract.config.tiers import DEFAULT_LADDER, LIVE_LEVELS, TIERS, UNITS, ladder_faults
from tesseract.errors import ConfigError
from tesseract.utils.time_utils import parse_duration

Stat = Literal["count", "sum", "avg", "std", "min", "max", "first", "last"]
LevelName = Literal["hourly", "daily"]
Name = Annotated[str, Spec(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
LONGEST_FUTURE = timedelta(days=36525)
MAX_NAME = 255
RESERVED = ("valid_time", "ref_time", "period_start", "rows")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FieldConfig(_Strict):
    """One value of a record. `temp: float` is short for `temp: {type: float}`."""

    type: Literal["int", "float", "string", "bool"] = Spec(description="int fits 64 bits; float is the nearest double")
    path: str | None = Spec(None, description="where the value lies in the record, dotted; default: the field's name")
    missing: tuple[str | int | float, ...] = Spec((), description='sentinels that mean null, such as "NA" or -9999.9')
    required: bool = Spec(False, description="a record without it, or with null in it, is rejected")
    min: int | float | None = Spec(None, description="a smaller value is rejected")
    max: int | float | None = Spec(None, description="a greater value is rejected")
    unit: str = Spec("", description="for people and result metadata, such as m/s")
    description: str = ""

    @field_validator("missing", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(sentinel, bool) for sentinel in value):
            raise ValueError("true and false are no sentinels; YAML reads no, off, yes and on as these: quote the word")
        return value

    @model_validator(mode="after")
    def _range(self) -> FieldConfig:
        if (self.min is not None or self.max is not None) and self.type not in ("int", "float"):
            raise ValueError(f"min and max are for numbers, not for type {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class DatasetConfig(_Strict):
    """One dataset."""

    description: str = ""
    group_by: str | tuple[str, ...] = Spec("sensorId", description="what a series belongs to: one field or several, dotted paths")
    time_field: str = Spec("validTime", description="when the value holds")
    ref_time_field: str = Spec("refTime", description="when it was recorded or issued; may be absent from records")
    max_future: str = Spec("PT1H", description="how far ahead of the clock a valid time may lie, ISO 8601 duration")
    unknown_fields: Literal["keep", "drop", "reject"] | None = Spec(
        None, description="what happens to values that no field declares; default: reject, or keep where no fields are declared"
    )
    buffer_ttl_hours: int = Spec(168, ge=1, le=24 * 365 * 10, description="how long a record stays in the buffer after its time")
    archive_schedule: dict[str, str] | None = Spec(
        None, description="the ladder of tiers", examples=[{"buffer_to_daily": "P1D", "daily_to_monthly": "P1M"}]
    )
    aggregations: dict[LevelName, tuple[Stat, ...] | dict[Stat, Literal["*"] | tuple[str, ...]]] = Spec(
        default_factory=dict, description='per level: a list of statistics, or a map statistic → fields ("*" for all numbers)'
    )
    fields: dict[str, FieldConfig] = Spec(default_factory=dict, description="declared values; none: scalars are taken as they come")

    @field_validator("fields", mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in value.items()}
        return value

    @field_validator("max_future")
    @classmethod
    def _duration(cls, value: str) -> str:
        try:
            if parse_duration(value) <= LONGEST_FUTURE:
                return value
        except OverflowError:
            pass
        raise ValueError(f"it is longer than {LONGEST_FUTURE.days} days")

    @field_validator("archive_schedule")
    @classmethod
    def _ladder(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None:
            _ladder_of(value)
        return value

    @model_validator(mode="after")
    def _references(self) -> DatasetConfig:
        faults = [f"{name!r} is reserved, name the field otherwise and give its path" for name in self.fields if _reserved(name)]
        faults += [f"{name!r} is a group_by field already" for name in self.fields if name in _names(self.group_by)]
        faults += [
            f"{name[:20]!r}: a field's name has 1 to {MAX_NAME} characters" for name in self.fields if not 0 < len(name) <= MAX_NAME
        ]
        if not _names(self.group_by):
            faults.append("group_by needs at least one field")
        faults += [f"{name!r} is reserved, results use it" for name in _names(self.group_by) if _reserved(name)]
        paths = [*_names(self.group_by), self.time_field, self.ref_time_field]
        paths += [spec.path or name for name, spec in self.fields.items() if name not in _names(self.group_by)]
        faults += [f"{path!r} is read twice; every value of a record has one meaning" for path in _twice(paths)]
        for level, stats in self.aggregations.items():
            for stat, names in stats.items() if isinstance(stats, dict) else ():
                faults += [f"aggregations.{level}.{stat}: {fault}" for name in names for fault in self._aggregated(name)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _aggregated(self, name: str) -> list[str]:
        if name == "*" or (not self.fields):
            return []
        if name not in self.fields:
            return [f"there is no field {name!r}{_nearest(name, list(self.fields))}"]
        if self.fields[name].type not in ("int", "float"):
            return [f"field {name!r} is of type {self.fields[name].type}, aggregates are of numbers"]
        return []


class Configuration(_Strict):
    """A configuration document: datasets by name."""

    datasets: dict[Name, DatasetConfig] = Spec(min_length=1)


def parse(text: str, source: str = "configuration") -> dict[str, Dataset]:
    """The datasets of a YAML or JSON document, at version 0. Raises ConfigError with every fault."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2013-99-99
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source} is neither YAML nor JSON{place}: {getattr(error, 'problem', error)}") from error
    if not isinstance(document, dict):
        raise ConfigError(f'{source} holds no mapping; it should begin with "datasets:"')
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        faults = _sentences(error)
        raise ConfigError(f"{source}: {'; '.join(faults)}", faults) from error
    return {name: _complete(name, config) for name, config in configuration.datasets.items()}


def parse_file(path: Path) -> dict[str, Dataset]:
    """`parse` on a file. Raises ConfigError where it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from error


def json_schema() -> str:
    """The JSON Schema of a configuration document, as published under schemas/."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Configuration.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _complete(name: str, config: DatasetConfig) -> Dataset:
    schedule = config.archive_schedule
    fields = {
        key: Field(
            type=spec.type,
            path=spec.path or key,
            missing=spec.missing,
            required=spec.required,
            min=spec.min,
            max=spec.max,
            unit=spec.unit,
            description=spec.description,
        )
        for key, spec in config.fields.items()
    }
    return Dataset(
        name=name,
        version=0,
        group_by=_names(config.group_by),
        time_field=config.time_field,
        ref_time_field=config.ref_time_field,
        unknown_fields=config.unknown_fields or ("reject" if fields else "keep"),
        buffer_ttl_hours=config.buffer_ttl_hours,
        ladder=DEFAULT_LADDER if schedule is None else _ladder_of(schedule),
        levels=tuple(_level(level, config) for level in LIVE_LEVELS if level in config.aggregations),
        fields=fields,
        max_future_seconds=int(parse_duration(config.max_future).total_seconds()) if config.max_future else DEFAULT_MAX_FUTURE,
        description=config.description,
    )


def _level(name: str, config: DatasetConfig) -> Level:
    stats: Any = config.aggregations[name]  # type: ignore[index]
    chosen = stats if isinstance(stats, dict) else dict.fromkeys(stats, "*")
    return Level(name, {stat: () if chosen[stat] == "*" else tuple(chosen[stat]) for stat in STATS if stat in chosen})


def _ladder_of(schedule: dict[str, str]) -> tuple[str, ...]:
    steps: dict[str, str] = {}
    for key, duration in schedule.items():
        source, _, target = key.partition("_to_")
        if target not in TIERS:
            raise ValueError(f"{key!r} is not a step{_nearest(target, list(TIERS))}; write buffer_to_daily, daily_to_monthly …")
        if duration != UNITS[target].duration:
            raise ValueError(f"{key}: {duration!r} should be {UNITS[target].duration}, the length of a {target} file")
        steps[source] = target
    ladder: list[str] = []
    at = "buffer"
    while at in steps:
        at = steps.pop(at)
        ladder.append(at)
    if steps:
        raise ValueError(f"the steps do not make one chain from the buffer: {', '.join(f'{a}_to_{b}' for a, b in steps.items())}")
    faults = ladder_faults(tuple(ladder))
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(ladder)


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _fits(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME


def _twice(values: list[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})


def _reserved(name: str) -> bool:
    return name in RESERVED or name.startswith("__")


def _nearest(word: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _sentences(error: ValidationError) -> tuple[str, ...]:
    """The faults of a document. Where a value may be a list or a map, only what is wrong with the form that was written."""
    faults = [
        fault for fault in error.errors() if fault["type"] not in ("dict_type", "tuple_type") or not _is_branch(fault["loc"][-1])
    ]
    return tuple(dict.fromkeys(_sentence(fault) for fault in faults))


def _is_branch(part: int | str) -> bool:
    """Whether pydantic names a branch of a union here, not a place in the document."""
    return isinstance(part, str) and part.startswith(("tuple[", "dict[", "literal[", "str", "[key]", "int", "float"))


def _sentence(fault: Any) -> str:
    """One fault of pydantic as `path: what is wrong (what would be right)`."""
    location = [str(part) for part in fault["loc"] if not _is_branch(part)]
    path = ".".join(location) or "document"
    value = fault.get("input")
    if fault["type"] == "extra_forbidden":
        model = DatasetConfig if len(location) == 3 else FieldConfig if len(location) == 5 else Configuration
        return f"{path}: there is no such setting{_nearest(location[-1], list(model.model_fields))}"
    if fault["type"] == "literal_error":
        allowed = fault["ctx"]["expected"]
        words = allowed.replace("'", "").replace(" or ", ", ").split(", ")
        return f"{path}: {value!r} should be {allowed}{_nearest(str(value), words)}"
    if fault["type"] == "missing":
        return f"{path}: it is missing"
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list) else f" (got {value!r})"
    return f"{path}: {message[:1].lower() + message[1:]}{shown}"
