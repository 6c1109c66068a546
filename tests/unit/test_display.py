"""How a store looks at a prompt and in a notebook."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from tesseract.config.dataset import Field
from tesseract.query.display import html, text

from .query_world import DATASET, START, World, values

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def store():
    world = World()
    world.archive([(START + at * HOUR, values(at + 1), False, START) for at in range(60)], "KJFK")
    world.progress(START + timedelta(days=10), START)
    return world.store


def test_the_datasets_are_a_list_that_says_what_they_hold(store):
    found = store.datasets
    assert repr(found).splitlines() == [
        "dataset  group by  levels              fields",
        "w        station   raw, hourly, daily  temp [°C], n, note, ok",
    ]
    assert "<td>raw, hourly, daily</td><td>temp [°C], n, note, ok</td>" in found._repr_html_()
    assert found == ["w"] == list(found) == found() == found[:]
    assert (len(found), found[0], "w" in found, "x" in found, found == 1) == (1, "w", True, False, False)
    assert type(found()) is list


def test_many_fields_are_cut_short_and_a_damaged_configuration_does_not_hide_the_others():
    world = World()
    many = {f"field_{at}": Field("float", f"field_{at}", unit="m/s") for at in range(30)}
    world.store.catalog.put_dataset(msgspec.structs.replace(DATASET, name="many", fields=many), START)
    pk = next(item["pk"] for item in world.backend.catalog.items() if item["pk"].endswith("#w"))
    for item in [item for item in world.backend.catalog.items() if item["pk"] == pk]:
        world.backend.catalog.put({**item, "body": b"{"})
    lines = repr(world.store.datasets).splitlines()
    assert lines[1].endswith("field_0 [m/s], field_1 [m/s], field_2 [m/s], field_3 [m/s], … (30)")
    assert lines[2].split("  ")[-1] == "its configuration is damaged"


def test_no_datasets():
    from tesseract.storage.memory import memory_backend
    from tesseract.store import Store

    assert repr(Store(memory_backend()).datasets) == "no datasets"


def test_a_dataset_prints_its_fields_and_units(store):
    dataset = store.dataset("w")
    assert str(dataset).splitlines()[:3] == [
        "w: version 1, by station; raw, hourly, daily; buffer → daily → monthly",
        "field  type    unit  description",
        "temp   float   °C",
    ]
    assert "<td>temp</td><td>float</td><td>°C</td>" in dataset._repr_html_()


def test_a_result_shows_its_first_rows_with_units(store):
    result = store.read("w", "KJFK", fields=["temp", "note"])
    assert repr(result).splitlines() == [
        "w, raw: 60 rows, 5 columns",
        "station  valid_time            ref_time  temp  note",
        "                                           °C",
        "KJFK     2026-03-01T00:00:00Z            0.25  r1",
        "KJFK     2026-03-01T01:00:00Z             0.5  r2",
        "KJFK     2026-03-01T02:00:00Z            0.75  r3",
        "KJFK     2026-03-01T03:00:00Z             1.0  r4",
        "KJFK     2026-03-01T04:00:00Z",
        "KJFK     2026-03-01T05:00:00Z             1.5  r6",
        "KJFK     2026-03-01T06:00:00Z            1.75  r7",
        "KJFK     2026-03-01T07:00:00Z             2.0  r8",
        "KJFK     2026-03-01T08:00:00Z            2.25  r9",
        "KJFK     2026-03-01T09:00:00Z",
        "… 50 more rows",
    ]
    assert "<th>temp<br><small>°C</small></th>" in result._repr_html_()
    assert result._repr_html_().endswith("<br>… 50 more rows")


def test_columns_that_do_not_fit_are_named_and_markup_is_text(store):
    table = store.query("w", "KJFK", level="daily")
    shown = text(table, width=60).splitlines()
    assert max(map(len, shown[:-1])) <= 60
    assert shown[-1].startswith("… 14 more columns: temp_avg, ")
    assert text(table.slice(0, 0)).startswith("w, daily: 0 rows, 19 columns\nstation  period_start")
    assert "&lt;b&gt;" in html(table.rename_columns(["<b>", *table.column_names[1:]]))
    assert text(table.select(["n_sum"]).slice(0, 1)).splitlines() == ["w, daily: 1 row, 1 column", "n_sum", "  300"]
