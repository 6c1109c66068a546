"""Values that no query can have: one sentence each, from whatever way of asking."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from tesseract.errors import InputError
from tests.unit.query_world import DATASET, START, World, values

AHEAD, BEHIND = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))


@pytest.fixture
def store():
    world = World()
    world.archive([(START + timedelta(minutes=i), values(i), False, START) for i in range(30)])
    world.progress(START + timedelta(days=10))
    return world.store


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": 5}, "start 5 is not a time"),
        ({"end": date(2026, 3, 1)}, "end datetime.date"),
        ({"start": "-999999999999d"}, "start '-999999999999d' lies beyond the years 1 to 9999"),
        ({"start": "0001-01-01T00:00:00+05:00"}, "lies beyond the years 1 to 9999"),
        ({"start": datetime(1, 1, 1, tzinfo=AHEAD)}, "lies beyond the years 1 to 9999"),
        ({"end": datetime(9999, 12, 31, 23, tzinfo=BEHIND)}, "lies beyond the years 1 to 9999"),
        ({"where": "valid_time < '9999-12-31T23:59:59-05:00'"}, "lies beyond the years 1 to 9999 at character 14"),
        ({"where": 5}, "where 5 is no text"),
        ({"limit": 2.5}, "limit 2.5 is no number of rows"),
        ({"limit": "3"}, "limit '3' is no number of rows"),
        ({"timeout": "5"}, "timeout '5' is no time"),
        ({"timeout": math.nan}, "timeout nan is no time"),
        ({"level": None}, "there is no level None"),
        ({"level": "daily", "tz": 5}, "there is no time zone 5 (write a name such as Europe/Zurich)"),
        ({"level": "daily", "tz": "+01:00"}, "there is no time zone '+01:00' (write a name such as Europe/Zurich)"),
        ({"level": "daily", "tz": "europe/zurich"}, "did you mean 'Europe/Zurich'?"),
        ({"fields": 5}, "fields 5 are no names"),
        ({"fields": ["temp", 5]}, "5 is no name of a field"),
        ({"group": 5.5}, "5.5 is not one"),
        ({"group": ["A", None]}, "None is not one"),
        ({"group": b"A"}, "b'A' is not one"),
        ({"group": (None,)}, "is not one"),
        ({"dataset": None}, "a dataset goes by its name, not None"),
    ],
)
def test_a_wrong_value_is_one_sentence(store, options, said):
    for ask in (store.query, store.scan, store.plan):
        with pytest.raises(InputError) as caught:
            ask(**{"dataset": "w", "group": "A"} | options)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": None}, "every None is no interval"),
        ({"every": 5}, "every 5 is no interval"),
        ({"every": "10000000y"}, "every '10000000y' is no interval that there is"),
        ({"every": "1h", "fill": 10**400}, "is no way to fill gaps"),
    ],
)
def test_a_wrong_interval_is_one_sentence(store, options, said):
    with pytest.raises(InputError) as caught:
        store.resample("w", "A", START, START + timedelta(hours=1), **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("options", [{"limit": 10**30}, {"timeout": math.inf}, {"timeout": 1e300, "limit": 10**20}])
def test_a_huge_number_is_no_bound(store, options):
    assert len(store.query("w", "A", **options)) == 30
    assert len(store.scan("w", "A", **options).read_all()) == 30


@pytest.mark.parametrize("level", ["raw", "hourly"])
def test_a_range_at_the_end_of_time_holds_nothing(store, level):
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for span in ((last, None), (None, first), (last, last), (first, first)):
        for options in ({}, {"limit": 5}, {"order": "desc", "limit": 5}):
            assert len(store.query("w", "A", *span, level=level, **options)) == 0
            assert len(store.scan("w", "A", *span, level=level, **options).read_all()) == 0


def test_a_statistic_of_a_field_that_nobody_declared_is_one_column_also_without_rows():
    world = World(replace(DATASET, unknown_fields="keep"))
    world.archive([(START, {"extra": 1}, False, START)])
    world.progress(START + timedelta(days=10))
    for end in (START + timedelta(hours=1), START):
        assert world.store.query("w", "A", START, end, level="hourly", fields=["extra_avg"]).column_names[3:] == ["extra_avg"]
