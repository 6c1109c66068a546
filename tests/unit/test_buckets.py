"""Intervals of any step on any clock: they cover time without overlap, and are cut where the clock on the wall says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.tiers import UNITS
from tesseract.errors import InputError
from tesseract.query.buckets import calendar, parse
from tesseract.query.plan import DAY, TIME_MAX, TIME_MIN, ceiling, floor
from tesseract.utils.time_utils import from_micros, to_micros

HOUR = 3600 * 1_000_000
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # puts its clock back at 1:00, so midnight comes twice
    "America/Sao_Paulo",  # put its clock forward at midnight until 2018
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Casablanca",
    "Pacific/Apia",  # had no 30 December 2011
    "UTC",
]
MOMENT = st.integers(to_micros(datetime(1880, 1, 1, tzinfo=UTC)), to_micros(datetime(2100, 1, 1, tzinfo=UTC)))
NEAR = st.datetimes(datetime(2009, 1, 1), datetime(2020, 1, 1)).map(lambda at: to_micros(at.replace(tzinfo=UTC)))
MOMENTS = st.lists(st.one_of(NEAR, MOMENT), min_size=1, max_size=8)
STEPS = ["90s", "7min", "15min", "45min", "1h", "2h", "5h", "6h", "12h", "1d", "3d", "1w", "2w", "1mo", "3mo", "1y", "4y"]


@given(st.sampled_from(sorted(UNITS)), st.lists(MOMENT, min_size=1, max_size=20))
def test_calendar_units_are_those_of_the_tiers(name, moments):
    buckets, times = calendar(name), np.array(sorted(moments))
    assert buckets.starts(times).tolist() == [floor(UNITS[name], at) for at in times.tolist()]
    for at in times.tolist()[:3]:
        assert buckets.ceiling(at) == ceiling(UNITS[name], at)
        assert buckets.within(at, at + 800 * DAY)[:5].tolist() == [
            to_micros(period.start)
            for period, _ in zip(UNITS[name].periods(from_micros(at), from_micros(at + 800 * DAY)), range(5), strict=False)
        ]


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(STEPS), MOMENTS, st.integers(0, 30))
def test_the_start_of_a_time_is_the_last_edge_before_it(zone, step, moments, days):
    buckets = parse(step, zone)
    moments = [at for at in moments if abs(at - moments[0]) < 20 * 365 * DAY]
    times = np.array(sorted({*moments, moments[0] + days * DAY, moments[0] + HOUR}))
    starts = buckets.starts(times)
    for at, start in zip(times.tolist(), starts.tolist(), strict=True):
        edges = buckets.within(start - 2 * buckets.length, at + 1)
        assert (np.diff(edges) > 0).all()
        assert edges[-1] == start <= at
        assert buckets.starts(np.array([start])).tolist() == [start]
        assert buckets.starts(np.array([at])).tolist() == [start]
        assert buckets.ceiling(start) == start
        assert buckets.ceiling(start + 1) > at


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(["1d", "1w", "1mo", "1y"]), MOMENTS)
def test_days_begin_with_their_first_moment_on_the_wall(zone, step, moments):
    info = ZoneInfo(zone)

    def label(micros: int) -> tuple[int, ...]:
        day = from_micros(micros).astimezone(info).date()
        parts = {"1d": day.timetuple()[:3], "1w": day.isocalendar()[:2], "1mo": (day.year, day.month), "1y": (day.year,)}
        return tuple(parts[step])

    buckets, times = parse(step, zone), sorted(moments)
    for at in times:
        (start,) = buckets.starts(np.array([at])).tolist()
        assert label(start) <= label(at)
        assert label(start - 1) < label(at) or label(start - 1) > label(start)  # the wall went back to the day before
        shown = from_micros(start).astimezone(info).replace(tzinfo=None)
        assert label(start) == label(at)
        assert (shown.hour, shown.minute) == (0, 0) or label(start - 1) < label(start)


def local(zone: str, text: str, fold: int = 0) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC))


def lengths(step: str, zone: str, start: str, end: str) -> list[float]:
    edges = parse(step, zone).within(local(zone, start), local(zone, end) + 1)
    return [gap / HOUR for gap in np.diff(edges).tolist()]


def test_days_of_23_and_25_hours():
    assert lengths("1d", "Europe/Berlin", "2024-03-29", "2024-04-02") == [24, 24, 23, 24]
    assert lengths("1d", "Europe/Berlin", "2024-10-25", "2024-10-29") == [24, 24, 25, 24]
    assert lengths("1w", "America/New_York", "2024-10-28", "2024-11-11") == [169, 168]
    assert lengths("1d", "Pacific/Apia", "2011-12-28", "2012-01-01") == [24, 24, 24]  # no 30th
    assert lengths("1d", "America/Havana", "2024-11-02", "2024-11-05") == [24, 25, 24]


def test_steps_of_less_than_a_day():
    assert lengths("6h", "Europe/Berlin", "2024-10-27", "2024-10-28") == [7, 6, 6, 6]
    assert lengths("6h", "Europe/Berlin", "2024-03-31", "2024-04-01") == [5, 6, 6, 6]
    assert lengths("1h", "Europe/Berlin", "2024-10-27", "2024-10-28") == [1] * 25
    assert lengths("1h", "Europe/Berlin", "2024-03-31", "2024-04-01") == [1] * 23
    assert lengths("2h", "Europe/Berlin", "2024-10-27T00:00", "2024-10-27T06:00") == [2, 1, 2, 2]  # 02:00 comes twice
    assert lengths("2h", "Europe/Berlin", "2024-03-31T00:00", "2024-03-31T06:00") == [2, 1, 2]  # 02:00 does not come


def test_what_a_coarser_interval_can_be_merged_from():
    start, end = (to_micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (2010, 2020))
    assert parse("6h").divisible(HOUR, start, end)
    assert not parse("90min").divisible(HOUR, start, end)
    assert parse("1mo").divisible(DAY, start, end)
    assert parse("2w").divisible(DAY, start, end)
    assert not parse("1d", "Europe/Berlin").divisible(DAY, start, end)
    assert parse("1mo", "Europe/Berlin").divisible(HOUR, start, end)
    assert not parse("1d", "Asia/Kolkata").divisible(HOUR, start, end)
    assert parse("1d", "Asia/Kolkata").divisible(HOUR // 4, start, end)
    assert not parse("1d", "Australia/Lord_Howe").divisible(HOUR, start, end)


def test_open_ends_stay_open():
    for zone in ZONES:
        assert parse("1d", zone).ceiling(TIME_MIN) == TIME_MIN
        assert parse("1d", zone).ceiling(TIME_MAX) == TIME_MAX
        assert parse("4y", zone).ceiling(TIME_MAX - DAY) == TIME_MAX
    assert from_micros(parse("1y").ceiling(TIME_MIN + 1)) == datetime(2, 1, 1, tzinfo=UTC)
    assert parse("1d").starts(np.zeros(0, np.int64)).tolist() == []
    assert timedelta(microseconds=parse("1w").length) == timedelta(weeks=1)


@pytest.mark.parametrize(
    ("every", "zone", "says"),
    [
        ("soon", "", "every 'soon' is no interval (write 90s, 15min, 6h, 1d, 1w, 1mo or 1y)"),
        ("5 parsecs", "", "every '5 parsecs' is no interval"),
        ("0s", "", "every '0s' is no interval that there is"),
        ("5mo", "", "every '5mo' does not fit into a year (1mo, 2mo, 3mo, 4mo, 6mo, or whole years)"),
        ("1h", "Europe/Berln", "there is no time zone 'Europe/Berln' (did you mean 'Europe/Berlin'?)"),
        ("1h", "../etc", "there is no time zone '../etc'"),
    ],
)
def test_what_is_no_interval_is_refused_in_a_sentence(every, zone, says):
    with pytest.raises(InputError) as error:
        parse(every, zone)
    assert says in str(error.value)
