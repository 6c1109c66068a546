"""A stored dataset in the form that a user writes: defaults left out, settings in one order. The way back is `schema.parse`."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tesseract.config.dataset import DEFAULT_HISTORY, DEFAULT_MAX_FUTURE, STATS, Dataset, Field, Level
from tesseract.config.tiers import DEFAULT_LADDER, UNITS

DEFAULT_TTL_HOURS = 168
INLINE = 110  # characters of a list or map that stays on one line


def document_of(dataset: Dataset) -> dict[str, Any]:
    """The document `{"datasets": {NAME: {…}}}` that means `dataset`. What applying adds (version, live_from …) is not in it."""
    return {"datasets": {dataset.name: _settings(dataset)}}


def to_yaml(document: dict[str, Any]) -> str:
    """A document as YAML: short lists and maps on one line, keys in the order of the document."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


def duration_text(seconds: int) -> str:
    """An ISO 8601 duration in its shortest common form: `P1D`, `PT1H30M`, `PT0S`."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    clock = "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if count)
    return "P" + (f"{days}D" if days else "") + (f"T{clock}" if clock else "") if days or clock else "PT0S"


def _settings(dataset: Dataset) -> dict[str, Any]:
    group = dataset.group_by
    unknown = "reject" if dataset.fields else "keep"
    written = {
        "description": (dataset.description, ""),
        "group_by": (group[0] if len(group) == 1 else list(group), "sensorId"),
        "time_field": (dataset.time_field, "validTime"),
        "ref_time_field": (dataset.ref_time_field, "refTime"),
        "time_format": (dataset.time_format, "iso8601"),
        "time_zone": (dataset.time_zone, ""),
        "records_path": (dataset.records_path, ""),
        "max_future": (duration_text(dataset.max_future_seconds), duration_text(DEFAULT_MAX_FUTURE)),
        "unknown_fields": (dataset.unknown_fields, unknown),
        "on_invalid": (dataset.on_invalid, "reject"),
        "revisions": (dataset.revisions, "last_write"),
        "buffer_ttl_hours": (dataset.buffer_ttl_hours, DEFAULT_TTL_HOURS),
        "archive_schedule": (_schedule(dataset.ladder), _schedule(DEFAULT_LADDER)),
        "partitioning": (f"hash({dataset.partitions})" if dataset.partitions else "group", "group"),
        "history": (dataset.history, DEFAULT_HISTORY),
        "retention": ({level: _retention(tiers) for level, tiers in sorted(dataset.retention.items())}, {}),
        "tags": (dict(sorted(dataset.tags.items())), {}),
        "aggregations": ({level.name: _statistics(dataset, level) for level in dataset.levels}, {}),
        "fields": ({dataset.label(key): _field(key, field) for key, field in dataset.fields.items()}, {}),
    }
    return {setting: value for setting, (value, default) in written.items() if value != default}


def _schedule(ladder: tuple[str, ...]) -> dict[str, str]:
    return {f"{below}_to_{tier}": UNITS[tier].duration for below, tier in zip(("buffer", *ladder), ladder, strict=False)}


def _retention(tiers: dict[str, str]) -> str | dict[str, str]:
    return tiers["*"] if set(tiers) == {"*"} else dict(sorted(tiers.items(), key=lambda item: UNITS[item[0]].rank))


def _statistics(dataset: Dataset, level: Level) -> list[str] | dict[str, str | list[str]]:
    chosen = {stat: level.stats[stat] for stat in STATS if stat in level.stats}
    if not any(chosen.values()):
        return list(chosen)
    return {stat: [dataset.label(key) for key in keys] or "*" for stat, keys in chosen.items()}


def _field(key: str, field: Field) -> str | dict[str, Any]:
    name = field.name or key
    written: dict[str, tuple[Any, Any]] = {
        "type": (field.type, None),
        "renamed_from": (key, name),
        "scale": (field.scale if field.type == "decimal" else None, None),
        "path": (field.path, name),
        "unit": (field.unit, ""),
        "min": (field.min, None),
        "max": (field.max, None),
        "max_length": (field.max_length, None),
        "enum": (list(field.enum), []),
        "required": (field.required, False),
        "missing": (list(field.missing), []),
        "format": (field.format, "iso8601"),
        "description": (field.description, ""),
    }
    settings = {setting: value for setting, (value, default) in written.items() if value != default}
    return field.type if set(settings) == {"type"} else settings


class _Dumper(yaml.SafeDumper):
    """Short collections in one line, as people write them; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether a value that occurs twice is written twice."""
        return True


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


def _map(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    short = "type" in value and not any(isinstance(part, dict) for part in value.values()) and len(repr(value)) <= INLINE
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=short or not value)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(dict, _map)
# text that is a number to YAML 1.2 alone is quoted too
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^(0o[0-7]+|[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?)$"), list("-+.0123456789")
)
