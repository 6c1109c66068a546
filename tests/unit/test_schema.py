"""What a user may write: every fault is a sentence that says where and what would be right, and all of them are told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import STATS, decode_dataset, encode_dataset
from tesseract.config.models import DatasetConfig, LevelName, Stat
from tesseract.config.schema import parse, parse_file, parse_files
from tesseract.config.tiers import LEVELS
from tesseract.errors import ConfigError

ROOT = Path(__file__).parents[2]
BASE = {"group_by": "g", "time_field": "t", "aggregations": {"hourly": ["avg"]}, "fields": {"x": "float", "s": "string"}}


def dataset(**changes):
    return parse(json.dumps({"datasets": {"d": BASE | changes}}))["d"]


def field(**spec):
    return dataset(fields={"x": spec}, aggregations={}).fields["x"]


def told(text):
    """The faults of a document."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


def faults(**changes):
    return "; ".join(told(json.dumps({"datasets": {"d": BASE | changes}})))


@pytest.mark.parametrize("path", sorted((ROOT / "schemas").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid_and_survive_storage(path):
    for name, found in parse_file(path).items():
        assert path.stem == name
        assert decode_dataset(encode_dataset(found)) == found


def test_levels_and_statistics_are_those_that_there_are():
    assert LevelName.__args__ == LEVELS
    assert Stat.__args__ == STATS


def test_a_list_of_statistics_means_all_numbers_and_a_map_names_fields():
    level = dataset(aggregations={"hourly": ["avg", "count"], "daily": {"max": ["x"], "count": "*"}, "15min": []})
    assert level.level("hourly").stats == {"count": (), "avg": ()}
    assert level.level("daily").stats == {"count": (), "max": ("x",)}
    assert level.level("15min").stats == {}
    assert [found.name for found in level.levels] == ["15min", "hourly", "daily"]


def test_the_plant_has_every_setting_as_written():
    plant = parse_file(ROOT / "schemas" / "plant.yaml")["plant"]
    assert (plant.group_by, plant.time_field, plant.ref_time_field) == (("site", "gateway.line", "machine"), "at", "gateway.sent")
    assert (plant.records_path, plant.on_invalid, plant.revisions) == ("readings", "null", "latest_ref")
    assert (plant.partitions, plant.history, plant.max_future_seconds) == (32, "P14D", 300)
    assert plant.retention == {"raw": {"*": "P5Y"}, "1min": {"daily": "P90D", "weekly": "P2Y", "yearly": "P10Y"}}
    assert (plant.fields["energy"].scale, plant.fields["parts"].wide) == (3, True)
    assert (plant.fields["temp"].path, plant.fields["vibration"].path) == ("$['oil.temp']", "$.vib[2]")


def test_equal_meanings_are_equal_datasets():
    assert dataset(max_future="PT24H", history="P2W") == dataset(max_future="P1D", history="P14D")
    assert dataset(group_by=["$.a.b", "$.c"]) == dataset(group_by=["a.b", "c"])
    assert dataset(records_path="$.a.b[*]") == dataset(records_path="a.b")
    assert dataset(on_invalid=None) == dataset(on_invalid="null")
    assert dataset(partitioning="group", unknown_fields=None, archive_schedule=None) == dataset()


def test_bounds_of_an_int_are_exact_ints():
    assert repr(field(type="int", min=-1e3, max=1e30, enum=[5.0]).max) == "1" + "0" * 30
    assert repr(field(type="int", min=-1e3, enum=[5.0, 2]).enum) == "(5, 2)"
    big = 10**38 - 1
    assert parse(f"datasets: {{d: {{fields: {{x: {{type: int, max: {big}}}}}}}}}")["d"].fields["x"].max == big
    assert field(type="int", max=big).wide
    assert not field(type="int", max=2**63 - 1).wide
    assert field(type="int", max=2**64, enum=[2**63]).enum == (2**63,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"buffer_ttl_hour": 5}, "datasets.d.buffer_ttl_hour: there is no such setting (did you mean 'buffer_ttl_hours'?)"),
        ({"buffer_ttl_hours": 0}, "datasets.d.buffer_ttl_hours: 0 should be 1 or more"),
        ({"fields": {"x": "flaot"}}, "'decimal', 'string', 'bool' or 'timestamp' (did you mean 'float'?)"),
        ({"fields": {"x": {"type": "int", "pth": "y"}}}, "d.fields.x.pth: there is no such setting (did you mean 'path'?)"),
        ({"fields": {"x": {"type": "string", "min": 1}}}, "min and max are for numbers, not for type string"),
        ({"fields": {"x": {"type": "int", "min": 2, "max": 1}}}, "min 2 is greater than max 1"),
        ({"fields": {"x": {"type": "int", "missing": [False]}}}, "x.missing.0: false should be text or a number"),
        ({"fields": {"rows": "int"}}, "'rows' is reserved"),
        ({"fields": {"": "int"}}, "1 to 255 characters"),
        ({"fields": {"n" * 256: "int"}}, "1 to 255 characters"),
        ({"fields": {"g": "int"}}, "'g' is a group_by field already"),
        ({"fields": {"x": "int", "y": {"type": "int", "path": "x"}}, "aggregations": {}}, "'x' is read twice"),
        ({"fields": {"x": {"type": "int", "path": "t"}}}, "'t' is read twice"),
        ({"group_by": ["g", "g"]}, "'g' is read twice"),
        ({"group_by": "t"}, "'t' is read twice"),
        ({"group_by": []}, "group_by: it should name at least one"),
        ({"group_by": ["valid_time"]}, "'valid_time' is reserved"),
        ({"aggregations": {"hourly": {"avg": ["y"]}}}, "aggregations.hourly.avg: there is no field 'y'"),
        ({"aggregations": {"hourly": {"avg": ["s"]}}}, "is of type string, aggregates are of numbers"),
        ({"aggregations": {"hourly": ["mean"]}}, "'mean' should be 'count', 'sum', 'avg',"),
        ({"aggregations": {"hourly": {"avg": []}}}, 'avg: it should be a list of fields, or "*" for all numbers'),
        ({"aggregations": {"hourly": {"avg": "x"}}}, "aggregations.hourly.avg: 'x' should be a list of fields"),
        ({"aggregations": {"hourly": 5}}, "aggregations.hourly: 5 should be a map"),
        ({"aggregations": {"yearly": ["avg"]}}, "'yearly' should be '1min', '15min', 'hourly', 'daily', 'weekly' or 'monthly'"),
        ({"archive_schedule": {"buffer_to_dayly": "P1D"}}, "did you mean 'daily'?"),
        ({"archive_schedule": {"buffer_to_daily": "P2D"}}, "'P2D' should be P1D"),
        ({"archive_schedule": {"buffer_to_monthly": "P1M", "monthly_to_daily": "P1D"}}, "must climb from fine to coarse"),
        ({"archive_schedule": {"daily_to_monthly": "P1M"}}, "do not make one chain from the buffer"),
        ({"archive_schedule": {}}, "at least one tier"),
        ({"max_future": "1 hour"}, "'1 hour' should be an ISO 8601 duration of weeks, days, hours, minutes, seconds, such as PT1H"),
        ({"max_future": "P99999999999999W"}, "should be from PT0S to P36525D"),
        ({"max_future": "P40000D"}, "should be from PT0S to P36525D"),
        ({"history": "PT1H"}, "history: 'PT1H' should be from P1D to P36525D"),
        ({"time_zone": "Europe/Berlim"}, "(did you mean 'Europe/Berlin'?)"),
        ({"time_zone": "UTC", "time_format": "epoch_s"}, "time_zone: time_format epoch_s counts from 1970 in UTC"),
        ({"time_format": "epoch"}, "'epoch' should be 'iso8601', 'epoch_s', 'epoch_ms', 'epoch_us' or 'epoch_ns'"),
        ({"revisions": "latest"}, "(did you mean 'latest_ref'?)"),
        ({"on_invalid": "nul"}, "'nul' should be 'reject' or 'null' (did you mean 'null'?)"),
        ({"partitioning": "hash(0)"}, "'hash(0)' should be group, or hash(N) with N from 1 to 1024"),
        ({"partitioning": "hash(1025)"}, "should be group, or hash(N)"),
        ({"records_path": "$"}, "'$' names no value of a record"),
        ({"group_by": "a..b"}, "'a..b' is not a path"),
        ({"group_by": ["x_avg"]}, "group_by: 'x_avg' is the name of an aggregate's column too"),
        ({"group_by": ["a.b", "$.a.b"]}, "'a.b' is read twice, by group_by too"),
        ({"group_by": [5]}, "group_by.0: 5 should be text: quote it"),
        ({"retention": {"raw": "5 years"}}, "raw: '5 years' should be an ISO 8601 duration of years, months, weeks"),
        ({"retention": {"raw": "P0Y"}}, "retention.raw: 'P0Y' should be"),
        ({"retention": {"hourli": "P1Y"}}, "there is no level 'hourli': levels are raw, hourly (did you mean 'hourly'?)"),
        ({"retention": {"daily": "P1Y"}}, "there is no level 'daily'"),
        ({"retention": {"hourly": {"weekly": "P1Y"}}}, "there is no tier 'weekly': tiers are daily, monthly, yearly"),
        ({"tags": {"aws:x": "y"}}, "tags that begin with aws: belong to AWS"),
        ({"tags": {"x": "y" * 257}}, "its value at most 256"),
        ({"tags": {"x": "a;b"}}, "letters, digits, spaces and _.:/=+-@"),
        ({"tags": {str(n): "" for n in range(51)}}, "there are 51 tags; AWS takes 50"),
        ({"tags": {"x": 12}}, "tags.x: 12 should be text: quote it"),
        ({"fields": {"x": {"type": "decimal"}}}, "fields.x.scale: a decimal needs it: the digits after the point, from 0 to 37"),
        ({"fields": {"x": {"type": "decimal", "scale": 38}}}, "38 should be 37 or less"),
        ({"fields": {"x": {"type": "float", "scale": 1}}}, "scale: it is for type decimal, not for type float"),
        ({"fields": {"x": {"type": "int", "max_length": 1}}}, "max_length: it is for type string, not for type int"),
        ({"fields": {"x": {"type": "string", "max_length": 0}}}, "0 should be 1 or more"),
        ({"fields": {"x": {"type": "int", "format": "epoch_s"}}}, "format: it is for type timestamp, not for type int"),
        ({"fields": {"x": {"type": "int", "min": 0.5}}}, "0.5 is no whole number, and type int has no others"),
        ({"fields": {"x": {"type": "int", "max": 10**38}}}, "a number has at most 38 digits"),
        ({"fields": {"x": {"type": "int", "max": 1e38}}}, "1e+38 is beyond the 38 digits of type int"),
        ({"fields": {"x": {"type": "int", "min": True}}}, "min: true should be a number"),
        ({"fields": {"x": {"type": "int", "enum": []}}}, "enum: it should name at least one"),
        ({"fields": {"x": {"type": "int", "enum": ["1"]}}}, "enum: '1' is no value of type int"),
        ({"fields": {"x": {"type": "int", "enum": [2**63]}}}, "is beyond 64 bits: give min or max"),
        ({"fields": {"x": {"type": "string", "enum": [1]}}}, "enum: 1 is no value of type string; quote it"),
        ({"fields": {"x": {"type": "string", "enum": ["ab"], "max_length": 1}}}, "'ab' has more than max_length 1 characters"),
        ({"fields": {"x": {"type": "float", "enum": [1, 1.0]}}}, "is there twice"),
        ({"fields": {"x": {"type": "float", "enum": [-1], "missing": [-1.0]}}}, "-1 is in missing too, where it means null"),
        ({"fields": {"x": {"type": "float", "enum": [5], "max": 4}}}, "5 is outside min and max"),
        ({"fields": {"x": {"type": "decimal", "scale": 2, "enum": [0.125]}}}, "0.125 has more than 2 digits after the point"),
        ({"fields": {"x": {"type": "decimal", "scale": 30, "max": 10**9}}}, "beyond the 38 digits of type decimal with scale 30"),
        ({"fields": {"x": {"type": "bool", "enum": ["a"]}}}, "enum: it is for numbers and text, not for type bool"),
        ({"fields": {"a..b": "int"}}, "'a..b' is not a path"),
        ({"fields": {"interval": {"type": "int", "typ": 1}}}, "fields.interval.typ: there is no such setting (did you mean"),
    ],
)  # fmt: skip
def test_a_fault_is_a_sentence_that_says_where_and_what_would_be_right(changes, words):
    assert words in faults(**changes)


