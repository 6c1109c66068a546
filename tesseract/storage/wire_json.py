"""Lines of JSON as columns, read by pyarrow, or refused. Pure.

pyarrow reads the fields that it is told of and leaves out silently what else there is. But every value of an item begins with
`:{"`, which a text has unescaped nowhere but at its end: where the lines have as many of them as the columns have values, nothing
was left out. A text that ends so makes the lines be refused, needlessly but never wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_columns import Values, times
from tesseract.storage.wire_rows import OtherLines, WireRows

_TEXT, _NUMBER, _TRUTH = (
    pa.struct([(name, kind)]) for name, kind in (("S", pa.string()), ("N", pa.string()), ("BOOL", pa.bool_()))
)
KINDS = {"N": pa.string(), "S": pa.string(), "BOOL": pa.bool_()}  # in the order of `Values`
THERE = pa.struct([])  # whether it is there, not what it says


def item_type(kinds: Mapping[str, str]) -> pa.StructType:
    """An item of the raw table with the fields of `kinds`: each with values of one kind, or of any where it says ""."""
    of_kind = {"": pa.struct(KINDS.items())} | {kind: pa.struct([(kind, KINDS[kind])]) for kind in KINDS}
    fields = pa.struct([("M", pa.struct([(name, of_kind[kind]) for name, kind in kinds.items()]))])
    own = [("ref_time", _TEXT), ("deleted", _TRUTH), ("config_version", _NUMBER), ("expires_at", THERE)]
    return pa.struct([("pk", _TEXT), ("sk", _TEXT), ("fields", fields), *own])


def read(body: bytes, lines: int, schema: pa.Schema) -> pa.StructArray:
    """The lines, one struct each. Raises OtherLines, ArrowInvalid or UnicodeDecodeError."""
    if not body.isascii():
        body.decode()  # pyarrow takes any bytes for text
    table = pj.read_json(
        pa.BufferReader(body),
        pj.ReadOptions(use_threads=False, block_size=len(body) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    if len(table) != lines:
        raise OtherLines("more or fewer items than lines")
    columns = [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
    return pa.StructArray.from_arrays(columns, fields=list(table.schema))


def rows(item: pa.StructArray, written: pa.Array | None = None) -> tuple[WireRows, int]:
    """Items, none of which is null, and how many values began in their JSON. Raises OtherLines."""
    count = len(item)
    row = members(item)
    fields = members(row["fields"])["M"]
    if fields.null_count:
        raise OtherLines("a row without fields")
    own = members(fields)
    values = {name: _values(found) for name, found in own.items()}
    odd = [name for name, found in values.items() if found.present != valid(own[name])]
    if odd:
        raise OtherLines("values of another kind", odd=odd)
    ref_time = times(_same(row["ref_time"], "S"))
    if ref_time is None:
        raise OtherLines("a ref time as we do not write it")
    found = WireRows(
        pk=whole(row["pk"], "S"),
        sk=whole(row["sk"], "S"),
        ref_time=ref_time,
        write_time=pa.nulls(count, TIMESTAMP) if written is None else written,
        deleted=_same(row["deleted"], "BOOL").fill_null(False),
        version=pc.cast(whole(row["config_version"], "N"), pa.int32()),
        values=values,
    )
    return found, sum(map(valid, row.values())) + sum(map(valid, own.values())) + _filled(own, count)


def check_marks(body: bytes, marks: int) -> None:
    """Raises OtherLines where the lines have more values than `marks`."""
    spaced = b'": {"' in body[: body.find(b"\n")]  # some who write JSON put a space there
    if marks != body.count(b': {"' if spaced else b':{"'):
        raise OtherLines("values left out", left_out=True)


def members(values: pa.StructArray) -> dict[str, pa.Array]:
    """The members of each struct; null where the struct is."""
    return {field.name: part for field, part in zip(values.type, values.flatten(), strict=True)}


def valid(values: pa.Array) -> int:
    """How many are not null."""
    return int(len(values) - values.null_count)


def whole(values: pa.StructArray, kind: str) -> pa.Array:
    """What each {kind: …} holds, all of which are there. Raises OtherLines."""
    if values.null_count:
        raise OtherLines("one that is not there")
    return _same(values, kind)


def _values(values: pa.StructArray) -> Values:
    found = members(values)
    return Values(*(found[kind] if kind in found else pa.nulls(len(values), own) for kind, own in KINDS.items()))


def _same(values: pa.StructArray, kind: str) -> pa.Array:
    """What each {kind: …} holds; null where it is not there."""
    found = members(values)[kind]
    if found.null_count != values.null_count:
        raise OtherLines(f"not all are of type {kind}")
    return found


def _filled(own: Mapping[str, pa.Array], rows: int) -> int:
    """How many rows have any field: a map without one has no value that begins."""
    filled = pa.repeat(False, rows)
    for values in own.values():
        if not values.null_count:
            return rows
        filled = pc.or_(filled, values.is_valid())
    return int(pc.sum(filled).as_py() or 0)
