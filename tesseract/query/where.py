"""Conditions on the rows of a result: what they mean for every type of a column, and what a part of a file can hold. Pure.

A number is compared exactly: a double counts as the decimal of its shortest text, so `temp = 20.1` finds 20.1, and for integers
`n > 2.5` is `n > 2`. A null is never true. Texts compare by their characters' code points.

A condition holds for the newest row of a key. So a part of a file may be left out, since none of its rows satisfies, only where
no other part of the plan can have a row of the same time: else an older revision that satisfies would come back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Context, Decimal
from difflib import get_close_matches
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import STATS, Dataset, Level
from tesseract.errors import InputError
from tesseract.query.plan import Range, RawPlan
from tesseract.query.results import empty, keyed, renamed
from tesseract.query.where_bounds import Bounds, possible
from tesseract.query.where_text import Every, Leaf, Missing, Node, Some, Value, Within, leaves, mapped, shown, tree, wrong
from tesseract.storage.codec import shortest
from tesseract.utils.time_utils import to_micros

_EXACT = Context(prec=1000)
_NEVER = pc.scalar(False)


class Where(NamedTuple):
    """A condition. Columns go by names as it is parsed, by keys in its `key_form`."""

    node: Node
    text: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at, each once."""
        return tuple(dict.fromkeys(leaf.column for leaf in leaves(self.node)))

    def key_form(self, dataset: Dataset, level: Level | None) -> Where:
        """The condition on the columns of files and items, checked.

        Raises InputError for a column that the result cannot have, and for a value that a declared column is not compared with. Of
        a field that nobody declared that is seen once its column is there, by `expression`.
        """
        schema = empty(dataset, level).schema
        names = {renamed(dataset, level, key): key for key in schema.names if not key.startswith("__")}
        own = Where(mapped(self.node, lambda leaf: leaf._replace(column=_key(dataset, level, leaf.column, names))), self.text)
        kinds = {key: schema.field(key).type for key in names.values()}
        labels = {key: name for name, key in names.items()}
        typed = mapped(own.node, lambda leaf: _typed(leaf, kinds.get(leaf.column), labels))
        return Where(typed if level is None else mapped(typed, _counted), self.text)

    def expression(self, schema: pa.Schema) -> pc.Expression:
        """The condition on tables of a schema; a column that is not there is null. Raises InputError as `key_form` does."""
        kinds = dict(zip(schema.names, schema.types, strict=True))
        return _expression(mapped(self.node, lambda leaf: _typed(leaf, kinds.get(leaf.column), {})), kinds)

    def filter(self, table: pa.Table) -> pa.Table:
        """The rows of a table that satisfy."""
        return table.filter(self.expression(table.schema))

    def possible(self, bounds: Bounds) -> bool:
        """False only where no row within `bounds`, as they are stored, can satisfy, whatever else is in its other columns."""
        return possible(self.node, bounds)


def parse(text: str) -> Where:
    """The condition that a user writes (`where_text` has the grammar). Raises InputError with the place of what is wrong."""
    if not isinstance(text, str):
        raise InputError(f"where {text!r} is no text", hint="write a condition as in temp > 20")
    return Where(tree(text), text)


def contested(plan: RawPlan) -> list[Range]:
    """The times that more than one slice of a plan can have rows of: sorted, disjoint. No row group in them may be left out."""
    slices = [Range(file.start, file.end) for file in plan.archive] + [Range(day.start, day.end) for day in plan.buffer]
    edges = sorted(edge for part in slices for edge in ((part.start, 1), (part.end, -1)))
    found: list[Range] = []
    depth = start = 0
    for at, step in edges:
        if depth == 1 and step == 1:
            start = at
        if depth == 2 and step == -1 and start < at:
            found.append(Range(start, at))
        depth += step
    return found


def prunes(where: Where, plan: RawPlan) -> Callable[[Bounds], bool]:
    """What says of a row group of a plan's files, by its bounds (`valid_time` as moments), whether it must be read."""
    spans = contested(plan)

    def may(bounds: Bounds) -> bool:
        first, last, *_ = bounds.get("valid_time", (None, None))
        if not isinstance(first, datetime) or not isinstance(last, datetime):
            return True
        low, high = to_micros(first), to_micros(last)
        return any(span.start <= high and low < span.end for span in spans) or where.possible(bounds)

    return may


# names and types ------------------------------------------------------------------------------------------------------------


