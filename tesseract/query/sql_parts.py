"""Which groups and which times a filter of SQL can be true for. Pure.

DuckDB hands its filter over as an Arrow expression. Between two neighbouring literals of a column, no comparison with it changes:
so the literals cut time and groups into cells, and Arrow tells for each cell whether the filter can hold there, as it does for the
partitions of a folder of files. The literals come from the serialised form of the expression, which Arrow does not promise to
keep: without them there is one cell, everything is read, and the answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise, product
from math import prod
from operator import and_
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from tesseract.query.plan import EVERYTHING, TIME_MAX, TIME_MIN, Range, coalesce
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.keys import MAX_GROUP_BYTES, join_group, split_group
from tesseract.utils.time_utils import from_micros

MOMENTS = 64  # literals of time that are looked at; each makes two cells
CELLS = 4_096  # that are tried at once: 50 µs each
SPANS = 16  # ranges that are read of one group, at most

Known = Callable[[], Sequence[str]]


class Part(NamedTuple):
    """Some groups by their keys (None: all), and the range that is read of them. The parts of a filter are disjoint."""

    groups: tuple[str, ...] | None
    span: Range


class _Cell(NamedTuple):
    """A value of a column that carries a group, or (None) all between two of them, and what Arrow is to know of it."""

    value: str | None
    holds: pc.Expression


_ANY = (_Cell(None, pc.scalar(True)),)  # of a column that the condition says nothing of


def parts(condition: pc.Expression | None, schema: pa.Schema, groups: Sequence[str], time: str, known: Known) -> list[Part]:
    """What must be read for all rows that `condition` is true for. `groups`, `time`: the columns of the group and of the time.

    `known` gives the keys of all groups; it is asked only where the condition says something of groups, but does not name them.
    """
    if condition is None:
        return [Part(None, EVERYTHING)]
    texts, moments = _literals(condition)
    test = _Test(condition, schema)
    spans = test.possible([(span, _of_time(time, span)) for span in _spans(moments)])
    if not spans:
        return []
    names = _groups(test, groups, texts, known) if texts else None
    if names is None:
        return [Part(None, span) for span in _few(spans)]
    if len(spans) == 1 or len(names) * len(spans) > CELLS:
        found = dict.fromkeys(names, spans)
    else:
        holds = {name: _of_group(groups, name) for name in names}
        cells = [((name, span), holds[name] & _of_time(time, span)) for name in names for span in spans]
        found = {name: [] for name in names}
        for name, span in test.possible(cells):
            found[name].append(span)
    return _joined(found)


def columns(condition: pc.Expression | None, schema: pa.Schema) -> list[str]:
    """The columns that a condition looks at."""
    if condition is None:
        return []
    text = str(condition)
    found = [name for name in schema.names if name in text]
    for name in list(found):
        fewer = [other for other in found if other != name]
        if _binds(condition, schema, fewer):
            found = fewer
    return found if _binds(condition, schema, found) else schema.names


def _binds(condition: pc.Expression, schema: pa.Schema, names: Sequence[str]) -> bool:
    try:
        pa.schema([schema.field(name) for name in names]).empty_table().filter(condition)
    except (pa.ArrowInvalid, KeyError):
        return False
    return True


class _Test:
    """Asks Arrow where a condition can hold: of each cell a file of a folder is imagined, whose partition the cell is."""

    def __init__(self, condition: pc.Expression, schema: pa.Schema) -> None:
        self._condition, self._schema = condition, schema

    def possible(self, cells: Sequence[tuple[Any, pc.Expression]]) -> list[Any]:
        """Those of (cell, what holds in it) that the condition may be true in, in their order."""
        folder = ds.FileSystemDataset.from_paths(
            [str(place) for place in range(len(cells))],
            schema=self._schema,
            format=ds.ParquetFileFormat(),
            filesystem=LocalFileSystem(),  # where nothing is opened
            partitions=[holds for _, holds in cells],
        )
        found = sorted(int(file.path) for file in folder.get_fragments(filter=self._condition))
        return [cells[place][0] for place in found]


# time ------------------------------------------------------------------------------------------------------------------


def _spans(moments: Sequence[int]) -> list[Range]:
    """Time cut at the moments: each of them alone, and what lies between."""
    moments = sorted({moment for moment in moments if TIME_MIN < moment < TIME_MAX})
    step = -(-len(moments) // MOMENTS) if moments else 1
    chosen = sorted({*moments[::step], *moments[-1:]})
    edges = sorted({TIME_MIN, TIME_MAX, *chosen, *(moment + 1 for moment in chosen)})
    return [Range(start, end) for start, end in pairwise(edges)]


def _of_time(time: str, span: Range) -> pc.Expression:
    if span.end == span.start + 1:
        return pc.field(time) == _moment(span.start)
    after = pc.field(time) >= _moment(span.start)
    return after if span.end == TIME_MAX else after & (pc.field(time) < _moment(span.end))


def _moment(micros: int) -> pa.Scalar:
    return pa.scalar(from_micros(micros), TIMESTAMP)


def _few(spans: Sequence[Range]) -> list[Range]:
    """Ranges that cover `spans` (sorted, disjoint), at most SPANS of them: the smallest gaps are read as well."""
    joined = coalesce(spans)
    gaps = sorted(after.start - before.end for before, after in pairwise(joined))
    return joined if len(joined) <= SPANS else coalesce(joined, gaps[len(joined) - SPANS - 1])


# groups ----------------------------------------------------------------------------------------------------------------


def _groups(test: _Test, columns: Sequence[str], texts: Sequence[str], known: Known) -> tuple[str, ...] | None:
    """The keys of the groups that the condition can hold for; None: for all."""
    alive: list[Sequence[_Cell]] = []
    for name in columns:
        cells = list(_cells(name, texts))
        found = test.possible([(cell, cell.holds) for cell in cells])
        alive.append(_ANY if len(found) == len(cells) else found)
    if all(cells is _ANY for cells in alive):
        return None
    if any(cell.value is None for cells in alive for cell in cells) or prod(map(len, alive)) > CELLS:
        return tuple(test.possible([(key, _of_group(columns, key)) for key in known()]))
    keys = [join_group(values) for values in product(*([cell.value or "" for cell in cells] for cells in alive)) if all(values)]
    # a longer one was refused when it came, and DynamoDB takes no such key
    return tuple(test.possible([(key, _of_group(columns, key)) for key in keys if len(key) <= MAX_GROUP_BYTES]))


def _cells(name: str, texts: Sequence[str]) -> Iterator[_Cell]:
    field = pc.field(name)
    yield _Cell(None, field < texts[0])
    for before, after in pairwise(texts):
        yield _Cell(before, field == before)
        yield _Cell(None, (field > before) & (field < after))
    yield _Cell(texts[-1], field == texts[-1])
    yield _Cell(None, field > texts[-1])


def _of_group(columns: Sequence[str], key: str) -> pc.Expression:
    return reduce(and_, (pc.field(name) == value for name, value in zip(columns, split_group(key), strict=True)))


def _joined(found: dict[str, list[Range]]) -> list[Part]:
    """The groups of equal ranges as one part per range."""
    alike: dict[tuple[Range, ...], list[str]] = {}
    for name, spans in found.items():
        alike.setdefault(tuple(_few(spans)), []).append(name)
    if len(alike) > SPANS:
        whole = coalesce((span for spans in alike for span in spans), TIME_MAX - TIME_MIN)
        alike = {tuple(whole): [name for name, spans in found.items() if spans]}
    return [Part(tuple(names), span) for spans, names in alike.items() for span in spans]


# literals --------------------------------------------------------------------------------------------------------------


def _literals(condition: pc.Expression) -> tuple[list[str], list[int]]:
    """The texts and the moments (µs) that a condition compares with, sorted."""
    texts: set[str] = set()
    moments: set[int] = set()
    for values in _values(condition):
        if pa.types.is_string(values.type):
            texts.update(value for value in values.to_pylist() if value is not None)
        elif pa.types.is_timestamp(values.type):
            exact = pc.cast(pc.cast(values, TIMESTAMP, safe=False), pa.int64())
            moments.update(value for value in exact.to_pylist() if value is not None)
    return sorted(texts, key=lambda text: text.encode()), sorted(moments)


def _values(condition: pc.Expression) -> Iterator[pa.Array]:
    """The literals of an expression: Arrow serialises them as the columns of a record batch of one row."""
    try:
        body = condition.__reduce__()[1][0]
        columns = pa.ipc.open_file(body).get_batch(0).columns
    except (pa.ArrowException, LookupError, TypeError):
        return
    for column in columns:
        if not pa.types.is_struct(column.type):
            yield column
        elif column.type.get_field_index("value_set") >= 0:  # of `in`
            yield column.field("value_set").flatten()
