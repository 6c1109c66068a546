"""The laws of the algebra, and its results against plain recomputation."""

import math
import statistics
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.dataset import Level
from tesseract.errors import DamagedError
from tesseract.processing.aggregator import (
    Fields,
    State,
    correct,
    decode_state,
    encode_state,
    finish,
    fold,
    fold_all,
    identity,
    known,
    merge,
    retract,
    same,
    same_sums,
    shift,
    shown,
)
from tesseract.processing.field_state import aligned
from tesseract.storage.codec import shortest, storable

STATS = ("count", "sum", "avg", "std", "min", "max", "first", "last")
VALUE = st.one_of(
    st.integers(-(10**12), 10**12),
    st.floats(-1e6, 1e6).map(shortest).filter(storable),
    st.decimals("-1e9", "1e9", places=3, allow_nan=False),
)
RECORD = st.tuples(st.integers(0, 86_399_999_999), st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3))
RECORDS = st.lists(RECORD, max_size=12, unique_by=lambda record: record[0])


def folded(records):
    state = identity()
    for at, values in records:
        state = fold(state, values, at)
    return state


def plain(state: State):
    """What a state says, whatever the scale that it says it at."""
    return state.rows, {
        name: (finish(field, STATS), Fraction(field.squares, 100**field.scale), field.first_at, field.last_at)
        for name, field in state.fields.items()
        if field.n
    }


def digits(value: Fraction) -> int:
    """How many significant ones a decimal fraction has."""
    return len(str(value * 10**130).strip("-0"))


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(records, random):
    shuffled = records[:]
    random.shuffle(shuffled)
    assert folded(records) == folded(shuffled)


@given(RECORDS, st.integers(0, 12), st.integers(0, 12))
def test_the_merge_of_a_partition_is_the_fold_of_the_whole(records, first, second):
    a, b = sorted((first, second))
    parts = [folded(records[:a]), folded(records[a:b]), folded(records[b:])]
    assert merge(merge(parts[0], parts[1]), parts[2]) == folded(records)
    assert merge(parts[0], merge(parts[1], parts[2])) == folded(records)
    assert merge(parts[1], parts[0]) == merge(parts[0], parts[1])
    assert merge(identity(), folded(records)) == folded(records)


@given(RECORDS, RECORD)
def test_a_retracted_value_leaves_no_residue_in_the_sums(records, extra):
    at, values = extra
    before, after = folded(records), retract(fold(folded(records), values, at), values, at)
    assert same_sums(before, after)
    assert before.fields.keys() == after.fields.keys()


@given(RECORDS, st.integers(0, 11), st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3) | st.none())
def test_a_replaced_or_deleted_record_leaves_what_a_recomputation_gives_or_says_that_it_does_not_know(records, place, new):
    if not records:
        return
    place %= len(records)
    at, old = records[place]
    rest = records[:place] + records[place + 1 :]
    if new is None:
        found, wanted = retract(folded(records), old, at), folded(rest)
    else:
        found, wanted = correct(folded(records), old, new, at), folded([*rest, (at, new)])
    assert same_sums(found, wanted)
    assert same(found, wanted) or not known(found)
    for name, field in found.fields.items():
        mine, theirs = aligned(field, wanted.fields[name])
        for extreme in ("minimum", "maximum", "first", "last"):
            assert getattr(mine, extreme) in (None, getattr(theirs, extreme))


@given(RECORDS, RECORD)
def test_what_an_aggregate_does_not_hold_cannot_be_taken_out_of_an_empty_one(records, extra):
    at, values = extra
    with pytest.raises(DamagedError):
        retract(identity(), values, at)
    state = folded([(0, {"a": 5})])
    with pytest.raises(DamagedError):
        retract(state, {"a": 7}, 0)


def test_a_correction_keeps_the_extremes_that_it_tells():
    records = [(0, {"a": 1}), (1, {"a": 5}), (2, {"a": 3})]
    up = correct(folded(records), {"a": 5}, {"a": Decimal("7.5")}, 1)
    assert known(up)
    assert finish(up.fields["a"], ("min", "max", "first", "last")) == {"min": 1, "max": Decimal("7.5"), "first": 1, "last": 3}
    assert not known(correct(folded(records), {"a": 5}, {"a": 2}, 1))
    assert known(correct(folded(records), {"a": 3}, {"a": 4}, 2))
    assert not known(retract(folded(records), {"a": 3}, 2))
    assert known(retract(folded(records[:1]), {"a": 1}, 0))


