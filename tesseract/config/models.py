"""What a user may write, setting by setting: the shape of each, its default, its description and an example.

The published JSON Schema and the reference pages are made from these models. What settings demand of each other is in `checks`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict
from pydantic import Field as Spec
from pydantic.json_schema import GenerateJsonSchema

from tesseract.config import values as v
from tesseract.config.dataset import DEFAULT_HISTORY, FieldType, Revisions, TimeFormat
from tesseract.config.document import DEFAULT_TTL_HOURS
from tesseract.config.tiers import TIERS

Stat = Literal["count", "sum", "avg", "std", "min", "max", "first", "last"]
LevelName = Literal["1min", "15min", "hourly", "daily", "weekly", "monthly"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldConfig(_Settings):
    """One value of a record. `temp: float` is short for `temp: {type: float}`."""

    type: FieldType = Spec(
        description="int has 64 bits, or as many as min and max ask for, up to 38 digits; float is the nearest double; decimal is "
        "exact, with 38 digits, scale of them after the point; timestamp is a moment in UTC, to the microsecond",
        examples=["float"],
    )
    renamed_from: v.Text | None = Spec(
        None,
        description="a former name of the field: what is stored under it is shown under the new one, and records may carry either",
        examples=["temp"],
    )
    scale: Annotated[int, Strict(), Spec(ge=0, le=37)] | None = Spec(
        None, description="the digits after the point of a decimal, which needs it; a value with more is rejected", examples=[2]
    )
    path: v.PathText | None = Spec(
        None,
        description="where the value lies in the record: dotted, or a subset of JSONPath; default: the field's name",
        examples=["wind.speed", "$['a.b'].c", "$.values[0]"],
    )
    unit: v.Text = Spec("", description="for people, and metadata of result columns", examples=["m/s", "°C"])
    min: v.Number | None = Spec(None, description="numbers only: a smaller value is invalid", examples=[-40])
    max: v.Number | None = Spec(None, description="numbers only: a greater value is invalid", examples=[60.5])
    max_length: Annotated[int, Strict(), Spec(ge=1)] | None = Spec(
        None, description="text only: a value with more characters is invalid", examples=[80]
    )
    enum: v.Choices = Spec(
        (),
        description="numbers and text: the only values there are, besides null",
        examples=[["ok", "warning", "failed"], [0, 1, 2]],
    )
    required: bool = Spec(False, description="a record without it, or with null in it, is rejected", examples=[True])
    missing: tuple[v.Scalar, ...] = Spec(
        (), description="sentinels that mean null, as text or numbers", examples=[["NA"], [-9999.9, -999]]
    )
    format: TimeFormat | None = Spec(
        None, description="how a timestamp is written: ISO 8601 (the default), or a number since 1970", examples=["epoch_ms"]
    )
    description: v.Text = Spec("", description="for people", examples=["two metres above ground"])


def _members(names: tuple[str, ...], member: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a map with the keys `names`, as editors complete them."""
    return {"type": "object", "properties": dict.fromkeys(names, member), "additionalProperties": False}


_LEVELS, _STATS = get_args(LevelName), get_args(Stat)
_DEFINITIONS = {
    "Statistics": {"anyOf": [{"type": "array", "items": {"enum": list(_STATS)}}, _members(_STATS, v.FIELD_NAMES)]},
    "Retention": {"anyOf": [v.SPAN, _members(TIERS, v.SPAN)]},
}
Field = Annotated[FieldConfig, BeforeValidator(v.only_type)]
Statistics = Annotated[dict[Stat, v.FieldNames], BeforeValidator(v.as_map)]
Retention = Annotated[dict[v.Text, v.Kept], BeforeValidator(v.every_tier)]


