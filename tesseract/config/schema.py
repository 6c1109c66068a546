"""What a user writes about datasets, read: checked, and translated into the complete form that the functions read (config.dataset).

A document is JSON or YAML: `{"datasets": {NAME: {…}}}`. Every fault of every document is reported at once, with its line, its
path, its value and what would be right; a broken dataset does not hide the faults of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from tesseract.config.checks import check
from tesseract.config.dataset import STATS, Dataset, Field, Level
from tesseract.config.faults import nearest, nearest_word, sentence, shown, told
from tesseract.config.models import DatasetConfig, FieldConfig, json_schema
from tesseract.config.tiers import DEFAULT_LADDER, LEVELS
from tesseract.config.values import DATASET_NAME, ladder_of
from tesseract.config.yaml_lines import Path, load
from tesseract.errors import ConfigError
from tesseract.utils.time_utils import parse_duration

__all__ = ["json_schema", "parse", "parse_file", "parse_files"]
Fault = tuple[Path, str]  # where in the document, and the sentence


def parse(text: str, source: str = "configuration") -> dict[str, Dataset]:
    """The datasets of a YAML or JSON document, at version 0. Raises ConfigError with every fault; `source` is its name in them."""
    return _together([(source, text)])


def parse_file(path: File) -> dict[str, Dataset]:
    """`parse` on a file. Raises ConfigError where it cannot be read."""
    return parse_files([path])


def parse_files(paths: Iterable[File]) -> dict[str, Dataset]:
    """The datasets of several files, each dataset in one of them. Raises ConfigError with every fault of all of them."""
    texts, faults = [], []
    for path in paths:
        try:
            texts.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            faults.append(f"the configuration file {path} cannot be read: {reason}")
    return _together(texts, faults)


def _together(texts: Iterable[tuple[str, str]], faults: Iterable[str] = ()) -> dict[str, Dataset]:
    found, datasets, places = list(faults), dict[str, DatasetConfig](), dict[str, str]()
    for source, text in texts:
        try:
            document = load(text, source)
        except ConfigError as error:
            found += error.faults
            continue
        configs, wrong = _document(document.data)
        wrong += document.faults
        for name, config in configs.items():
            if name in places:
                wrong.append((("datasets", name), f"it is a dataset of {places[name]} already; a dataset stands in one place"))
            places.setdefault(name, f"{source}:{document.line(('datasets', name))}")
            if config is not None:
                datasets[name] = config
        for path, fault in sorted(wrong, key=lambda one: document.line(one[0]) or 0):
            found.append(told(source, document.line(path), _written(document.data, path), fault))
    if found:
        found = list(dict.fromkeys(found))
        raise ConfigError("; ".join(found), tuple(found))
    return {name: _complete(name, config) for name, config in datasets.items()}


def _document(data: Any) -> tuple[dict[str, DatasetConfig | None], list[Fault]]:
    """The datasets of a document by name, None where one is not understood, and all that is wrong."""
    if not isinstance(data, dict):
        return {}, [((), 'it holds no mapping; it should begin with "datasets:"')]
    faults: list[Fault] = [
        ((key,), f"there is no such setting{nearest(str(key), ['datasets'])}") for key in data if key not in ("datasets", "$schema")
    ]
    body = data.get("datasets")
    if not isinstance(body, dict) or not body:
        return {}, [*faults, (("datasets",), "it should be a map of datasets by name" if "datasets" in data else "it is missing")]
    configs = {}
    for name, raw in body.items():
        if not isinstance(name, str) or not re.match(DATASET_NAME, name):
            fault = f"{shown(name)} should begin with a letter and have letters, digits, _ and -, at most 64"
            faults.append((("datasets", name), fault))
        configs[str(name)], wrong = _dataset(raw)
        faults += [(("datasets", name, *path), fault) for path, fault in wrong]
    return configs, faults


def _dataset(raw: Any) -> tuple[DatasetConfig | None, list[Fault]]:
    """One dataset and its faults. What is wrong in itself is left out, so that the rest can be checked in the same go."""
    faults: list[Fault] = []
    broken: set[Path] = set()
    while True:
        try:
            config = DatasetConfig.model_validate(_without(raw, broken))
        except ValidationError as error:
            found = error.errors()
            new = {_stop(raw, fault["loc"]) for fault in found} - broken
            if not broken:  # later rounds find what leaving out has made
                faults = [_fault(fault) for fault in found]
                new |= {(meant,) for meant in map(_meant, found) if meant and meant not in raw}
            if () in new or not new:
                return None, faults
            broken |= new
            continue
        return config, faults + list(check(config, broken))


def _fault(fault: Any) -> Fault:
    path = tuple(part for part in fault["loc"] if part != "[key]")
    inside = path[0] == "fields" if path else False
    return path, sentence(fault, (FieldConfig if inside else DatasetConfig).model_fields)


def _meant(fault: Any) -> str | None:
    """The setting of the dataset that a misspelt one stands for."""
    unknown = fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
    return nearest_word(str(fault["loc"][0]), DatasetConfig.model_fields) if unknown else None


def _stop(raw: Any, path: Path) -> Path:
    """As far as `path` leads through maps: what is left out where something is wrong there."""
    at: list[str | int] = []
    for part in path:
        if not isinstance(raw, dict) or part not in raw:
            break
        at.append(part)
        raw = raw[part]
    return tuple(at)


def _without(raw: Any, paths: set[Path]) -> Any:
    if not paths or not isinstance(raw, dict):
        return raw
    below = {key: {path[1:] for path in paths if path and path[0] == key} for key in raw}
    return {key: _without(value, below[key]) for key, value in raw.items() if () not in below[key]}


def _written(data: Any, path: Path) -> Path:
    """A path as the document has it: a list's item that has no number there, and what a short form leaves out, are not named."""
    at: list[str | int] = []
    for part in path:
        if isinstance(data, dict):
            at.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            at.append(part)
            data = data[part] if part < len(data) else None
        elif isinstance(data, str) and part in FieldConfig.model_fields:
            at.append(part)
            break
        else:
            break
    return tuple(at)


