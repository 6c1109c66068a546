"""Keys cannot be forged, values come back as they went in."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.config.dataset import Dataset
from tesseract.errors import InputError
from tesseract.model import Record
from tesseract.storage import keys
from tesseract.storage.codec import (
    from_wire,
    item_from_wire,
    item_to_wire,
    number_text,
    number_value,
    shortest,
    storable,
    to_wire,
)
from tesseract.storage.items import HOLD, expires_at, raw_item, records_of
from tesseract.utils.time_utils import EPOCH, from_iso, iso_micros

TEXT = st.text(min_size=1, max_size=20).filter(lambda text: not any(0xD800 <= ord(char) <= 0xDFFF for char in text))
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
DATASET = Dataset("weather", 1, ("station",), "time", "ref", "keep", 168, ("daily",), ())
NUMBERS = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20),
    st.floats(allow_nan=False, allow_infinity=False).map(shortest).filter(storable),
)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3), MOMENTS)
def test_a_raw_key_says_what_it_was_made_of(dataset, parts, moment):
    group = keys.join_group(parts)
    pk, sk = keys.raw_key(dataset, group, moment)
    assert pk.count("#") == 2
    assert keys.split_raw_key(pk, sk) == (dataset, group, moment)
    assert keys.split_group(group) == tuple(parts)


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_two_groups_have_two_keys(left, right):
    assert (keys.join_group(left) == keys.join_group(right)) == (left == right)


@given(MOMENTS, MOMENTS)
def test_sort_keys_are_in_the_order_of_time(left, right):
    assert (iso_micros(left) < iso_micros(right)) == (left < right)
    assert len(iso_micros(left)) == 27
    assert from_iso(iso_micros(left)) == left


@given(NUMBERS)
def test_numbers_come_back_equal_and_equal_numbers_are_equal_text(number):
    assert number_value(number_text(number)) == number
    assert number_text(Decimal(number)) == number_text(number_value(number_text(number)))


@pytest.mark.parametrize("number", [10**38 + 1, Decimal("1e126"), Decimal("1e-131"), Decimal("NaN"), Decimal("Infinity")])
def test_a_number_that_dynamodb_cannot_hold_is_refused(number):
    with pytest.raises(InputError, match="does not fit"):
        number_text(number)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=10), st.binary(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_an_item_survives_the_wire(item):
    assert item_from_wire(item_to_wire(item)) == item


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value or 1e-130 <= abs(value) <= 9e125))
def test_a_double_comes_back_as_the_same_double(value):
    assert float(from_wire(to_wire(shortest(value)))) == value


@given(MOMENTS, MOMENTS.filter(lambda moment: moment.year < 9000))
def test_a_raw_item_outlives_the_export_that_must_find_it_and_its_age(valid, now):
    expiry = EPOCH + timedelta(seconds=expires_at(valid, timedelta(hours=168), now))
    assert expiry >= now + HOLD
    if valid.year < 9999:
        assert expiry >= valid + timedelta(hours=168)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 1, 23, 59, 59, 999999)), MOMENTS)
def test_the_same_record_on_the_same_day_is_the_same_item(now, valid):
    record = Record("KJFK", valid, None, {"temp": Decimal("1.5")})
    first = raw_item(DATASET, record, datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
    again = raw_item(DATASET, record, now.replace(tzinfo=UTC, microsecond=1))
    assert first == again
    assert records_of(first, "KJFK") == [record]