def test_every_fault_is_named_at_once():
    found = faults(buffer_ttl_hours="long", fields={"x": "flaot", "y": {"type": "int", "min": "low"}})
    assert found.count("; ") >= 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'it should begin with "datasets:"'),
        ("[]", 'it should begin with "datasets:"'),
        ("datasets: {a: {", "neither YAML nor JSON at line 1"),
        ("datasets: {a: {description: !!binary x}}", "neither YAML nor JSON"),
        ("datasets: {a: {fields: {x: {type: int, max: " + "9" * 5000 + "}}}}", "neither YAML nor JSON"),
        ("[" * 5000, "neither YAML nor JSON"),
        ("\x00", "neither YAML nor JSON"),
        ("datasets: {}", "datasets"),
        ("datasets: {a b: {}}", "a b"),
        ("datasets: {1: {}}", "datasets"),
        ("{}", "datasets: it is missing"),
        ("datasets: {d: {fields: {x: {type: float, min: .nan}}}}", "finite"),
        ("datasets: {d: {fields: {x: {type: float, missing: [.nan]}}}}", "finite"),
        ("datasets: {d: {fields: {x: {type: float, missing: [true]}}}}", "where the word is meant, quote it"),
        ("datasets: {d: {on_invalid: }}", "f.yaml:1: datasets.d.on_invalid: it has no value: write one, or leave the key out"),
        ("datasets: {d: }", "datasets.d: it has no value"),
        ("datasets: {d: {fields: {x: [float]}}}", "datasets.d.fields.x: it should be a map of settings"),
        ("datasets: {2w: {}}", "'2w' should begin with a letter and have letters, digits, _ and -, at most 64"),
        ("datasets: {d: {}}\ndataset: {}", "f.yaml:2: dataset: there is no such setting (did you mean 'datasets'?)"),
    ],
)
def test_a_broken_document_is_refused(text, words):
    assert words in "; ".join(told(text))