def _key(dataset: Dataset, level: Level | None, name: str, names: Mapping[str, str]) -> str:
    """The key of a column. Raises InputError where the result cannot have it."""
    if name in names:
        return names[name]
    if name in dataset.names and level is not None:
        own = [column for stat in STATS if (column := f"{name}_{stat}") in names]
        hint = f"columns of it: {', '.join(own)}" if own else "this level has no numbers of it"
        raise InputError(f"where: {name!r} is a field, and level {level.name} has its statistics", hint=hint)
    (key,) = keyed(dataset, level, [name]) or [name]
    if dataset.unknown_fields == "keep" and not name.startswith("__"):
        return key
    close = get_close_matches(name, sorted(names), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"columns: {', '.join(names)}"
    raise InputError(f"where: dataset {dataset.name} has no column {name!r}{f' at level {level.name}' if level else ''}", hint=hint)


def _typed(leaf: Leaf, kind: pa.DataType | None, labels: Mapping[str, str]) -> Leaf:
    """A comparison with its values as the column has them. Raises InputError where they are of another kind."""
    if kind is None or pa.types.is_null(kind) or isinstance(leaf, Missing):
        return leaf
    name = labels.get(leaf.column, leaf.column)
    if isinstance(leaf, Within):
        return leaf._replace(values=tuple(_value_for(name, kind, value, leaf.at) for value in leaf.values))
    if pa.types.is_boolean(kind) and leaf.sign not in ("=", "!="):
        raise wrong(f"column {name!r} is true or false and has no order: {leaf.sign} {shown(leaf.value)}", leaf.at, "use = or !=")
    return leaf._replace(value=_value_for(name, kind, leaf.value, leaf.at))


def _value_for(name: str, kind: pa.DataType, value: Value, at: int) -> Value:
    if pa.types.is_timestamp(kind):
        return value if isinstance(value, datetime) else _moment(name, value, at)
    if pa.types.is_boolean(kind):
        fits, what, example = isinstance(value, bool), "true or false", "= true"
    elif pa.types.is_string(kind):
        fits, what, example = isinstance(value, str), "text", f"= '{value}'"
    else:
        fits, what, example = isinstance(value, Decimal), "a number", "> 20"
    if not fits:
        raise wrong(f"column {name!r} is {what}, unlike {shown(value)}", at, f"write {name} {example}")
    return value


def _moment(name: str, value: Value, at: int) -> datetime:
    """A time in quotes: ISO 8601 with a zone, or a day, which begins at midnight UTC."""
    hint = "write it as '2026-03-01T12:00:00Z' or '2026-03-01'"
    try:
        moment = datetime.fromisoformat(str(value)) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise wrong(f"column {name!r} is a time, unlike {shown(value)}", at, hint)
    if moment.tzinfo is None and len(str(value)) > len("2026-03-01"):
        raise wrong(f"the time {shown(value)} has no time zone", at, f"write '{value}Z' for UTC, or an offset")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise wrong(f"the time {shown(value)} lies beyond the years 1 to 9999", at) from None


def _counted(leaf: Leaf) -> Node:
    """A comparison of a level's column, whose null reads as 0 where it is a count."""
    if not leaf.column.endswith("_count"):
        return leaf
    absent = Missing(leaf.column, negated=False)
    if isinstance(leaf, Missing):  # never, or always
        both = (absent, absent._replace(negated=True))
        return Some(both) if leaf.negated else Every(both)
    return Some((leaf, absent)) if possible(leaf, {leaf.column: (0, 0, 0, 1)}) else leaf


# rows -----------------------------------------------------------------------------------------------------------------------


def _expression(node: Node, kinds: Mapping[str, pa.DataType]) -> pc.Expression:
    if isinstance(node, Every | Some):
        return _balanced(isinstance(node, Every), [_expression(part, kinds) for part in node.parts])
    field, kind = pc.field(node.column), kinds.get(node.column)
    if kind is None or pa.types.is_null(kind):
        return pc.scalar(isinstance(node, Missing) and not node.negated)
    if isinstance(node, Missing):
        return field.is_valid() if node.negated else field.is_null()
    if isinstance(node, Within):
        return _within(field, kind, node)
    return _compared(field, kind, node.sign, node.value)


def _balanced(every: bool, parts: list[pc.Expression]) -> pc.Expression:
    """All joined, as a tree that is not deep: Arrow goes through it by recursion."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [left & right if every else left | right for left, right in pairs] + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]


def _within(field: pc.Expression, kind: pa.DataType, leaf: Within) -> pc.Expression:
    fitting = [_at_most(value, kind) for value in leaf.values]
    values = list({value for value, exact in fitting if exact})
    if not leaf.negated:
        return field.isin(pa.array(values, kind)) if values else _NEVER
    return field.is_valid() & ~field.isin(pa.array(values, kind)) if values else field.is_valid()


def _compared(field: pc.Expression, kind: pa.DataType, sign: str, value: Value) -> pc.Expression:
    """A comparison with the greatest value of the column's type that is not above `value`, which says the same."""
    below, exact = _at_most(value, kind)
    if sign in ("=", "!=") and not exact:
        return _NEVER if sign == "=" else field.is_valid()
    if below is None:
        return field.is_valid() if sign in (">", ">=") else _NEVER
    least = pa.scalar(below, kind)
    if sign in ("=", "!="):
        return field == least if sign == "=" else field != least
    if sign in ("<", ">="):
        below_it = field < least if exact else field <= least
        return below_it if sign == "<" else (field >= least if exact else field > least)
    return field <= least if sign == "<=" else field > least


def _at_most(value: Value, kind: pa.DataType) -> tuple[Any, bool]:
    """(The greatest value of a type that is not above `value`, whether it is `value`); (None, False) where all are above."""
    if not isinstance(value, Decimal):
        return value, True
    if pa.types.is_floating(kind):
        return _double_at_most(value)
    scale, most = (kind.scale, 10**kind.precision - 1) if pa.types.is_decimal(kind) else (0, 2 ** (kind.bit_width - 1) - 1)
    least = -most if pa.types.is_decimal(kind) else -most - 1
    scaled = value.scaleb(scale, _EXACT)
    floor = int(scaled.to_integral_value(ROUND_FLOOR, _EXACT))
    if floor < least:
        return None, False
    found = min(floor, most)
    return (Decimal(found).scaleb(-scale, _EXACT) if scale else found), found == scaled


def _double_at_most(value: Decimal) -> tuple[float | None, bool]:
    double = float(value)
    if math.isinf(double):
        double = math.copysign(math.nextafter(math.inf, 0), double)
    if shortest(double) > value:
        double = math.nextafter(double, -math.inf)
    return (None, False) if math.isinf(double) else (double, shortest(double) == value)
