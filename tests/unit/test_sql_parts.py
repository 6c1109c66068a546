"""What a filter of SQL makes us read: every row that it is true for, nothing twice, and no more than its literals tell."""

from __future__ import annotations

import operator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.query import sql_parts
from tesseract.query.plan import EVERYTHING, TIME_MAX, TIME_MIN, Range
from tesseract.query.sql_parts import Part, columns, parts
from tesseract.storage.arrow_types import TIMESTAMP
from tesseract.storage.keys import join_group, split_group
from tesseract.utils.time_utils import from_micros, to_micros

SCHEMA = pa.schema(
    [("net", pa.string()), ("station", pa.string()), ("valid_time", TIMESTAMP), ("n", pa.int64()), ("note", pa.string())]
)
GROUP = ("net", "station")
TEXTS = ["", "A", "B", "C/1", "ü"]
KNOWN = [join_group((net, station)) for net in TEXTS[1:] for station in TEXTS[1:]]
f = pc.field


def at(micros):
    return pa.scalar(from_micros(micros), TIMESTAMP)


def day(number):
    return to_micros(datetime(2026, 1, number, tzinfo=UTC))


def is_in(name, values):
    """As DuckDB writes `in`."""
    return pc.if_else(
        pc.is_valid(f(name)), pc.is_in(f(name), value_set=pa.array(values, SCHEMA.field(name).type)), pa.scalar(None, pa.bool_())
    )


def found(condition, known=KNOWN):
    return parts(condition, SCHEMA, GROUP, "valid_time", lambda: known)


def refuse():
    raise AssertionError("the groups were listed")


# the law ---------------------------------------------------------------------------------------------------------------

VALUES = {
    "net": st.sampled_from(TEXTS),
    "station": st.sampled_from(TEXTS),
    "valid_time": st.integers(-3, 3).map(from_micros),
    "n": st.integers(0, 3),
    "note": st.sampled_from(TEXTS),
}
COMPARE = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)


def scalar(name, value):
    return pa.scalar(value, SCHEMA.field(name).type)


@st.composite
def leaves(draw):
    name = draw(st.sampled_from(SCHEMA.names))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return is_in(name, draw(st.lists(VALUES[name], min_size=1, max_size=3)))
    if kind == 1:
        return draw(st.sampled_from([f(name).is_valid(), f(name).is_null()]))
    return draw(st.sampled_from(COMPARE))(f(name), scalar(name, draw(VALUES[name])))


CONDITIONS = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: two[0] & two[1]),
        st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
        inner.map(operator.inv),
    ),
    max_leaves=6,
)
ROWS = pa.Table.from_pylist(
    [
        {
            "net": net,
            "station": station,
            "valid_time": from_micros(micros),
            "n": None if number == 3 else number,
            "note": TEXTS[number],
        }
        for net, station in map(split_group, KNOWN)
        for micros in range(-4, 5)
        for number in range(4)
    ],
    SCHEMA,
)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, st.sampled_from([2, 64]))
def test_every_row_that_a_condition_is_true_for_is_read_once(condition, moments):
    original, sql_parts.MOMENTS = sql_parts.MOMENTS, moments
    try:
        pieces = found(condition)
    finally:
        sql_parts.MOMENTS = original
    for row in (
        ROWS.filter(condition)
        .select(["net", "station", "valid_time"])
        .group_by(["net", "station", "valid_time"])
        .aggregate([])
        .to_pylist()
    ):
        key, micros = join_group((row["net"], row["station"])), to_micros(row["valid_time"])
        covers = [
            part for part in pieces if (part.groups is None or key in part.groups) and part.span.start <= micros < part.span.end
        ]
        assert len(covers) == 1, (row, pieces)


@settings(max_examples=80, deadline=None)
@given(CONDITIONS)
def test_the_columns_of_a_condition_are_those_it_looks_at(condition):
    names = columns(condition, SCHEMA)
    assert ROWS.select(names).filter(condition).num_rows == ROWS.filter(condition).num_rows
    assert all(f"{name} " in f"{condition}" or f"{name}," in f"{condition}" or f"{name})" in f"{condition}" for name in names)


# what is read ----------------------------------------------------------------------------------------------------------


def test_without_a_condition_everything_is_read():
    assert parts(None, SCHEMA, GROUP, "valid_time", refuse) == [Part(None, EVERYTHING)]
    assert columns(None, SCHEMA) == []


