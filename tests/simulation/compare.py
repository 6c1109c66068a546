"""Stored items and results of queries beside the oracle's rows: the same numbers, to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tesseract.errors import NotFoundError
from tesseract.processing.aggregator import decode_state
from tesseract.utils.time_utils import to_micros
from tests.simulation.oracle import Numbers, Row, average, deviation
from tests.simulation.scheduler import Violation


class Unreadable(Violation):
    """A query has found that an object is gone."""


Result = dict[tuple[str, int], dict[str, Any]]  # (group, time in µs) → row


def answered(call: Callable[[], Any]) -> Any:
    """What a query answers; nothing where the group is not known."""
    try:
        return call()
    except NotFoundError as error:
        if error.operation:  # an object that a manifest named
            raise Unreadable(f"reader: {error}: {error.key}") from error
        return None


def usable(item: dict[str, Any]) -> bool:
    return item.get("stale_at") is None and not item.get("pending")


def rows_of(table: Any, time: str) -> Result:
    """A table of a query by group and time."""
    if table is None:
        return {}
    return {(row["station"], to_micros(row[time])): row for row in table.to_pylist()}


def row_of(item: dict[str, Any]) -> Row:
    """The state that an item holds."""
    state = decode_state(item["state"])
    fields = {}
    for name, f in state.fields.items():
        unit = Fraction(1, 10**f.scale)
        exact = [None if v is None else v * unit for v in (f.minimum, f.maximum, f.first, f.last)]
        fields[name] = Numbers(f.n, f.total * unit, f.squares * unit * unit, *exact)  # type: ignore[arg-type]
    return Row(state.rows, fields)


def number_of(numbers: Numbers | None, stat: str) -> Any:
    if numbers is None:
        return None
    if stat == "avg":
        return average(numbers)
    if stat == "std":
        return deviation(numbers)
    return {
        "count": numbers.count,
        "sum": numbers.total,
        "min": numbers.minimum,
        "max": numbers.maximum,
        "first": numbers.first,
        "last": numbers.last,
    }[stat]


def column_of(row: Row, name: str, stat: str) -> Any:
    """What a result shows of a field: nothing was counted where there is no value."""
    return number_of(row.fields[name], stat) if name in row.fields else 0 if stat == "count" else None


def same(got: Any, want: Any, stat: str) -> bool:
    """Equal to the last digit; a double where one is shown; a sum that no column or item holds is null, or the nearest double."""
    if got is None or want is None:
        return got is None and (want is None or (stat == "sum" and abs(want) >= 10**35))
    if isinstance(got, float) or stat in ("avg", "std"):
        return float(got) == float(want)
    if stat == "sum" and abs(want) >= 10**37:
        return float(got) == float(want)
    return Fraction(got) == Fraction(want)


def brief(row: Row) -> str:
    """A row in a few words."""
    shown = ("minimum", "maximum", "first", "last")
    fields = " ".join(
        f"{name}(n {n.count} Σ {_short(n.total)} {' '.join(f'{part} {_short(getattr(n, part))}' for part in shown)})"
        for name, n in sorted(row.fields.items())
    )
    return f"{row.rows} rows {fields}"


def brief_result(got: dict[str, Any] | None) -> str:
    if got is None:
        return "absent"
    shown = {n: v for n, v in got.items() if n.endswith(("_count", "_sum", "_min", "_max", "_first", "_last"))}
    return f"{got['rows']} rows {' '.join(f'{n} {v}' for n, v in shown.items())}"


def _short(value: Fraction | None) -> str:
    if value is None:
        return "?"
    return str(value) if value.denominator == 1 else str(Decimal(value.numerator) / Decimal(value.denominator))
