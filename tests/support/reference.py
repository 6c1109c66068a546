"""A page per key of a configuration, made from the models. `python -m tests.support.reference` writes docs/configuration/.

A page's mistakes are answered by the parser itself, when the page is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tesseract.config.changes import COMPATIBLE_SETTINGS, FIELD_SETTINGS, REFUSED_SETTINGS, SHOWN_AS
from tesseract.config.document import to_yaml
from tesseract.config.schema import json_schema, parse
from tesseract.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "docs" / "configuration"
GUIDE = "../configuration.md"
DEFINITIONS = json.loads(json_schema())["$defs"]
# settings of a dataset, as people get them wrong
MISTAKES = {
    "description": ["description: 2013"],
    "group_by": ["grup_by: origin", "group_by: []", "group_by: [a, $.a]", "group_by: $.*", "{group_by: g, fields: {g: int}}"],
    "time_field": ["time_field: a..b", "{time_field: at, fields: {at: timestamp}}"],
    "ref_time_field": ["ref_time_field: validTime"],
    "time_format": ["time_format: unix"],
    "time_zone": ["time_zone: Europe/Berlim", "{time_zone: UTC, time_format: epoch_s}"],
    "records_path": ["records_path: $.*"],
    "max_future": ["max_future: 1 hour", "max_future: P1M", "max_future: P40000D"],
    "unknown_fields": ["unknown_fields: ignore"],
    "on_invalid": ["on_invalid: drop", "on_invalid:"],
    "revisions": ["revisions: latest"],
    "buffer_ttl_hours": ["buffer_ttl_hours: 0", "buffer_ttl_hours: P7D"],
    "archive_schedule": [
        "archive_schedule: {buffer_to_dayly: P1D}", "archive_schedule: {buffer_to_daily: P2D}",
        "archive_schedule: {buffer_to_daily: P1D, monthly_to_yearly: P1Y}",
        "archive_schedule: {buffer_to_monthly: P1M, monthly_to_daily: P1D}",
    ],
    "partitioning": ["partitioning: hash(5000)"],
    "history": ["history: PT1H"],
    "retention": ["retention: {raw: 5 years}", "retention: {hourly: P1Y}", "retention: {raw: {weekly: P1Y}}",
                  "retention: {raw: {monthly: P90D}}"],
    "tags": ["tags: {cost-centre: 4711}", "tags: {aws:team: x}"],
    "aggregations": [
        "aggregations: {hourly: [median]}", "aggregations: {yearly: [avg]}", "aggregations: {hourly: {avg: []}}",
        "{aggregations: {daily: {avg: [tmp]}}, fields: {temp: float}}",
        "{aggregations: {daily: {avg: [name]}}, fields: {name: string}}",
    ],
    "fields": ["fields: {rows: int}", "fields: {a: int, b: {type: int, path: a}}", "fields: [temp]"],
    # settings of a field
    "type": ["temp: flaot", "price: decimal", "temp: {path: a.b}"],
    "renamed_from": ["t: {type: float, renamed_from: t}", "t: {type: float, renamed_from: rows}"],
    "scale": ["price: {type: decimal, scale: 40}", "price: {type: float, scale: 2}"],
    "path": ["temp: {type: float, path: a..b}", "temp: {type: float, path: '$..b'}"],
    "unit": ["temp: {type: float, units: K}"],
    "min": ["name: {type: string, min: 1}", "n: {type: int, min: 0.5}", "n: {type: int, min: 5, max: 1}"],
    "max": ["temp: {type: float, max: hot}", "n: {type: int, max: 1000000000000000000000000000000000000000}"],
    "max_length": ["name: {type: string, max_length: 0}", "n: {type: int, max_length: 5}"],
    "enum": [
        "state: {type: string, enum: [1, 2]}",
        "state: {type: string, enum: [ok, NA], missing: [NA]}", "ok: {type: bool, enum: [yes]}",
    ],
    "required": ["temp: {type: float, required: sometimes}"],
    "missing": ["temp: {type: float, missing: [false]}", "temp: {type: float, missing: NA}"],
    "format": ["at: {type: timestamp, format: epoch}", "at: {type: int, format: epoch_s}"],
}  # fmt: skip
CHANGES = {
    "unknown_fields": "compatible; needs backfill where values that are stored, and were hidden, count in a level again",
    "revisions": "compatible between `latest_ref` and `all`; refused between these and `last_write`",
    "aggregations": "a level that is added, or shows what its stored periods lack, needs backfill; the rest is compatible",
    "fields": "a field may come, go, change its place and [its name](fields.renamed_from.md); "
    "needs backfill where a level shows values of it that are stored already",
    "type": "compatible where every stored value is one of the new type: int to float or decimal; else refused",
    "renamed_from": "compatible, and may stay in the file or go; refused with a name of another field",
    "scale": "compatible upwards; refused downwards",
}


def pages() -> dict[str, str]:
    """The pages by file name."""
    dataset, field = (DEFINITIONS[name]["properties"] for name in ("DatasetConfig", "FieldConfig"))
    found = {f"{key}.md": _page(key, spec, "") for key, spec in dataset.items()}
    found |= {f"fields.{key}.md": _page(key, spec, "fields.NAME.") for key, spec in field.items()}
    found["README.md"] = "\n".join(_index(dataset, field)) + "\n"
    return found


def _index(dataset: dict[str, Any], field: dict[str, Any]) -> Iterator[str]:
    yield "# The keys of a configuration\n"
    yield f"A page per key, made from the model that checks them. The [guide]({GUIDE}) puts them together.\n"
    for title, prefix, keys in (("Of a dataset", "", dataset), ("Of a field", "fields.", field)):
        yield f"## {title}\n\n| key | default | meaning |\n| --- | --- | --- |"
        for key, spec in keys.items():
            meaning, default = _meaning(spec)
            yield f"| [`{key}`]({prefix}{key}.md) | {default} | {meaning} |"
        yield ""


def _page(key: str, spec: dict[str, Any], prefix: str) -> str:
    meaning, default = _meaning(spec)
    if (key, prefix != "") == ("type", True):
        default = "none, it is needed"
    facts = f"- value: {_kind(spec)}\n- default: {default}\n- changed later: {_change(key, bool(prefix))}"
    examples = [to_yaml({key: example}).strip("{}\n") + "\n" for example in spec["examples"]]
    found = [
        f"# `{prefix}{key}`",
        f"{meaning[:1].upper()}{meaning[1:]}.",
        facts,
        "```yaml\n" + "# or\n".join(examples) + "```",
    ]
    mistakes = [] if prefix and key == "description" else MISTAKES.get(key)
    if mistakes:
        rows = [f"| `{text[1:-1] if text.startswith('{') else text}` | {_answer(text, bool(prefix))} |" for text in mistakes]
        found.append("\n".join(["| mistake | answer |", "| --- | --- |", *rows]))
    found.append(f"[All keys](README.md) · [guide]({GUIDE})")
    return "\n\n".join(found) + "\n"


def _answer(text: str, of_field: bool) -> str:
    """What the parser says of a mistake, without the line."""
    body = f"fields: {{ {text} }}" if of_field else text
    try:
        parse(f"datasets:\n  d: {body}\n" if body.startswith("{") else f"datasets:\n  d:\n    {body}\n", "")
    except ConfigError as error:
        return "<br>".join(f"`{fault.partition(': ')[2]}`" for fault in error.faults)
    raise AssertionError(f"{text} is no mistake")


def _meaning(spec: dict[str, Any]) -> tuple[str, str]:
    """What a key means, and its default, which the description says where it is no constant."""
    meaning, _, default = spec["description"].partition("; default: ")
    value = spec.get("default")
    return meaning, default or ("none" if value in (None, "", [], {}) else f"`{json.dumps(value).strip(chr(34))}`")


def _change(key: str, of_field: bool) -> str:
    if key in CHANGES:
        return CHANGES[key]
    if of_field:
        return f"compatible: {FIELD_SETTINGS[key]}"
    runtime = next((name for name, shown in SHOWN_AS.items() if shown.partition(" ")[0] == key), key)
    if runtime in REFUSED_SETTINGS:
        return f"refused: {REFUSED_SETTINGS[runtime]}"
    return f"compatible: {COMPATIBLE_SETTINGS[runtime]}"


def _kind(spec: dict[str, Any]) -> str:
    """What a JSON Schema allows, in words."""
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"] if value is not None)
    if "const" in spec:
        return f"`{spec['const']}`"
    if "anyOf" in spec:
        return "; or ".join(_kind(part) for part in spec["anyOf"])
    if "$ref" in spec:
        name = spec["$ref"].rpartition("/")[2]
        return "a map of [its settings](README.md#of-a-field)" if name == "FieldConfig" else _kind(DEFINITIONS[name])
    kind = spec["type"]
    if isinstance(kind, list):
        return " or ".join(_kind({"type": one}) for one in kind)
    if kind == "array":
        return f"a list of {_kind(spec['items'])}"
    if kind == "object":
        return _map(spec.get("properties", {}), spec.get("additionalProperties"))
    bounds = f" from {spec['minimum']}" if "minimum" in spec else ""
    bounds += f" to {spec['maximum']}" if "maximum" in spec else ""
    if kind == "string" and "pattern" in spec:
        return "a duration" if spec["pattern"].startswith("^P") else "`group` or `hash(N)`"
    return {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "`true` or `false`"}[kind] + bounds


def _map(members: dict[str, Any], rest: Any) -> str:
    if not members:
        return f"a map from name to {_kind(rest)}"
    if all("const" in member for member in members.values()):
        return "a map of " + ", ".join(f"`{name}: {member['const']}`" for name, member in members.items())
    return f"a map from {', '.join(f'`{name}`' for name in members)} to {_kind(next(iter(members.values())))}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