@pytest.mark.parametrize(
    ("condition", "span"),
    [
        (f("valid_time") >= at(day(3)), Range(day(3), TIME_MAX)),
        (f("valid_time") > at(day(3)), Range(day(3) + 1, TIME_MAX)),
        (f("valid_time") < at(day(3)), Range(TIME_MIN, day(3))),
        (f("valid_time") <= at(day(3)), Range(TIME_MIN, day(3) + 1)),
        (f("valid_time") == at(day(3)), Range(day(3), day(3) + 1)),
        ((f("valid_time") >= at(day(3))) & (f("valid_time") < at(day(5))) & (f("n") > 7), Range(day(3), day(5))),
        (f("n") > 7, EVERYTHING),
        (f("note") == "A", EVERYTHING),
    ],
)
def test_a_range_of_time_is_found_to_the_microsecond(condition, span):
    assert parts(condition, SCHEMA, GROUP, "valid_time", refuse if "note" not in str(condition) else lambda: KNOWN) == [
        Part(None, span)
    ]


def test_several_ranges_stay_several():
    inside = ((f("valid_time") >= at(day(3))) & (f("valid_time") < at(day(4)))) | (f("valid_time") == at(day(9)))
    assert [part.span for part in found(inside)] == [Range(day(3), day(4)), Range(day(9), day(9) + 1)]


def test_of_very_many_ranges_the_nearest_are_read_as_one():
    times = [from_micros(day(3) + 1000 * place * place) for place in range(500)]
    pieces = found(is_in("valid_time", times))
    assert len(pieces) <= sql_parts.SPANS
    assert all(any(part.span.start <= to_micros(time) < part.span.end for part in pieces) for time in times)


def test_groups_that_are_named_are_not_looked_for():
    one = (f("net") == "A") & (f("station") == "C/1")
    assert parts(one, SCHEMA, GROUP, "valid_time", refuse) == [Part(("A/C%2F1",), EVERYTHING)]
    several = is_in("net", ["A", "new"]) & is_in("station", ["A"])
    assert parts(several, SCHEMA, GROUP, "valid_time", refuse) == [Part(("A/A", "new/A"), EVERYTHING)]
    pairs = ((f("net") == "A") & (f("station") == "B")) | ((f("net") == "B") & (f("station") == "A"))
    assert parts(pairs, SCHEMA, GROUP, "valid_time", refuse) == [Part(("A/B", "B/A"), EVERYTHING)]


def test_groups_that_are_described_are_found_among_those_that_there_are():
    assert found(f("net") == "A", ["A/A", "A/B", "B/A"]) == [Part(("A/A", "A/B"), EVERYTHING)]
    assert found((f("station") > "A") & (f("station") < "C"), ["A/A", "A/B", "B/C%2F1"]) == [Part(("A/B",), EVERYTHING)]
    assert found(f("net") != "A", ["A/A", "B/A"]) == [Part(("B/A",), EVERYTHING)]


def test_each_group_has_its_own_range():
    early, late = f("valid_time") < at(day(3)), f("valid_time") >= at(day(5))
    a, b = ((f("net") == "A") & (f("station") == name) for name in ("A", "B"))
    assert sorted(parts((a & early) | (b & late), SCHEMA, GROUP, "valid_time", refuse)) == [
        Part(("A/A",), Range(TIME_MIN, day(3))),
        Part(("A/B",), Range(day(5), TIME_MAX)),
    ]


@pytest.mark.parametrize(
    "condition",
    [
        pc.scalar(False),
        f("valid_time").is_null(),
        (f("valid_time") < at(day(3))) & (f("valid_time") > at(day(5))),
        (f("net") == "A") & (f("net") == "B"),
        (f("net") == "") & (f("station") == "A"),
        (f("net") == "A") & (f("station") == "x" * 500),  # no key of DynamoDB is so long
    ],
)
def test_what_no_row_can_satisfy_is_not_read(condition):
    assert all(part.groups == () for part in parts(condition, SCHEMA, GROUP, "valid_time", lambda: KNOWN))


def test_without_literals_everything_is_read(monkeypatch):
    monkeypatch.setattr(pa.ipc, "open_file", lambda _: (_ for _ in ()).throw(pa.ArrowInvalid("another form")))
    assert parts((f("net") == "A") & (f("valid_time") == at(day(3))), SCHEMA, GROUP, "valid_time", refuse) == [
        Part(None, EVERYTHING)
    ]