class DatasetConfig(_Settings):
    """One dataset. `{}` is one too: grouped by sensorId, time in validTime, fields as they come."""

    description: v.Text = Spec("", description="for people", examples=["Hourly weather of three airports"])
    group_by: v.Paths = Spec(
        ("sensorId",),
        description="what a series belongs to: one value of the record or several, each text or a whole number, kept as text",
        examples=["station", ["network", "$.station.id"]],
    )
    time_field: v.PathText = Spec(
        "validTime", description="where the valid time lies: when the values hold", examples=["time", "meta.at"]
    )
    ref_time_field: v.PathText = Spec(
        "refTime",
        description="where the ref time lies: when it was recorded or issued; it may be absent from records",
        examples=["issued_at"],
    )
    time_format: TimeFormat = Spec(
        "iso8601",
        description="how the valid time and the ref time are written: ISO 8601, or a number of seconds, ms, µs or ns since 1970",
        examples=["epoch_ms"],
    )
    time_zone: v.TimeZone = Spec(
        "",
        description="the zone of ISO 8601 times that carry none; without it such a time is invalid",
        examples=["Europe/Berlin", "UTC"],
    )
    records_path: v.EnvelopePath = Spec(
        "",
        description="where the records of an envelope lie, as a list; without it the object itself is the record",
        examples=["readings"],
    )
    max_future: v.Future = Spec(
        "PT1H",
        description="how far ahead of the clock a valid time may lie: a duration of weeks, days, hours, minutes, seconds",
        examples=["PT5M", "P10D"],
    )
    unknown_fields: Literal["keep", "drop", "reject"] | None = Spec(
        None,
        description="what happens to values that no field declares: they are kept as they come, dropped, or the record is "
        "rejected; default: reject, or keep where no fields are declared",
        examples=["drop"],
    )
    on_invalid: v.OnInvalid = Spec(
        "reject",
        description='what happens to a record with an invalid value in a field: it is rejected, or ("null") stored with null there',
        examples=["null"],
    )
    revisions: Revisions = Spec(
        "last_write",
        description="which of two records of one group and time wins: the later put, or (latest_ref) the one with the newer ref "
        "time, whatever the order of arrival; all is latest_ref, and keeps every revision besides, at twice the price of writing",
        examples=["latest_ref"],
    )
    buffer_ttl_hours: Annotated[int, Strict(), Spec(ge=1, le=24 * 365 * 10)] = Spec(
        DEFAULT_TTL_HOURS, description="how long a record stays in the buffer after its valid time, at least", examples=[168]
    )
    archive_schedule: v.Schedule | None = Spec(
        None,
        description="the ladder of tiers: steps from one to the next, with the length of its files; default: day, month, year",
        examples=[{"buffer_to_daily": "P1D", "daily_to_monthly": "P1M"}],
    )
    partitioning: v.Partitioning = Spec(
        "group",
        description="what shares a manifest and files: every group has its own, or groups share N of them by hash; "
        "hash is for more than some 2,000 groups",
        examples=["hash(64)"],
    )
    history: v.History = Spec(
        DEFAULT_HISTORY,
        description="how long former states of the archive stay readable, by `query --as-of`: a duration, at least P1D",
        examples=["P30D"],
    )
    retention: dict[v.Text, Retention] = Spec(
        default_factory=dict,
        description="how long archived data are kept: per level (raw, or an aggregate level) a duration, or a map tier → duration; "
        "of years, months, weeks, days. Whole files go, two weeks later; records older than raw's are rejected; default: for ever",
        examples=[{"raw": "P5Y", "hourly": {"daily": "P90D", "yearly": "P20Y"}}],
    )
    tags: v.Tags = Spec(
        default_factory=dict, description="for people and for bills, as AWS takes them", examples=[{"team": "energy"}]
    )
    aggregations: dict[LevelName, Statistics] = Spec(
        default_factory=dict,
        description='per level a list of statistics, or a map statistic → fields ("*" for all numbers)',
        examples=[{"hourly": ["avg", "min", "max"], "daily": {"count": "*", "avg": ["temp"]}}],
    )
    fields: dict[v.Text, Field] = Spec(
        default_factory=dict,
        description="declared values by name, in the order of result columns; none: scalars are taken as they come",
        examples=[{"temp": "float", "price": {"type": "decimal", "scale": 2}}],
    )


class Configuration(_Settings):
    """A configuration document of Tesseract: datasets by name."""

    json_schema: Any = Spec(None, alias="$schema", description="where an editor finds this schema; not looked at")
    datasets: dict[Annotated[str, Spec(pattern=v.DATASET_NAME)], DatasetConfig] = Spec(
        min_length=1, description="datasets by name: a letter, then letters, digits, _ and -, at most 64 characters"
    )


class _Plain(GenerateJsonSchema):
    """In the order of the models, without titles, which would only repeat the keys, and without null, which is the default."""

    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        """The schema in order."""
        return value

    def nullable_schema(self, schema: Any) -> Any:
        """The schema of a value or null."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Whether a key gets a title."""
        return False


def json_schema() -> str:
    """The JSON Schema of a configuration document, as published under schemas/."""
    schema = Configuration.model_json_schema(schema_generator=_Plain)
    definitions = schema["$defs"]
    for spec in (spec for part in definitions.values() for spec in part["properties"].values()):
        if spec.get("default", 0) is None:
            del spec["default"]  # its description says what the default is
    definitions |= _DEFINITIONS
    keys = definitions["DatasetConfig"]["properties"]
    keys["group_by"]["default"] = "sensorId"
    keys["aggregations"] |= _members(_LEVELS, {"$ref": "#/$defs/Statistics"})
    keys["retention"] |= _members(("raw", *_LEVELS), {"$ref": "#/$defs/Retention"})
    del keys["aggregations"]["propertyNames"]
    short = [kind for kind in get_args(FieldType) if kind != "decimal"]  # that one needs its scale
    keys["fields"]["additionalProperties"] = {"anyOf": [{"enum": short}, {"$ref": "#/$defs/FieldConfig"}]}
    schema["properties"]["$schema"] = {"type": "string", "description": "where an editor finds this schema; not looked at"}
    schema["properties"]["datasets"]["additionalProperties"] = False
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2, ensure_ascii=False) + "\n"
