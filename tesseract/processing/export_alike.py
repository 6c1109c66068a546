"""A chunk of an export file whose lines are all alike: equal but for the texts of their values. Pure.

Such lines, cut at every `"`, are a table whose columns are values and, between them, text that is the same in every line. pyarrow's
csv reader finds the values several times as fast as any JSON reader does. Whether the lines are alike is not guessed: the values,
written back into the first line, must give the chunk byte for byte. Lines of what TTL removed are alike among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from tesseract.processing.export_lines import Chunk
from tesseract.processing.export_read import Columns, OtherLines
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_columns import Values, times

BLOCK = 1 << 20
MAX_CELLS = 4000  # of a line, eight for a field: each is a column
IMAGE = b'"NewImage"'
_OWN = ("pk", "sk", "config_version", "expires_at", "ref_time")

Path = tuple[str, ...]


def read_alike(chunk: Chunk, write_time: datetime | None) -> Columns:
    """The columns of a chunk with all its fields. `write_time` is that of a full export.

    Raises OtherLines, ArrowInvalid or ValueError where the lines are not alike, or hold what this does not take: an escape, a truth
    value, a list.
    """
    body = chunk.body
    if b"\\" in body:
        raise OtherLines("an escape")
    if not body.isascii():
        body.decode()
    if not write_time and body.count(IMAGE) != chunk.lines:
        lines = body.split(b"\n")[:-1]
        gone = [line for line in lines if IMAGE not in line]
        _removed(b"\n".join([*gone, b""]))
        body = b"\n".join([*(line for line in lines if IMAGE in line), b""])
    return _columns(_values(body), write_time)


def _columns(found: dict[Path, pa.Array], write_time: datetime | None) -> Columns:
    image = "Item" if write_time else "NewImage"
    if {path[0] for path in found} - {"Keys"} != ({image} if write_time else {"Metadata", image}):
        raise OtherLines("other parts than those of a change or an item")
    row = {path[1:]: values for path, values in found.items() if path[0] == image}
    own = {path: row.pop(path) for path in list(row) if path[0] in _OWN}
    pk, sk, version = (_there(own, path) for path in (("pk", "S"), ("sk", "S"), ("config_version", "N")))
    written = pa.repeat(pa.scalar(write_time, TIMESTAMP), len(pk)) if write_time else _written(found)
    ref_time = times(own["ref_time", "S"]) if ("ref_time", "S") in own else pa.nulls(len(pk), TIMESTAMP)
    if ref_time is None or set(own) - {("pk", "S"), ("sk", "S"), ("config_version", "N"), ("expires_at", "N"), ("ref_time", "S")}:
        raise OtherLines("an attribute as we do not write it")
    pks = pk.dictionary_encode()
    _printable([pks.dictionary, *row.values()])
    return Columns(
        pk=pks.indices,
        pks=pks.dictionary.to_pylist(),
        sk=sk,
        ref_time=ref_time,
        write_time=written,
        deleted=pa.repeat(pa.scalar(False), len(pk)),
        version=pc.cast(version, pa.int32()),
        values=_fields(row),
    )


def _fields(row: dict[Path, pa.Array]) -> dict[str, Values]:
    fields: dict[str, Values] = {}
    for path, values in row.items():
        if len(path) != 4 or path[:2] != ("fields", "M") or path[3] not in ("N", "S") or path[2] in fields:
            raise OtherLines("an attribute or a value as we do not write it")
        texts, truths = pa.nulls(len(values), pa.string()), pa.nulls(len(values), pa.bool_())
        fields[path[2]] = Values(values, texts, truths) if path[3] == "N" else Values(texts, values, truths)
    if not fields:
        raise OtherLines("rows without fields")
    return fields


def _there(found: dict[Path, pa.Array], path: Path) -> pa.Array:
    if path not in found:
        raise OtherLines(f"no {path[0]}")
    return found[path]


def _written(found: dict[Path, pa.Array]) -> pa.Array:
    return pc.cast(pc.cast(_there(found, ("Metadata", "WriteTimestampMicros", "N")), pa.int64()), TIMESTAMP)


def _printable(texts: list[pa.Array]) -> None:
    """JSON has no control character in a text; some other characters are refused with them, needlessly."""
    if not all(pc.all(pc.utf8_is_printable(values), min_count=0).as_py() for values in texts):
        raise OtherLines("a character that is not printable")


def _removed(body: bytes) -> None:
    """Lines of what TTL removed: they give no rows, but they must be such lines."""
    found = _values(body)
    if {path[0] for path in found} - {"Keys"} != {"Metadata"}:
        raise OtherLines("neither a change nor a removal")
    _written(found)
    _printable(list(found.values()))


def _values(body: bytes) -> dict[Path, pa.Array]:
    """The texts at each place of the lines' JSON. Raises OtherLines where they are not alike."""
    first = body[: body.index(b"\n")]
    cells = first.split(b'"')
    places = [place for place in range(1, len(cells), 2) if cells[place - 1] == b":"]
    if len(cells) > MAX_CELLS:
        raise OtherLines("more fields than columns are good for")
    leaves = dict(_leaves(msgspec.json.decode(first), ()))
    if [cells[place].decode() for place in places] != list(leaves.values()):
        raise OtherLines("more values than texts, or a name twice")
    names = [str(place) for place in range(len(cells))]
    table = pv.read_csv(
        pa.BufferReader(body),
        pv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
        pv.ParseOptions(delimiter='"', quote_char=False, double_quote=False, escape_char=False, ignore_empty_lines=False),
        pv.ConvertOptions(
            check_utf8=False,
            strings_can_be_null=False,
            include_columns=[names[place] for place in places],
            column_types={names[place]: pa.string() for place in places},
        ),
    )
    _check(table, cells, places, body)
    return dict(zip(leaves, (column.combine_chunks() for column in table.columns), strict=True))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, (*path, name))
    else:
        raise OtherLines("a value that is no text")


def _check(table: pa.Table, cells: list[bytes], places: list[int], body: bytes) -> None:
    """The lines are the first one with these values in place of its own."""
    ends = [-1, *places, len(cells)]
    between = [b'"'.join([b"", *cells[start + 1 : end], b""]).decode() for start, end in pairwise(ends)]
    between[0], between[-1] = between[0][1:], between[-1][:-1] + "\n"
    whole, start = pa.py_buffer(body), 0
    for block in table.to_batches():
        parts: list[Any] = [between[0]]
        for column, text in zip(block.columns, between[1:], strict=True):
            parts += [column, text]
        lines = pc.binary_join_element_wise(*parts, "").buffers()[2]
        if not whole.slice(start, len(lines)).equals(lines):
            raise OtherLines("lines that differ")
        start += len(lines)
    if start != len(body):
        raise OtherLines("lines that differ")
