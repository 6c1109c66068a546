"""Conditions: the grammar with one sentence for each mistake, equal to a plain reading of them row by row, and safe to prune by."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from tesseract.config.dataset import Field
from tesseract.errors import InputError
from tesseract.model import Segment
from tesseract.query.plan import DaySlice, Range, RawPlan, SegmentSlice
from tesseract.query.where import contested, parse, prunes
from tesseract.query.where_text import leaves, shown
from tesseract.storage.codec import shortest
from tesseract.storage.columns import TIMESTAMP
from tests.unit.query_world import DATASET

HOURLY = DATASET.levels[0]
NUMBER = 2**53
BIG = 10**36
KINDS = {
    "n": pa.int64(), "x": pa.float64(), "d": pa.decimal128(38, 2), "w": pa.decimal128(38, 0),
    "s": pa.string(), "b": pa.bool_(), "t": TIMESTAMP,
}  # fmt: skip
T0 = datetime(2026, 3, 1, tzinfo=UTC)
DOUBLES = [0.1, 0.2, 0.30000000000000004, -0.0, 1.5, 2.0, 1e300, -1e300, 5e-324, float(NUMBER)]
VALUES = {
    "n": st.sampled_from([0, 1, 2, 3, NUMBER, NUMBER + 1, 2**63 - 1, -(2**63)]),
    "x": st.sampled_from(DOUBLES),
    "d": st.sampled_from([Decimal(text) for text in ("0", "0.01", "0.1", "1.5", "2", "-7.25", "9" * 36 + ".99")]),
    "w": st.sampled_from([Decimal(number) for number in (0, 2, 3, 10**38 - 1, 1 - 10**38, BIG)]),
    "s": st.sampled_from(["", "a", "B", "b", "it's", "ü", "\ud7ff", "\U0001f600", "10", "2"]),
    "b": st.booleans(),
    "t": st.sampled_from([T0, T0 + timedelta(microseconds=1), T0 + timedelta(days=1)]),
}  # fmt: skip
NUMBERS = [
    "0",
    "1",
    "2",
    "2.5",
    "0.1",
    "0.10000000000000000000001",
    "0.3",
    "0.30000000000000004",
    "0.300000000000000041",
    "1e300",
    "1.5",
]
NUMBERS += [
    "1e399",
    "-1e399",
    "5e-324",
    "1e-400",
    "9007199254740992.5",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
]
NUMBERS += [
    "-9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999999999999999999",
    "1e38",
    "0.011",
    "1.50",
    "+2",
    "-7.25",
]
LITERALS = {
    **dict.fromkeys("nxdw", st.sampled_from(NUMBERS)),
    "s": VALUES["s"].map(shown),
    "b": st.sampled_from(["true", "FALSE", "True"]),
    "t": st.sampled_from(["'2026-03-01'", "'2026-03-01T01:00:00+01:00'", "'2026-03-01T00:00:00.000001Z'", "'2026-03-02T00:00Z'"]),
}


@st.composite
def comparison(draw):
    column = draw(st.sampled_from(sorted(KINDS)))
    value = lambda: draw(LITERALS[column])
    form = draw(st.sampled_from(["sign", "turned", "in", "between", "null"]))
    sign = draw(st.sampled_from(["=", "!="] if column == "b" else ["=", "==", "!=", "<>", "<", "<=", ">", ">="]))
    inverted = draw(st.sampled_from(["", "not "]))
    if form == "null":
        return f"{column} is {inverted}null"
    if form == "in":
        return f"{column} {inverted}in ({', '.join(draw(st.lists(LITERALS[column], min_size=1, max_size=4)))})"
    if form == "between" and column != "b":
        return f'"{column}" {inverted}BETWEEN {value()} And {value()}'
    return f"{value()} {sign} {column}" if form == "turned" else f"{column}{sign}{value()}"


def joined(parts):
    pair = st.tuples(parts, st.sampled_from(["and", "or", "AND"]), parts).map(lambda three: f"({three[0]}) {three[1]} {three[2]}")
    return pair | parts.map(lambda part: f"not ({part})")


conditions = st.recursive(comparison(), joined, max_leaves=6)
rows = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})


def by_hand(text, row):
    """The condition by Python's own reading of it: an evaluator of another make, with SQL's three values."""
    tokens = _split(text)
    result, left = _or(tokens, row)
    assert not left
    return result is True


def _split(text):
    found, word, quote = [], "", ""
    for character in text:
        if quote:
            word += character
            quote = "" if character == quote else quote
        elif character in "'\"":
            word, quote = word + character, character
        elif character in " ,()=<>!":
            found += [word] if word else []
            word = ""
            if character in "<>=!" and found and found[-1] in ("<", ">", "=", "!"):
                found[-1] += character
            elif character.strip():
                found.append(character)
        else:
            word += character
    return [*found, word] if word else found


def _or(tokens, row):
    result, tokens = _and(tokens, row)
    while tokens and tokens[0].lower() == "or":
        other, tokens = _and(tokens[1:], row)
        result = True if True in (result, other) else None if None in (result, other) else False
    return result, tokens


def _and(tokens, row):
    result, tokens = _not(tokens, row)
    while tokens and tokens[0].lower() == "and":
        other, tokens = _not(tokens[1:], row)
        result = False if False in (result, other) else None if None in (result, other) else True
    return result, tokens


def _not(tokens, row):
    if tokens[0] == "not":
        result, tokens = _not(tokens[1:], row)
        return None if result is None else not result, tokens
    if tokens[0] == "(":
        result, tokens = _or(tokens[1:], row)
        return result, tokens[1:]
    return _leaf(tokens, row)


def _leaf(tokens, row):
    name = tokens[0].strip('"')
    if name not in KINDS:
        value, sign, name, *rest = tokens
        return _compare(_literal(value, name), sign, _stored(row[name])), rest
    stored, second = _stored(row[name]), tokens[1].lower()
    if second == "is":
        inverted = tokens[2] == "not"
        return (stored is None) != inverted, tokens[3 + inverted :]
    inverted = second == "not"
    rest = tokens[1 + inverted :]
    word = rest[0].lower()
    if word == "in":
        close = rest.index(")")
        found = None if stored is None else any(_literal(value, name) == stored for value in rest[2:close] if value != ",")
        return None if found is None else found != inverted, rest[close + 1 :]
    if word == "between":
        found = None if stored is None else _literal(rest[1], name) <= stored <= _literal(rest[3], name)
        return None if found is None else found != inverted, rest[4:]
    return _compare(stored, rest[0], _literal(rest[1], name)), rest[2:]


def _stored(value):
    return shortest(value) if isinstance(value, float) else value


def _literal(text, name):
    if name in "nxdw":
        return Decimal(text)
    if name == "b":
        return text.lower() == "true"
    plain = text[1:-1].replace("''", "'")
    if name == "s":
        return plain
    moment = datetime.fromisoformat(plain)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _compare(left, sign, right):
    if left is None or right is None:
        return None
    match sign:
        case "=" | "==":
            return left == right
        case "!=" | "<>":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
    return left >= right


def table_of(found):
    return pa.table({name: pa.array([row[name] for row in found], kind) for name, kind in KINDS.items()})


@given(conditions, st.lists(rows, max_size=6))
@example("x < 0.30000000000000004 and not (x = 0.1)", [dict.fromkeys(KINDS), dict.fromkeys(KINDS) | {"x": 0.1}])
def test_a_condition_selects_the_rows_that_a_reading_by_hand_does(text, found):
    where = parse(text)
    table = table_of(found)
    assert where.filter(table).to_pylist() == [row for row in table.to_pylist() if by_hand(text, row)]
    assert set(where.columns) <= set(KINDS)


@given(conditions, st.lists(rows, min_size=1, max_size=6), st.data())
def test_what_is_left_out_by_bounds_has_no_row_that_satisfies(text, found, data):
    where = parse(text)
    table = table_of(found)
    bounds = {}
    for name in KINDS:
        own = [row[name] for row in found if row[name] is not None]
        known = data.draw(st.sampled_from(["all", "all", "all", "no counts", "nothing"]))
        counts = (len(found) - len(own), len(found)) if known == "all" else (None, None)
        if known != "nothing":
            bounds[name] = (min(own, default=None), max(own, default=None), *counts)
    if len(where.filter(table)):
        assert where.possible(bounds)


def test_bounds_leave_out_what_they_can():
    def possible(text, low, high, nulls=0):
        return parse(text).possible({"x": (low, high, nulls, 9)})

    assert [possible("x > 20", low, high) for low, high in ((0, 19), (0, 20), (0, 21), (0.0, 20.5))] == [False, False, True, True]
    assert [possible("x in (1, 5)", low, high) for low, high in ((2, 4), (4, 5), (6, 9))] == [False, True, False]
    assert [possible("x != 1", low, high) for low, high in ((1, 1), (1, 2))] == [False, True]
    assert [possible("x between 3 and 4", low, high) for low, high in ((1, 2), (5, 6), (1, 9))] == [False, False, True]
    assert [possible("x < 1 or x = 'b'", low, high) for low, high in (("a", "c"), (2, 3))] == [True, True]
    assert not possible("x = 'b' and x is not null", "c", "d")
    assert not possible("x > 0", None, None, 9)
    assert possible("x is null", 1, 2)
    assert possible("x > 0", None, None)
    assert possible("x > 0", math.nan, math.nan)
    assert possible("x = 9007199254740992", NUMBER + 1, NUMBER + 1)  # as a double it may read so
    assert parse("x > 0").possible({})
    station = parse("station = 'A' and temp > 3")
    assert [station.possible({"station": (name, name, 0, 1)}) for name in "AB"] == [True, False]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5), st.booleans()), max_size=6))
def test_contested_are_the_times_of_more_than_one_slice(slices):
    archive, buffer = [], []
    for start, length, is_file in slices:
        if is_file:
            segment = Segment("k", "daily", 0, 99, 1, 1, start, start + length - 1, 0, 0, 0, "")
            archive.append(SegmentSlice(segment, start, start + length))
        else:
            buffer.append(DaySlice(0, start, start + length))
    found = contested(RawPlan("A", (Range(0, 99),), tuple(buffer), tuple(archive)))
    times = [sum(start <= at < start + length for start, length, _ in slices) for at in range(20)]
    assert [any(span.start <= at < span.end for span in found) for at in range(20)] == [count > 1 for count in times]
    assert all(left.end <= right.start for left, right in pairwise(found))


def test_a_row_group_is_left_out_only_where_nothing_else_has_its_time():
    def at(hour):
        return T0 + timedelta(hours=hour)

    micros = lambda hour: round((at(hour) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    segment = Segment("k", "daily", 0, 99, 1, 1, micros(0), micros(8) - 1, 0, 0, 0, "")
    plan = RawPlan(
        "A",
        (Range(0, 99),),
        (DaySlice(0, micros(4), micros(6)),),
        (SegmentSlice(segment, micros(0), micros(8)),),
    )
    may = prunes(parse("x > 5"), plan)
    low = {"x": (1, 2, 0, 9)}
    hours = [may({**low, "valid_time": (at(start), at(start + 1), 0, 9)}) for start in range(8)]
    assert hours == [False, False, False, True, True, True, False, False]
    assert may(low)
    assert may({"x": (1, 9, 0, 9), "valid_time": (at(0), at(1), 0, 9)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no condition at character 1"),
        ("temp >", "expected a value instead of the end at character 7"),
        ("temp > 20 30", "expected `and`, `or` or the end instead of '30' at character 11"),
        ("valid_time > 2026-03-01", "at character 18 (times go in single quotes)"),
        ("wind-speed > 2", "'-speed' is not a number at character 5"),
        ('note = "abc"', "a text goes in single quotes: 'abc'"),
        ("note = abc", "a text goes in single quotes: 'abc'"),
        ("temp = null", "write `is null` or `is not null`"),
        ("temp", "expected a comparison after 'temp' instead of the end"),
        ("(temp > 1", "the `)` of the one at character 1 instead of the end"),
        ("temp > 1)", "instead of ')' at character 9"),
        ("5 < temp < 7", "write temp between … and …"),
        ("note = 'abc", "no closing ' for the one at character 8"),
        ("temp in (1 2)", "expected `,` or `)` instead of '2' at character 12"),
        ("temp in 1", "expected `(` and the values after `in` instead of '1'"),
        ("temp in ()", "expected a value instead of ')'"),
        ("temp between 1 or 2", "expected `and` after between 1 instead of 'or'"),
        ("temp not > 5", "expected `in` or `between` instead of '>'"),
        ("temp is 5", "for a value write temp = …"),
        ("temp is not 5", "expected `null` or `not null` instead of '5'"),
        ("not", "expected a column instead of the end"),
        ("1 = 1", "one side of a comparison is a column"),
        ("temp > 1e999", "the number 1e999… is beyond every value"),
        ("temp % 2", "'%' cannot be read at character 6"),
        ("temp = 5x", "'5x' is not a number at character 8"),
        ("(" * 60, "more than 50 parentheses are open at character 51"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(text, says):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith("where: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("tmep > 5", None, "dataset w has no column 'tmep' (did you mean 'temp'?)"),
        ("zz > 5", None, "(columns: station, valid_time, ref_time, temp, n, note, ok)"),
        ("__deleted = true", None, "no column '__deleted'"),
        ("temp > 'x'", None, "column 'temp' is a number, unlike 'x' at character 8 (write temp > 20)"),
        ("note > 5", None, "column 'note' is text, unlike 5 at character 8 (write note = '5')"),
        ("note in ('a', 5)", None, "column 'note' is text, unlike 5"),
        ("ok = 1", None, "column 'ok' is true or false, unlike 1"),
        ("ok > true", None, "column 'ok' is true or false and has no order: > true at character 6 (use = or !=)"),
        ("valid_time > 'soon'", None, "column 'valid_time' is a time, unlike 'soon' at character 14"),
        ("valid_time > 5", None, "column 'valid_time' is a time, unlike 5"),
        ("valid_time > '2026-03-01T00:00:00'", None, "has no time zone at character 14 (write '2026-03-01T00:00:00Z' for UTC"),
        ("temp > 5", HOURLY, "'temp' is a field, and level hourly has its statistics (columns of it: temp_count, temp_sum"),
        ("note = 'x'", HOURLY, "this level has no numbers of it"),
        ("tempavg > 5", HOURLY, "no column 'tempavg' at level hourly (did you mean 'temp_avg'?)"),
        ("valid_time > '2026-03-01'", HOURLY, "no column 'valid_time' at level hourly"),
    ],
)
def test_columns_and_values_are_checked_before_anything_is_read(text, level, says):
    with pytest.raises(InputError) as caught:
        parse(text).key_form(DATASET, level)
    assert says in str(caught.value)


def test_names_become_keys_and_times_moments():
    fields = {
        **DATASET.fields,
        "temp": replace(DATASET.fields["temp"], name="temperature"),
        "wind.speed": Field("float", "wind.speed"),
    }
    dataset = replace(DATASET, fields=fields)
    where = parse("temperature > 2 and wind.speed < 3 and station = 'A' and valid_time >= '2026-03-01'").key_form(dataset, None)
    assert where.columns == ("temp", "wind.speed", "station", "valid_time")
    assert leaves(where.node)[3].value == T0
    assert parse("temperature_avg > 2 and rows > 1").key_form(dataset, HOURLY).columns == ("temp_avg", "rows")
    with pytest.raises(InputError, match="has no field 'temp' any more \\(it is 'temperature' now\\)"):
        parse("temp > 2").key_form(dataset, None)
    table = pa.table({"wind.speed": pa.array([1.0, 5.0])})
    assert parse("wind.speed < 3").filter(table).num_rows == 1


def test_fields_that_nobody_declared_are_seen_once_they_are_there():
    dataset = replace(DATASET, unknown_fields="keep")
    where = parse("extra > 5 or other is null").key_form(dataset, None)
    assert where.filter(pa.table({"extra": [1, 7], "other": ["a", "b"]}))["extra"].to_pylist() == [7]
    assert where.filter(pa.table({"extra": pa.nulls(2)})).num_rows == 2
    with pytest.raises(InputError, match="column 'extra' is text, unlike 5 at character 9"):
        where.expression(pa.schema({"extra": pa.string()}))


def test_a_count_that_is_absent_is_none():
    table = pa.table({"temp_count": pa.array([None, 0, 2], pa.int64())})

    def passing(text):
        return parse(text).key_form(DATASET, HOURLY).filter(table).num_rows

    assert [passing(f"temp_count {sign} 0") for sign in ("=", "!=", "<", "<=", ">", ">=")] == [2, 1, 0, 2, 1, 3]
    assert [passing(f"temp_count {rest}") for rest in ("in (0, 7)", "not in (0)", "is null", "is not null")] == [2, 1, 0, 3]
    assert [passing(f"not (temp_count {rest})") for rest in ("= 0", "is null", "between 0 and 1")] == [1, 3, 1]


def test_long_conditions_are_not_deep():
    text = " or ".join(f"x = {number}" for number in range(1000))
    assert parse(text).filter(pa.table({"x": [999, 1000]})).to_pylist() == [{"x": 999}]
    assert parse(f"x in ({', '.join(map(str, range(5000)))})").filter(pa.table({"x": [4999, 5000]})).num_rows == 1


def test_words_that_are_columns_go_in_double_quotes():
    table = pa.table({"in": [1, 2], 'a"b-c': [1, 3], "not": [True, False]})
    assert parse('"in" = 2 and "a""b-c" in (3) and not "not" = true').filter(table).num_rows == 1
