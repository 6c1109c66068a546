"""Gaps as rows: which there are, and what is in them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.errors import InputError
from tesseract.query.buckets import parse
from tesseract.query.fill import filled
from tesseract.query.plan import EVERYTHING, TIME_MIN, Range
from tesseract.utils.time_utils import from_micros, to_micros

STEP = 60 * 1_000_000
BUCKETS = parse("1min")
SCHEMA = pa.schema(
    [
        pa.field("station", pa.string()),
        pa.field("period_start", pa.timestamp("us", "UTC")),
        pa.field("rows", pa.int64()),
        pa.field("x_count", pa.int64()),
        pa.field("x_avg", pa.float64(), metadata={"unit": "m"}),
        pa.field("x_std", pa.float64()),
        pa.field("x_min", pa.int64()),
        pa.field("x_max", pa.decimal128(38, 2)),
    ],
    {"tesseract.level": "1min"},
)
INT = st.one_of(st.integers(-100, 100), st.integers(-(2**62), 2**62))
ROW = st.tuples(
    st.none() | st.floats(-1e6, 1e6),
    st.none() | INT,
    st.none() | st.integers(-(10**36), 10**36).map(lambda value: Decimal(f"{value}E-2")),
)
ROWS = st.dictionaries(st.integers(0, 30), ROW, min_size=1, max_size=8).map(lambda rows: dict(sorted(rows.items())))


def table_of(groups: dict[str, dict[int, tuple]]) -> pa.Table:
    rows = [
        dict(zip(SCHEMA.names, (name, from_micros(at * STEP), 3, 2, avg, 0.5, least, most), strict=True))
        for name, own in sorted(groups.items())
        for at, (avg, least, most) in own.items()
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def line(rows: dict[int, object], at: int) -> Fraction | None:
    """The value between the known ones around a place."""
    known = {place: Fraction(value) for place, value in rows.items() if value is not None}
    before, after = (max((p for p in known if p < at), default=None), min((p for p in known if p > at), default=None))
    if before is None or after is None:
        return None
    return known[before] + (known[after] - known[before]) * Fraction(at - before, after - before)


def near(value: object, wanted: Fraction | None, step: Fraction) -> bool:
    return value is None if wanted is None else abs(Fraction(value) - wanted) <= step / 2


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("AB"), ROWS, min_size=1), st.sampled_from(["null", "previous", "linear", 7]), st.booleans())
def test_every_interval_has_a_row_that_is_kept_or_filled(groups, fill, is_open):
    wanted = EVERYTHING if is_open else Range(-2 * STEP, 33 * STEP - 5)
    found = filled(table_of(groups), ["station"], BUCKETS, wanted, fill)
    assert found.schema == SCHEMA.append(pa.field("filled", pa.bool_()))
    rows = found.to_pylist()
    for name, own in groups.items():
        span = range(min(own), max(own) + 1) if is_open else range(-2, 33)
        mine = {to_micros(row["period_start"]) // STEP: row for row in rows if row["station"] == name}
        assert list(mine) == list(span)
        columns = [{at: row[place] for at, row in own.items()} for place in range(3)]
        for at, row in mine.items():
            values = (row["x_avg"], row["x_min"], row["x_max"])
            assert row["filled"] == (at not in own)
            if at in own:
                assert (row["rows"], row["x_count"], row["x_std"], *values) == (3, 2, 0.5, *own[at])
                continue
            assert (row["rows"], row["x_count"], row["x_std"]) == (0, 0, None)
            if fill in ("null", 7):
                assert values == ((None,) * 3 if fill == "null" else (7, 7, 7))
            elif fill == "previous":
                before = [{p: v for p, v in column.items() if p < at and v is not None} for column in columns]
                assert values == tuple(column[max(column)] if column else None for column in before)
            else:
                assert near(row["x_avg"], line(columns[0], at), Fraction(1, 10**6))
                assert near(row["x_min"], line(columns[1], at), Fraction(1))
                assert near(row["x_max"], line(columns[2], at), Fraction(1, 100))


def test_none_leaves_the_table_alone():
    table = table_of({"A": {0: (1.0, 1, Decimal(1)), 5: (2.0, 2, Decimal(2))}})
    assert filled(table, ["station"], BUCKETS, EVERYTHING, "none") is table


def test_no_rows_give_none_but_the_columns():
    found = filled(SCHEMA.empty_table(), ["station"], BUCKETS, Range(0, STEP), "linear")
    assert found.num_rows == 0
    assert found.column_names == [*SCHEMA.names, "filled"]


def test_compound_groups_are_filled_one_by_one():
    rows = [
        {"net": net, "station": station, "period_start": from_micros(at * STEP), "rows": 1}
        for net, station, at in [("a", "x", 0), ("a", "x", 2), ("a", "y", 0), ("b", "y", 1), ("b", "y", 3)]
    ]
    found = filled(pa.Table.from_pylist(rows), ["net", "station"], BUCKETS, Range(TIME_MIN, 4 * STEP), "null").to_pylist()
    counts = [(row["net"], row["station"], row["rows"]) for row in found]
    assert counts == [
        *[("a", "x", 1), ("a", "x", 0), ("a", "x", 1), ("a", "x", 0)],
        *[("a", "y", 1), ("a", "y", 0), ("a", "y", 0), ("a", "y", 0)],
        *[("b", "y", 1), ("b", "y", 0), ("b", "y", 1)],
    ]


def test_a_fill_that_would_not_end_is_refused():
    table = table_of({"A": {0: (1.0, 1, Decimal(1))}})
    wanted = Range(0, to_micros(datetime(2300, 1, 1, tzinfo=UTC)))
    with pytest.raises(InputError) as error:
        filled(table, ["station"], BUCKETS, wanted, "null")
    assert "filling gaps would make 173,563,200 rows of a group" in str(error.value)


def test_a_number_must_fit():
    table = table_of({"A": {0: (1.0, 1, Decimal(1))}})
    with pytest.raises(InputError) as error:
        filled(table, ["station"], BUCKETS, Range(0, 9 * STEP), Decimal("0.125"))
    assert "fill 0.125 does not fit into x_min (it holds int64)" in str(error.value)