MANY = """\
datasets:
  weather:
    grup_by: origin
    aggregations:
      hourly: {avg: [tmp, name, temp]}
    retention: {raw: P1Y, daily: P1Y}
    fields:
      temp: flaot
      name: {type: string, min: 5}
  good: {}
  bad:
    fields:
      sensorId: int
      a: {type: int, min: 5, max: 1, pth: x}
"""


def test_faults_come_together_each_with_its_line_whatever_else_is_wrong():
    assert told(MANY) == (
        "f.yaml:3: datasets.weather.grup_by: there is no such setting (did you mean 'group_by'?)",
        "f.yaml:5: datasets.weather.aggregations.hourly.avg: there is no field 'tmp' (did you mean 'temp'?)",
        "f.yaml:5: datasets.weather.aggregations.hourly.avg: field 'name' is of type string, aggregates are of numbers",
        "f.yaml:6: datasets.weather.retention.daily: there is no level 'daily': levels are raw, hourly",
        "f.yaml:8: datasets.weather.fields.temp.type: 'flaot' should be 'int', 'float', 'decimal', 'string', 'bool' or 'timestamp'"
        " (did you mean 'float'?)",
        "f.yaml:9: datasets.weather.fields.name.min: min and max are for numbers, not for type string",
        "f.yaml:13: datasets.bad.fields.sensorId: 'sensorId' is a group_by field already",
        "f.yaml:14: datasets.bad.fields.a.pth: there is no such setting (did you mean 'path'?)",
        "f.yaml:14: datasets.bad.fields.a.min: min 5 is greater than max 1",
    )


