"""Bytes to items ready for BatchWriteItem, against the same with pydantic and boto3's TypeSerializer.

Ready is the JSON that the call carries, `{"pk": {"S": …}, …}`; the peer stops a step before, at the same as a dict. The peer has
a pydantic model per dataset with the same types and bounds, validates each line as JSON, and serializes the item. Sentinels are
taken out after validation, which costs it less than a validator in Python would; of its two ways to a Decimal, by pydantic or by
`repr`, the faster one counts.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Union

import msgspec
from boto3.dynamodb.types import TypeSerializer
from pydantic import ConfigDict, Field, TypeAdapter, create_model

from benchmarks import samples
from benchmarks.figures import Figure, medians
from tesseract.config.dataset import Dataset
from tesseract.ingestion.validators import Validator
from tesseract.storage.codec import item_to_json
from tesseract.storage.items import raw_item

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 7
RECORDS = 1440  # of each data set: all of surfrad
Work = Callable[[], Any]


def run() -> Iterator[Figure]:
    """Both example data sets, and one whose values never come twice."""
    for name, (dataset, lines) in samples.both().items():
        lines = lines[:RECORDS]
        yield _ratio(f"items of {name}", dataset, lines, bar=3)
        yield from _stages(name, dataset, lines)
    yield _ratio(f"items of {name}, no value twice", dataset, list(_varied(lines)), bar=None)
    yield _undeclared(name, dataset, lines)


def _ratio(name: str, dataset: Dataset, lines: list[bytes], bar: float | None) -> Figure:
    ours, *theirs = medians(
        ROUNDS, *map(_timed, (_ours(dataset, lines), _peer(dataset, lines, float), _peer(dataset, lines, Decimal)))
    )
    rates = f"ours {len(lines) / ours:,.0f} records/s; pydantic and TypeSerializer {len(lines) / min(theirs):,.0f}/s"
    return Figure(name, min(theirs) / ours, "×", rates, bar=bar, more_is_better=True)


def _ours(dataset: Dataset, lines: list[bytes]) -> Work:
    """Every time with a validator that remembers nothing yet."""
    fresh = [Validator(dataset) for _ in range(2 * (ROUNDS + 1))]

    def work() -> list[Any]:
        decoded = fresh.pop().decode(lines, NOW)
        assert not decoded.rejected, decoded.rejected[0]
        return [item_to_json(raw_item(dataset, record, NOW)) for _, record in decoded.records]

    return work


def _stages(name: str, dataset: Dataset, lines: list[bytes]) -> Iterator[Figure]:
    """The share of each stage, and the whole against decoding the same bytes without a type."""
    validator = Validator(dataset)
    assert validator._fast is not None
    decode = validator._fast._decode
    records = [record for _, record in validator.decode(lines, NOW).records]
    items = [raw_item(dataset, record, NOW) for record in records]
    bare, decoding, validation, making, encoding, all_of_it = medians(
        ROUNDS,
        _timed(lambda: [msgspec.json.decode(line) for line in lines]),
        _timed(lambda: [decode(line) for line in lines]),
        _timed(lambda: validator.decode(lines, NOW)),
        _timed(lambda: [raw_item(dataset, record, NOW) for record in records]),
        _timed(lambda: [item_to_json(item) for item in items]),
        _timed(_ours(dataset, lines)),
    )
    yield Figure(f"items of {name}: all", all_of_it / bare, "×", f"untyped msgspec.json.decode {len(lines) / bare:,.0f} records/s")
    total = validation + making + encoding
    shares = {"typed decoding": decoding, "checks": validation - decoding, "items": making, "wire form": encoding}
    for stage, seconds in shares.items():
        yield Figure(f"items of {name}: {stage}", 100 * seconds / total, "%", f"{seconds / len(lines) * 1e6:.1f} µs a record")


def _undeclared(name: str, dataset: Dataset, lines: list[bytes]) -> Figure:
    """The slow road: the same records where no field is declared."""
    free = Validator(msgspec.structs.replace(dataset, fields={}, unknown_fields="keep"))
    floor, slow = medians(
        ROUNDS, _timed(lambda: [msgspec.json.decode(line) for line in lines]), _timed(lambda: free.decode(lines, NOW))
    )
    rates = f"{len(lines) / slow:,.0f} records/s; untyped msgspec.json.decode {len(lines) / floor:,.0f}/s"
    return Figure(f"validate {name}, undeclared", slow / floor, "×", rates)


def _varied(lines: list[bytes]) -> Iterator[bytes]:
    """The lines with other digits behind every fraction: as sensors of twelve digits would send them."""
    digits = random.Random(7)
    for line in lines:
        yield re.sub(rb"(?<=\d\.)\d+(?=[,}])", lambda _: b"%09d1" % digits.randrange(10**9), line)


# the peer ---------------------------------------------------------------------------------------------------------------


def _model(dataset: Dataset, number: type) -> Any:
    members: dict[str, Any] = {dataset.group_by[0]: (str, ...), dataset.time_field: (datetime, ...)}
    for name, field in dataset.fields.items():
        kind: Any = {"int": int, "float": number, "string": str, "bool": bool}[field.type]
        texts = tuple(value for value in field.missing if isinstance(value, str))
        if len(texts) == len(field.missing) and (field.min is not None or field.max is not None):
            kind = Annotated[kind, Field(ge=field.min, le=field.max)]
        members[name] = (Union[(kind, None, *((Literal[texts],) if texts else ()))], None)
    return create_model(dataset.name, __config__=ConfigDict(extra="forbid"), **members)


def _peer(dataset: Dataset, lines: list[bytes], number: type) -> Work:
    validate = TypeAdapter(_model(dataset, number)).validate_json
    serialize = TypeSerializer().serialize
    group, moment, ttl = dataset.group_by[0], dataset.time_field, dataset.buffer_ttl_hours * 3600
    fields = [(name, set(field.missing)) for name, field in dataset.fields.items()]

    def work() -> list[Any]:
        items = []
        for line in lines:
            values = validate(line).__dict__
            at = values[moment].isoformat()
            kept = {}
            for name, missing in fields:
                value = values[name]
                if value is not None and value not in missing:
                    kept[name] = Decimal(repr(value)) if type(value) is float else value
            item = {
                "pk": f"{dataset.name}#{values[group]}#{at[:10]}",
                "sk": at,
                "fields": kept,
                "expires_at": int(values[moment].timestamp()) + ttl,
                "config_version": dataset.version,
            }
            items.append({name: serialize(value) for name, value in item.items()})
        return items

    return work


def _timed(work: Work) -> Callable[[], float]:
    """Once before it counts, so that neither side pays for bringing back the other's memory; then by the processor's time."""

    def measure() -> float:
        work()
        gc.collect()
        gc.freeze()  # what the benchmark holds, modules above all, is not for the work to look through
        started = time.process_time()
        work()
        return time.process_time() - started

    return measure
