"""Tables as records: whatever hands out Arrow data (pyarrow, pandas, Polars, DuckDB), batch by batch, every value exact.

A null cell is null. pandas' missing values (NaN, NaT, NA) are nulls, because that is how pandas says null; a NaN in an Arrow or
Polars column is a number that is none, and its row is refused with a reason. Timestamps are sent to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tesseract.errors import InputError
from tesseract.ingestion.chunks import Refused
from tesseract.ingestion.encode import BYTES, NO_NUMBER, encode, refuse

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 4096  # turned into Python at a time
_YEARS = (-62_135_596_800, 253_402_300_800)  # the first second of year 1, and of year 10000
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNNAMED_INDEX = "__index_level_"

Faults = dict[int, tuple[Any, str]]  # row → value and reason


def is_table(data: Any) -> bool:
    """Whether `data` hands out Arrow data, or collects itself to something that does."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__") or hasattr(data, "collect")


def table_lines(data: Any) -> Iterator[bytes | Refused]:
    """The rows of a table as records, in order. An unnamed index of pandas is left out. Raises InputError for what is no table."""
    import pyarrow as pa

    if not hasattr(data, "__arrow_c_stream__") and hasattr(data, "collect"):  # Polars' LazyFrame
        data = data.collect()
    try:
        if hasattr(data, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(data)
        else:
            batch = pa.record_batch(data)
            reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
        check_columns("the table", reader.schema.names)
        for batch in reader:
            yield from batch_lines(batch)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"the table cannot be read as Arrow data: {error}") from error


def batch_lines(batch: pa.RecordBatch) -> Iterator[bytes | Refused]:
    """The rows of one batch as records, or as what is wrong with them."""
    names = [name for name in batch.schema.names if not name.startswith(_UNNAMED_INDEX)]
    nested = any("." in name for name in names)
    for start in range(0, batch.num_rows, ROWS):
        faults: dict[int, tuple[str, Any, str]] = {}
        columns = []
        for name in names:
            values, wrong = plain_values(batch.column(name).slice(start, ROWS))
            columns.append(values)
            for row, (value, reason) in wrong.items():
                faults.setdefault(row, (name, value, reason))
        for row, cells in enumerate(zip(*columns, strict=True)):
            record = _nested(names, cells) if nested else dict(zip(names, cells, strict=True))
            yield refuse(record, *faults[row]) if row in faults else encode(record)


def check_columns(what: str, columns: Sequence[str]) -> None:
    """Every column is one place in a record. Raises InputError where one has no name, comes twice, or lies in another."""
    for place, column in enumerate(columns):
        if not column:
            raise InputError(f"{what}: column {place + 1} has no name")
        if column in columns[:place]:
            raise InputError(f"{what}: the column {column!r} comes twice")
        inside = next((other for other in columns if column.startswith(f"{other}.")), None)
        if inside is not None:
            raise InputError(f"{what}: the column {column!r} lies inside the column {inside!r}, which holds a value itself")


def put_at(record: dict[str, Any], column: str, value: Any) -> None:
    """A dotted column is a value inside nested objects, as in every result."""
    *parents, leaf = column.split(".")
    for parent in parents:
        record = record.setdefault(parent, {})
    record[leaf] = value


def _nested(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        put_at(record, name, value)
    return record


def plain_values(array: pa.Array) -> tuple[list[Any], Faults]:
    """A column as values that JSON can say, and the rows whose value it cannot."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if isinstance(kind, pa.ExtensionType):
        return plain_values(array.storage)
    if pa.types.is_dictionary(kind):
        return plain_values(array.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return _moments(array)
    if pa.types.is_date(kind):
        return array.cast(pa.date32()).cast(pa.string()).to_pylist(), {}
    if pa.types.is_floating(kind):
        values = array.to_pylist()
        bad = pc.indices_nonzero(pc.invert(pc.is_finite(array.cast(pa.float64())))).to_pylist()
        return values, {row: (values[row], NO_NUMBER) for row in bad}
    if pa.types.is_struct(kind):
        return _objects(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(array)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return array.to_pylist(), {}
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.to_pylist(), {}
    binary = any(check(kind) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))
    reason = BYTES if binary or pa.types.is_binary_view(kind) else f"a value of Arrow's type {kind} is no value of a record"
    return [None] * len(array), {row: ("", reason) for row in range(len(array)) if array[row].is_valid}


def _moments(array: pa.Array) -> tuple[list[Any], Faults]:
    """Timestamps as ISO 8601 text with all their digits: of a zone in UTC, of none without one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    per_second = _PER_SECOND[array.type.unit]
    ticks = array.cast(pa.int64())
    low, high = (max(-(2**63), min(second * per_second, 2**63 - 1)) for second in _YEARS)
    inside = pc.and_(pc.greater_equal(ticks, low), pc.less(ticks, high) if high < 2**63 - 1 else True)
    texts = pc.if_else(inside, array.cast(pa.timestamp(array.type.unit)), None).cast(pa.string())
    zone = "Z" if array.type.tz else ""
    values = [None if text is None else f"{text[:10]}T{text[11:]}{zone}" for text in texts.to_pylist()]
    outside = pc.indices_nonzero(pc.invert(inside)).to_pylist()
    return values, {row: (ticks[row].as_py(), "the time is outside the years 1 to 9999") for row in outside}


def _objects(array: pa.Array) -> tuple[list[Any], Faults]:
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    faults: Faults = {}
    columns = []
    for child in array.flatten():
        values, wrong = plain_values(child)
        columns.append(values)
        faults |= wrong
    rows = zip(*columns, strict=True) if columns else [()] * len(array)
    there = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if there[place] else None for place, row in enumerate(rows)], faults


def _lists(array: pa.Array) -> tuple[list[Any], Faults]:
    rows: list[Any] = []
    faults: Faults = {}
    for place, scalar in enumerate(array):
        values, wrong = plain_values(scalar.values) if scalar.is_valid else (None, {})
        rows.append(values)
        if wrong:
            faults[place] = next(iter(wrong.values()))
    return rows, faults
