"""`query --plot`: what is drawn of a result, and what is refused in one sentence."""

from __future__ import annotations

import sys
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesseract.cli.plot import GAP, Panel, check, draw, panels_of, series, thinned
from tesseract.errors import InputError

from .query_world import START, World, values

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def store():
    world = World()
    for group in ("KJFK", "KLGA"):
        world.archive([(START + at * HOUR, values(at + 1), False, START) for at in range(60)], group)
    world.progress(START + timedelta(days=10), START)
    return world.store


def test_raw_columns_of_numbers_are_a_panel_each(store):
    table = store.query("w")
    assert panels_of(table) == (
        "valid_time",
        [Panel("temp", "°C", ("temp",), None), Panel("n", "", ("n",), None), Panel("ok", "", ("ok",), None)],
    )
    assert [(one.name, one.rows.num_rows) for one in series(table, ["station"])] == [("KJFK", 60), ("KLGA", 60)]
    assert [one.name for one in series(table.slice(0, 0), ["station"])] == [""]


def test_of_a_level_the_mean_lies_in_a_band(store):
    time, panels = panels_of(store.query("w", level="daily"))
    assert time == "period_start"
    assert panels == [
        Panel("temp", "°C", ("temp_avg",), ("temp_min", "temp_max")),
        Panel("n", "", ("n_avg",), ("n_min", "n_max")),
    ]
    assert panels_of(store.query("w", level="daily", fields=["n_sum", "n_count"]))[1] == [Panel("n", "", ("n_sum",), None)]
    assert panels_of(store.query("w", level="daily", fields=["n_count"]))[1] == [Panel("n", "", ("n_count",), None)]


@pytest.mark.parametrize("level", ["raw", "hourly", "daily"])
def test_a_picture_names_fields_units_and_groups(store, level, tmp_path):
    draw(store.query("w", level=level), str(tmp_path / "w.svg"))
    text = (tmp_path / "w.svg").read_text()
    for word in ("temp", "[°C]", "KJFK", "KLGA", f"w, {level}", "UTC"):
        assert f">{word}<" in text
    draw(store.query("w", "KJFK", level=level), str(tmp_path / "w.png"))
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_hard_to_draw_is_drawn(store, tmp_path):
    times = pa.array([START + at * HOUR for at in (0, 1, 2, 50)], pa.timestamp("us", tz="Europe/Berlin"))
    fields = {"d": pa.array([Decimal("1.50"), None, Decimal(2), Decimal(3)]), "nothing": pa.nulls(4, pa.float64())}
    draw(pa.table({"g": ["a"] * 4, "valid_time": times, **fields}), str(tmp_path / "d.svg"))
    assert ">Europe/Berlin<" in (tmp_path / "d.svg").read_text()
    draw(store.query("w", "KJFK", "2025-01-01", "2025-01-02"), str(tmp_path / "empty.png"))
    draw(store.query("w", "KJFK", limit=1), str(tmp_path / "one.png"))


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1), st.integers(4, 100))
def test_a_thinned_line_keeps_its_ends_its_extremes_and_its_gaps(numbers, points):
    numbers = np.array(numbers)
    times = np.arange(len(numbers))
    at, kept = thinned(times, numbers, points)
    assert len(at) <= points * 5 / 4
    assert (at[0], at[-1]) == (0, len(numbers) - 1)
    assert (np.diff(at) > 0).all()
    assert np.array_equal(kept, numbers[at], equal_nan=True)
    assert np.isnan(kept).any() == np.isnan(numbers).any()
    if not np.isnan(numbers).all():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(numbers), np.nanmax(numbers))


def test_a_line_is_broken_where_rows_are_missing():
    from tesseract.cli.plot import _broken

    times = np.array([0, 1, 2, 2 + GAP, 3 + GAP, 10 + GAP])
    at, numbers = _broken(times, np.arange(6.0))
    assert list(np.isnan(numbers)) == [False] * 5 + [True, False]
    assert list(at) == [0, 1, 2, 2 + GAP, 3 + GAP, 6 + GAP, 10 + GAP]
    assert len(_broken(times[:1], np.arange(1.0))[0]) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": [1]}, "no column of time"),
        ({"valid_time": [START], "note": ["x"]}, "no column has numbers"),
        ({"valid_time": [START], **{f"f{at}": [1] for at in range(13)}}, r"13 fields are too many.*--fields a,b"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(columns, says):
    with pytest.raises(InputError, match=says):
        panels_of(pa.table(columns))


def test_what_no_picture_can_be_written_to_is_said_before_anything_is_read(tmp_path, monkeypatch):
    check(str(tmp_path / "a.PNG"))
    for name, says in (("a.gif", "ends in .png, .svg or .pdf"), ("a", "ends in"), ("no/a.png", "No such file")):
        with pytest.raises(InputError, match=says):
            check(str(tmp_path / name))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"--plot needs matplotlib \(pip install 'tesseract-store\[plot\]'\)"):
        check(str(tmp_path / "a.png"))
