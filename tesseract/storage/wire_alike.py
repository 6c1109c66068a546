"""Lines of JSON that are all alike: equal but for the texts of their values. Pure.

Such lines, cut at every `"`, are a table whose columns are values and, between them, text that is the same in every line. pyarrow's
csv reader finds the values several times as fast as any JSON reader does. Whether the lines are alike is not guessed: the values,
written back into the first line, must give the lines byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.wire_columns import Values, times
from tesseract.storage.wire_rows import OtherLines, WireRows

BLOCK = 1 << 20
MAX_CELLS = 4000  # of a line, eight for a field: each is a column
_OWN = ("pk", "sk", "config_version", "expires_at", "ref_time")
_NEEDED = {("pk", "S"), ("sk", "S"), ("config_version", "N")}
_ALLOWED = _NEEDED | {("expires_at", "N"), ("ref_time", "S")}

Path = tuple[str, ...]


def texts(body: bytes) -> dict[Path, pa.Array]:
    """The texts at each place of the lines' JSON; each line ends with a line break.

    Raises OtherLines, ArrowInvalid or ValueError where the lines are not alike, or hold what this does not take: an escape, a truth
    value, a list.
    """
    if b"\\" in body:
        raise OtherLines("an escape")
    if not body.isascii():
        body.decode()
    first = body[: body.index(b"\n")]
    cells = first.split(b'"')
    places = [place for place in range(1, len(cells), 2) if cells[place - 1].strip() == b":"]
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


def rows(item: Mapping[Path, pa.Array], written: pa.Array | None = None) -> WireRows:
    """Items of the raw table from the texts at each place of theirs. Raises OtherLines where they are not as we write them."""
    found = dict(item)
    own = {path: found.pop(path) for path in list(found) if path[0] in _OWN}
    if not _NEEDED <= own.keys() <= _ALLOWED:
        raise OtherLines("an attribute as we do not write it")
    count = len(own["pk", "S"])
    ref_time = times(own["ref_time", "S"]) if ("ref_time", "S") in own else pa.nulls(count, TIMESTAMP)
    if ref_time is None:
        raise OtherLines("a ref time as we do not write it")
    check_printable([own["pk", "S"].unique(), *found.values()])
    return WireRows(
        pk=own["pk", "S"],
        sk=own["sk", "S"],
        ref_time=ref_time,
        write_time=pa.nulls(count, TIMESTAMP) if written is None else written,
        deleted=pa.repeat(pa.scalar(False), count),
        version=pc.cast(own["config_version", "N"], pa.int32()),
        values=_fields(found),
    )


def check_printable(found: Iterable[pa.Array]) -> None:
    """JSON has no control character in a text; some other characters are refused with them, needlessly. Raises OtherLines."""
    if not all(pc.all(pc.utf8_is_printable(values), min_count=0).as_py() for values in found):
        raise OtherLines("a character that is not printable")


def _fields(item: Mapping[Path, pa.Array]) -> dict[str, Values]:
    fields: dict[str, Values] = {}
    for path, values in item.items():
        if len(path) != 4 or path[:2] != ("fields", "M") or path[3] not in ("N", "S") or path[2] in fields:
            raise OtherLines("an attribute or a value as we do not write it")
        none, truths = pa.nulls(len(values), pa.string()), pa.nulls(len(values), pa.bool_())
        fields[path[2]] = Values(values, none, truths) if path[3] == "N" else Values(none, values, truths)
    if not fields:
        raise OtherLines("rows without fields")
    return fields


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
