"""A chunk of an export file's lines as columns, read by pyarrow, or refused. Pure.

pyarrow reads the fields that it is told of and leaves out silently what else there is. But every value of a line begins with `:{"`,
which a text has unescaped nowhere but at its end: where the chunk has as many of them as the columns have values, nothing was
left out. A text that ends so makes the chunk be refused, needlessly but never wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from tesseract.processing.export_lines import Chunk
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_columns import Values, times

MARK = b':{"'
_TEXT, _NUMBER, _TRUTH = (
    pa.struct([(name, kind)]) for name, kind in (("S", pa.string()), ("N", pa.string()), ("BOOL", pa.bool_()))
)
KINDS = {"N": pa.string(), "S": pa.string(), "BOOL": pa.bool_()}  # in the order of `Values`
_THERE = pa.struct([])  # whether it is there, not what it says


class OtherLines(Exception):
    """The chunk has something that was not asked for, or that only the plain road takes.

    `left_out`: values, perhaps of other fields. `odd`: fields with values that may be of other kinds.
    """

    def __init__(self, reason: str, left_out: bool = False, odd: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.left_out, self.odd = left_out, set(odd)


@dataclass
class Columns:
    """The rows of a chunk, in the order of its lines; one that TTL removed is no row."""

    pk: pa.Array  # indices into `pks`
    pks: list[str]
    sk: pa.Array
    ref_time: pa.Array
    write_time: pa.Array
    deleted: pa.Array
    version: pa.Array
    values: dict[str, Values]


def read(chunk: Chunk, kinds: Mapping[str, str], write_time: datetime | None) -> Columns:
    """The columns of a chunk with the fields of `kinds`: each of one kind, or of any where it says "".

    `write_time` is that of a full export.

    Raises OtherLines, ArrowInvalid or UnicodeDecodeError where the plain road must be taken.
    """
    if not chunk.body.isascii():
        chunk.body.decode()  # pyarrow takes any bytes for text
    table = _table(chunk, kinds, write_time)
    image = _one(table["Item" if write_time else "NewImage"])
    rows = len(image) - image.null_count
    marks = rows
    if write_time:
        written = pa.repeat(pa.scalar(write_time, TIMESTAMP), rows)
    else:
        metadata = _members(_one(table["Metadata"]))
        written = pc.cast(pc.cast(_whole(metadata["WriteTimestampMicros"], "N"), pa.int64()), TIMESTAMP).filter(image.is_valid())
        marks += 2 * len(image) + 3 * _valid(_one(table["Keys"]))  # of Keys: pk and sk as well
    row = _members(image.filter(image.is_valid()) if image.null_count else image)
    marks += sum(map(_valid, row.values()))
    fields = _members(row["fields"])["M"]
    if fields.null_count:
        raise OtherLines("a row without fields")
    members = _members(fields)
    values = {name: _values(members[name]) for name in kinds}
    marks += sum(map(_valid, members.values())) + _filled(members, rows)
    odd = [name for name, found in values.items() if found.present != _valid(members[name])]
    if odd:
        raise OtherLines("values of another kind", odd=odd)
    if marks != chunk.body.count(MARK):
        raise OtherLines("values left out", left_out=True)
    pks = _whole(row["pk"], "S").dictionary_encode()
    ref_time = times(_same(row["ref_time"], "S"))
    if ref_time is None:
        raise OtherLines("a ref time as we do not write it")
    return Columns(
        pk=pks.indices,
        pks=pks.dictionary.to_pylist(),
        sk=_whole(row["sk"], "S"),
        ref_time=ref_time,
        write_time=written,
        deleted=_same(row["deleted"], "BOOL").fill_null(False),
        version=pc.cast(_whole(row["config_version"], "N"), pa.int32()),
        values=values,
    )


def _table(chunk: Chunk, kinds: Mapping[str, str], write_time: datetime | None) -> pa.Table:
    of_kind = {"": pa.struct(KINDS.items())} | {kind: pa.struct([(kind, KINDS[kind])]) for kind in KINDS}
    fields = pa.struct([("M", pa.struct([(name, of_kind[kind]) for name, kind in kinds.items()]))])
    own = [("ref_time", _TEXT), ("deleted", _TRUTH), ("config_version", _NUMBER), ("expires_at", _THERE)]
    image = pa.struct([("pk", _TEXT), ("sk", _TEXT), ("fields", fields), *own])
    change = [("Metadata", pa.struct([("WriteTimestampMicros", _NUMBER)])), ("Keys", _THERE), ("NewImage", image)]
    table = pj.read_json(
        pa.BufferReader(chunk.body),
        pj.ReadOptions(use_threads=False, block_size=len(chunk.body) + 1),
        pj.ParseOptions(explicit_schema=pa.schema([("Item", image)] if write_time else change), unexpected_field_behavior="ignore"),
    )
    if len(table) != chunk.lines:
        raise OtherLines("more or fewer items than lines")
    return table


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _members(values: pa.Array) -> dict[str, pa.Array]:
    """The members of each struct; null where the struct is."""
    return {field.name: part for field, part in zip(values.type, values.flatten(), strict=True)}


def _values(values: pa.Array) -> Values:
    found = _members(values)
    return Values(*(found[kind] if kind in found else pa.nulls(len(values), own) for kind, own in KINDS.items()))


def _valid(values: pa.Array) -> int:
    return int(len(values) - values.null_count)


def _same(values: pa.Array, kind: str) -> pa.Array:
    """What each {kind: …} holds; null where it is not there."""
    found = _members(values)[kind]
    if found.null_count != values.null_count:
        raise OtherLines(f"not all are of type {kind}")
    return found


def _whole(values: pa.Array, kind: str) -> pa.Array:
    """What each {kind: …} holds, all of which are there."""
    if values.null_count:
        raise OtherLines("one that is not there")
    return _same(values, kind)


def _filled(members: dict[str, pa.Array], rows: int) -> int:
    """How many rows have any field: a map without one has no value that begins."""
    filled = pa.repeat(False, rows)
    for values in members.values():
        if not values.null_count:
            return rows
        filled = pc.or_(filled, values.is_valid())
    return int(pc.sum(filled).as_py() or 0)
