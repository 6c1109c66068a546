"""The kinds of values that settings have: what each may be, and the sentence that says so. Nothing here knows a second setting."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainValidator, Strict, WithJsonSchema

from tesseract.config.document import duration_text
from tesseract.config.faults import nearest
from tesseract.config.paths import parse_path, written
from tesseract.config.tiers import TIERS, UNITS, ladder_faults
from tesseract.utils.time_utils import parse_duration

LONGEST = timedelta(days=36525)
DIGITS = 38
DATASET_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
MAX_PARTITIONS = 1024
_KEPT = re.compile(r"^P(?=\d)(\d{1,5}Y)?(\d{1,5}M)?(\d{1,5}W)?(\d{1,5}D)?$")
_HASH = re.compile(r"^hash\(([1-9]\d{0,3})\)$")
_TAG = re.compile(r"^[\w\s.:/=+\-@]*$")


# single values ----------------------------------------------------------------------------------------------------------


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it should be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it should be a finite number")
    if isinstance(value, int) and abs(value) >= 10**DIGITS:
        raise ValueError(f"a number has at most {DIGITS} digits")
    return value


def _scalar(value: Any) -> str | int | float:
    if isinstance(value, bool):
        raise ValueError("it should be text or a number; where the word is meant, quote it")
    return value if isinstance(value, str) else _number(value)


def _envelope(value: str) -> str:
    return _path(value.removesuffix("[*]")) if value else ""


def _path(value: str) -> str:
    """A path in its shortest form: what needs no JSONPath is dotted."""
    if value.startswith("$") and ".*" in value:  # a name to the grammar of paths, but everybody means all members
        raise ValueError(f"{value!r} names many values: a path names one, such as $.wind['a.b'][0]")
    short = written(parse_path(value))
    return value if short.startswith("$") else short


def _span(least: timedelta, example: str) -> Callable[[str], str]:
    """A validator of durations from `least` to `LONGEST`, which writes them in one form."""

    def check(value: str) -> str:
        try:
            span = parse_duration(value)
        except ValueError:
            raise ValueError(
                f"it should be an ISO 8601 duration of weeks, days, hours, minutes, seconds, such as {example}"
            ) from None
        except OverflowError:
            span = timedelta.max
        if not least <= span <= LONGEST:
            raise ValueError(
                f"it should be from {duration_text(int(least.total_seconds()))} to {duration_text(LONGEST.days * 86400)}"
            )
        return duration_text(int(span.total_seconds()))

    return check


def _kept(value: str) -> str:
    if not _KEPT.match(value) or not re.search(r"[1-9]", value):
        raise ValueError("it should be an ISO 8601 duration of years, months, weeks, days, such as P90D or P5Y")
    return value


@cache
def time_zones() -> frozenset[str]:
    """The names of the IANA time zone database."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(value: str) -> str:
    if value and value not in time_zones():
        raise ValueError("it should be a name of the IANA time zone database, such as Europe/Berlin" + nearest(value, time_zones()))
    return value


def _partitions(value: str) -> str:
    match = _HASH.match(value)
    if value != "group" and not (match and int(match[1]) <= MAX_PARTITIONS):
        raise ValueError(f"it should be group, or hash(N) with N from 1 to {MAX_PARTITIONS}, such as hash(64)")
    return value


def _tags(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        if not (0 < len(key) <= 128 and len(text) <= 256 and _TAG.match(key + text)):
            raise ValueError(
                f"{key[:40]!r}: a tag has 1 to 128 characters, its value at most 256: letters, digits, spaces and _.:/=+-@"
            )
        if key.lower().startswith("aws:"):
            raise ValueError(f"{key[:40]!r}: tags that begin with aws: belong to AWS")
    if len(value) > 50:
        raise ValueError(f"there are {len(value)} tags; AWS takes 50")
    return value


# one value or several ---------------------------------------------------------------------------------------------------


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("it should name at least one")
    return value


def _all_or_some(value: Any) -> Any:
    """`"*"` is kept as no names: a level with no names of a statistic has it of every number."""
    if value == "*":
        return []
    if not isinstance(value, list) or not value:
        raise ValueError('it should be a list of fields, or "*" for all numbers')
    return value


def as_map(value: Any) -> Any:
    """`[avg, max]` is short for `{avg: "*", max: "*"}`."""
    if isinstance(value, list) and all(isinstance(stat, str) for stat in value):
        return dict.fromkeys(value, "*")
    return value


def every_tier(value: Any) -> Any:
    """`raw: P5Y` is short for the same in every tier."""
    return {"*": value} if isinstance(value, str) else value


def only_type(value: Any) -> Any:
    """`temp: float` is short for `temp: {type: float}`."""
    return {"type": value} if isinstance(value, str) else value


def _word_for_null(value: Any) -> Any:
    return "null" if value is None else value


def ladder_of(schedule: dict[str, str]) -> tuple[str, ...]:
    """The tiers of an `archive_schedule`, finest first. Raises ValueError."""
    steps: dict[str, str] = {}
    for key, duration in schedule.items():
        source, _, target = key.partition("_to_")
        if target not in TIERS:
            raise ValueError(f"{key!r} is no step{nearest(target, TIERS)}; write buffer_to_daily, daily_to_monthly …")
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


def _ladder(schedule: dict[str, str]) -> dict[str, str]:
    ladder_of(schedule)
    return schedule


# the types --------------------------------------------------------------------------------------------------------------

_STEPS = {
    f"{below}_to_{tier}": {"const": UNITS[tier].duration}
    for below in ("buffer", *TIERS)
    for tier in TIERS
    if below == "buffer" or UNITS[below].rank < UNITS[tier].rank
}
_NAMES: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
FIELD_NAMES: dict[str, Any] = {"anyOf": [{"const": "*"}, _NAMES]}
SPAN: dict[str, Any] = {"type": "string", "pattern": "^P[0-9TYMWDHS]+$"}

Text = Annotated[str, Strict()]
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Scalar = Annotated[str | int | float, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number"]})]
PathText = Annotated[Text, AfterValidator(_path)]
EnvelopePath = Annotated[Text, AfterValidator(_envelope)]
Paths = Annotated[
    tuple[PathText, ...], AfterValidator(_some), BeforeValidator(_several), WithJsonSchema({"anyOf": [{"type": "string"}, _NAMES]})
]
FieldNames = Annotated[tuple[Text, ...], BeforeValidator(_all_or_some), WithJsonSchema(FIELD_NAMES)]
Choices = Annotated[tuple[Scalar, ...], AfterValidator(_some)]
OnInvalid = Annotated[
    Literal["reject", "null"], BeforeValidator(_word_for_null), WithJsonSchema({"enum": ["reject", "null", None]})
]
Future = Annotated[Text, AfterValidator(_span(timedelta(0), "PT1H or P1D")), WithJsonSchema(SPAN)]
History = Annotated[Text, AfterValidator(_span(timedelta(days=1), "P7D")), WithJsonSchema(SPAN)]
Kept = Annotated[Text, AfterValidator(_kept), WithJsonSchema(SPAN)]
TimeZone = Annotated[Text, AfterValidator(_zone)]
Partitioning = Annotated[
    Text, AfterValidator(_partitions), WithJsonSchema({"type": "string", "pattern": r"^(group|hash\([1-9][0-9]{0,3}\))$"})
]
Tags = Annotated[dict[Text, Text], AfterValidator(_tags)]
Schedule = Annotated[
    dict[Text, Text],
    AfterValidator(_ladder),
    WithJsonSchema({"type": "object", "properties": _STEPS, "additionalProperties": False, "minProperties": 1}),
]