@given(RECORDS, st.sets(st.sampled_from("abc")) | st.none(), st.sets(st.sampled_from("abc")))
def test_many_records_at_once_are_the_same_as_one_after_the_other(records, only, without):
    covered = Fields(None if only is None else frozenset(only), frozenset(without))
    state = identity()
    for at, values in records:
        state = fold(state, values, at, covered)
    assert fold_all(records, covered) == state


@given(RECORDS)
def test_the_wire_form_is_exact(records):
    state = folded(records)
    assert decode_state(encode_state(state)) == state
    assert plain(decode_state(encode_state(state))) == plain(state)


@given(RECORDS)
def test_the_results_are_those_of_recomputation(records):
    state = folded(records)
    assert state.rows == len(records)
    for name in "abc":
        series = [(at, values[name]) for at, values in sorted(records, key=lambda record: record[0]) if name in values]
        if not series:
            assert name not in state.fields
            continue
        exact = [Fraction(value) for _, value in series]
        result = finish(state.fields[name], STATS)
        assert result["count"] == len(series)
        assert Fraction(result["sum"]) == sum(exact) or (float(result["sum"]) == float(sum(exact)) and digits(sum(exact)) > 38)
        mean = sum(exact) / len(exact)
        assert result["avg"] is None if 0 < abs(mean) < Fraction("1e-130") else float(result["avg"]) == float(mean)
        assert (Fraction(result["min"]), Fraction(result["max"])) == (min(exact), max(exact))
        assert (result["first"], result["last"]) == (series[0][1], series[-1][1])
        if len(series) < 2:
            assert result["std"] is None
        else:
            expected = float(statistics.stdev(exact))
            assert result["std"] is None if 0 < expected < 1e-130 else math.isclose(result["std"], expected, rel_tol=1e-12)


def test_sums_of_39_digits_are_not_rounded():
    values = [Decimal("0.1234567890123456789"), Decimal("98765432109876543.21")]
    state = folded(list(enumerate({"x": value} for value in values)))
    assert Fraction(state.fields["x"].squares, 100 ** state.fields["x"].scale) == sum(Fraction(v) ** 2 for v in values)


@given(RECORDS, st.integers(0, 10**9))
def test_a_shift_moves_times_alone(records, micros):
    assert shift(folded(records), micros) == folded([(at + micros, values) for at, values in records])


def test_text_and_truth_count_as_rows_only_and_only_covered_fields_are_kept():
    state = fold(identity(), {"a": "text", "b": True, "c": 1, "d": 2}, 0, Fields(frozenset({"a", "c"})))
    assert state.rows == 1
    assert set(state.fields) == {"c"}


def test_shown_follows_the_level():
    level = Level("hourly", {"avg": ("a",), "count": ()})
    state = folded([(0, {"a": 1, "b": 2}), (1, {"a": 2})])
    assert shown(state, level) == {"a": {"count": 2, "avg": Decimal("1.5")}, "b": {"count": 1}}


@given(st.lists(st.one_of(st.floats(1e-130, 9.9e125), st.floats(-9.9e125, -1e-130)).map(shortest), min_size=2, max_size=8))
def test_statistics_are_what_an_item_holds_and_doubles_to_the_last_digit(values):
    state = identity()
    for value in values:
        state = fold(state, {"a": value}, 0)
    found = finish(state.fields["a"], STATS)
    assert all(value is None or storable(value) for value in found.values())
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    for name, wanted in (("sum", sum(exact)), ("avg", mean)):
        if found[name] is not None:
            assert float(found[name]) == float(wanted)
    if found["std"] is not None:
        assert abs(Fraction(found["std"]) ** 2 - variance) <= variance * Fraction(1, 10**15)


def test_a_sum_of_more_digits_than_an_item_holds_is_the_nearest_double_and_one_beyond_its_range_is_none():
    state = fold(fold(identity(), {"a": Decimal("1e40")}, 0), {"a": Decimal("1e-40")}, 1)
    assert finish(state.fields["a"], ("sum",)) == {"sum": Decimal("1e40")}
    state = fold(fold(identity(), {"a": Decimal("9e125")}, 0), {"a": Decimal("9e125")}, 1)
    assert finish(state.fields["a"], ("sum", "avg")) == {"sum": None, "avg": Decimal("9e125")}
