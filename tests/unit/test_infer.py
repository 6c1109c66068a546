"""A configuration learned from sample records is usable as it stands, and says what it saw."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.cli import run
from tesseract.config.dataset import Dataset
from tesseract.config.schema import parse
from tesseract.errors import InputError
from tesseract.ingestion.files import read_lines
from tesseract.ingestion.infer import infer
from tesseract.ingestion.validators import Validator

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ANYTHING = Dataset("", 0, (), "", "", "keep", 1, (), ())


def learned(records, name="w", **options):
    """(text, dataset, what its validator says of the records themselves)."""
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in records]
    text = infer(lines, name, **options)
    dataset = parse(text)[name]
    return text, dataset, Validator(dataset).decode(lines, NOW)


def test_the_weather_file_as_it_is_shipped():
    lines = list(read_lines(str(ROOT / "examples" / "data" / "nyc_weather_2013.csv.gz"), ANYTHING))
    text, dataset, decoded = learned(lines, "weather")
    assert not decoded.rejected
    assert len(decoded.records) == len(lines)
    assert (dataset.group_by, dataset.time_field) == (("origin",), "time_hour")
    assert dataset.fields["wind_gust"].missing == ("NA",)
    assert "wind_gust" not in decoded.records[0][1].fields
    assert {field.type for field in dataset.fields.values()} == {"int", "float"}
    assert "null in 20778 of 26115" in text
    assert "wind_dir" not in dataset.level("daily").stats["avg"]
    assert "usually every hour" in text


def test_the_radiation_day():
    surfrad = runpy.run_path(str(ROOT / "examples" / "surfrad.py"))
    lines = [line.encode() for line in surfrad["ndjson"](surfrad["SAMPLE"])]
    _, dataset, decoded = learned(lines, "surfrad")
    assert not decoded.rejected
    assert (dataset.group_by, dataset.time_field) == (("station",), "time")
    assert dataset.fields["uvb"].missing == (-9999.9,)
    assert not any("uvb" in record.fields for _, record in decoded.records)
    assert dataset.fields["dw_solar_flag"].missing == ()
    assert [level.name for level in dataset.levels] == ["hourly", "daily"]


def test_a_nested_envelope_with_epoch_times_and_words():
    records = [
        {
            "site": "north",
            "readings": [
                {"id": f"m{n}", "ts": 1767600000000 + n * 1000 * minute, "wind": {"speed": n / 4}, "ok": n % 2 == 0, "mode": "run"}
                for n in range(1, 5)
            ],
        }
        for minute in range(20)
    ]
    text, dataset, _ = learned(records, group_by=["site", "id"])
    assert dataset.records_path == "readings"
    assert dataset.time_format == "epoch_ms"
    assert dataset.group_by == ("site", "id")
    assert {name: field.type for name, field in dataset.fields.items()} == {"wind.speed": "float", "ok": "bool", "mode": "string"}
    assert "enum: [run]" in text


def test_times_without_a_zone_and_a_field_that_is_missing_from_the_group():
    records = [{"g": "a", "box": box, "time": f"2026-01-05T00:0{n}:00", "v": n} for n in range(5) for box in ("x", "y")]
    text, dataset, decoded = learned(records, group_by=["g"], time_field="time")
    assert dataset.time_zone == "UTC"
    assert "5 records have the group and the time of another" in text
    assert not decoded.rejected


def test_a_field_of_several_types_is_left_for_a_person_to_decide():
    rows = [{"g": "a", "time": f"2026-01-05T00:00:0{n}Z", "mode": value, "v": 1} for n, value in enumerate(["auto", 3, True, 4.5])]
    text, dataset, decoded = learned(rows, group_by=["g"])
    assert list(dataset.fields) == ["v"]
    assert "mode: values of several types" in text
    assert [record.fields["mode"] for _, record in decoded.records] == ["auto", 3, True, Decimal("4.5")]


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        ([], {}, "there is no record"),
        ([b"x"], {}, "record 0 is not JSON"),
        ([[1]], {}, "record 0 is no JSON object"),
        ([{"a": 1}], {}, "the records do not tell which is the time field"),
        ([{"time": "2026-01-05T00:00:00Z", "v": 1.5}], {}, "--group-by"),
        ([{"time": "2026-01-05T00:00:00Z", "v": 1.5}], {"group_by": ["nothere"]}, "no record has 'nothere' (there are: time, v)"),
    ],
)
def test_what_cannot_be_learned_says_what_would_help(records, options, said):
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in records]
    with pytest.raises(InputError) as error:
        infer(lines, "w", **options)
    assert said in str(error.value)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-100),
    st.text(max_size=8),
    st.just("NA"),
    st.just(-9999.9),
)
NAMES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6), st.sampled_from(["valid_time", "rows", "__x"])
).filter(lambda name: name not in ("g", "time"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=8))
def test_whatever_comes_the_result_parses(rows):
    records = [{"g": "a", "time": f"2026-01-05T00:00:{n:02}Z", **row} for n, row in enumerate(rows)]
    _, dataset, decoded = learned(records, group_by=["g"], time_field="time")
    assert dataset.unknown_fields == "keep" or len(dataset.fields) == len({name for row in rows for name in row})
    # a name that results use cannot be kept without a declaration
    assert all("is a name that results use" in entry.reason or "a field's name" in entry.reason for entry in decoded.rejected)


def test_the_command(tmp_path, capsys):
    file = tmp_path / "2 plants.ndjson"
    file.write_text('{"sensor": "a", "time": "2026-01-05T00:00:00Z", "v": 1}\n')
    assert run(["config", "infer", str(file)]) == 0
    assert parse(capsys.readouterr().out)["d_2_plants"].fields["v"].type == "int"
    assert run(["config", "infer", str(file), "--group-by", "nothere"]) == 1
    assert "no record has 'nothere'" in capsys.readouterr().err