# the complete form ------------------------------------------------------------------------------------------------------


def _complete(name: str, config: DatasetConfig) -> Dataset:
    schedule = config.archive_schedule
    # the keys of a dataset that begins now; for one that there is, `renames` finds those that it has
    keys = {field: spec.renamed_from or field for field, spec in config.fields.items()}
    return Dataset(
        name=name,
        version=0,
        group_by=config.group_by,
        time_field=config.time_field,
        ref_time_field=config.ref_time_field,
        unknown_fields=config.unknown_fields or ("reject" if config.fields else "keep"),
        buffer_ttl_hours=config.buffer_ttl_hours,
        ladder=DEFAULT_LADDER if schedule is None else ladder_of(schedule),
        levels=tuple(_level(level, config.aggregations[level], keys) for level in LEVELS if level in config.aggregations),
        fields={keys[name]: _field(name, spec) for name, spec in config.fields.items()},
        max_future_seconds=int(parse_duration(config.max_future).total_seconds()),
        description=config.description,
        revisions=config.revisions,
        time_format=config.time_format,
        time_zone=config.time_zone,
        on_invalid=config.on_invalid,
        records_path=config.records_path,
        retention=config.retention,
        history=config.history,
        partitions=int(re.sub(r"\D", "", config.partitioning) or 0),
        tags=config.tags,
    )


def _field(name: str, spec: FieldConfig) -> Field:
    def whole(value: Any) -> Any:
        """An integral bound or choice of an int as an int: 1e3 is 1000."""
        return int(Decimal(repr(value))) if spec.type == "int" and isinstance(value, float) else value

    return Field(
        type=spec.type,
        path=spec.path or name,
        missing=spec.missing,
        required=spec.required,
        min=whole(spec.min),
        max=whole(spec.max),
        unit=spec.unit,
        description=spec.description,
        scale=spec.scale or 0,
        max_length=spec.max_length,
        enum=tuple(whole(value) for value in spec.enum),
        format=spec.format or "iso8601",
        name=name if spec.renamed_from else "",
    )


def _level(name: str, stats: Mapping[Any, tuple[str, ...]], keys: Mapping[str, str]) -> Level:
    return Level(name, {stat: tuple(keys.get(field, field) for field in stats[stat]) for stat in STATS if stat in stats})