def test_what_is_misspelt_is_not_taken_for_absent():
    text = "datasets: {d: {grup_by: g, fields: {sensorId: int}}}"
    assert told(text) == ("f.yaml:1: datasets.d.grup_by: there is no such setting (did you mean 'group_by'?)",)


def test_json_has_lines_too_also_where_it_is_indented_with_tabs():
    text = '{\n\t"datasets": {\n\t\t"d": {\n\t\t\t"max_future": 5, "tags": {"\\ud83d\\ude00": "x"}\n\t\t}\n\t}\n}'
    assert told(text) == (
        "f.yaml:4: datasets.d.max_future: 5 should be text: quote it",
        "f.yaml:4: datasets.d.tags: '😀': a tag has 1 to 128 characters, its value at most 256: letters, digits, spaces and"
        " _.:/=+-@",
    )


def test_a_key_cannot_write_to_the_terminal():
    (fault,) = told(json.dumps({"datasets": {"d": {"a\n\u001b[31m": 1}}}))
    assert fault == "f.yaml:1: datasets.d.a �[31m: there is no such setting"


def test_many_files_are_read_together(tmp_path):
    (tmp_path / "a.yaml").write_text("datasets:\n  a: {}\n  b: {}\n")
    (tmp_path / "b.json").write_text('{"$schema": "x", "datasets": {"c": {}}}')
    assert list(parse_files([tmp_path / "a.yaml", tmp_path / "b.json"])) == ["a", "b", "c"]
    (tmp_path / "c.yaml").write_text("datasets:\n  b: {max_future: 1}\n")
    with pytest.raises(ConfigError) as caught:
        parse_files([tmp_path / "a.yaml", tmp_path / "nowhere", tmp_path / "c.yaml"])
    assert caught.value.faults == (
        f"the configuration file {tmp_path}/nowhere cannot be read: No such file or directory",
        f"{tmp_path}/c.yaml:2: datasets.b.max_future: 1 should be text: quote it",
        f"{tmp_path}/c.yaml:2: datasets.b: it is a dataset of {tmp_path}/a.yaml:3 already; a dataset stands in one place",
    )


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["P1D", "*", "avg", "float", "hash(3)", "$.a[0]"]),
    lambda part: (
        st.lists(part, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "min", "missing", "enum", "hourly", "avg", "x", "raw", "buffer_to_daily"]), part, max_size=3
        )
    ),
    max_leaves=5,
)
SETTINGS = [*DatasetConfig.model_fields, "type"]


@given(st.dictionaries(st.sampled_from(SETTINGS), ANYTHING, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_document_is_a_dataset_that_can_be_stored_or_a_fault(config):
    try:
        found = parse(json.dumps({"datasets": {"d": config}}))["d"]
    except ConfigError:
        return
    assert decode_dataset(encode_dataset(found)) == found


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "x.yaml", tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(ConfigError, match=f"the configuration file {path} cannot be read"):
            parse_file(path)
