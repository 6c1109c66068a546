"""The forms of a configuration: YAML with its lines, the user's form of a stored dataset, the published JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from tesseract.config.document import document_of, duration_text, to_yaml
from tesseract.config.models import DatasetConfig, FieldConfig
from tesseract.config.retention import too_short
from tesseract.config.schema import json_schema, parse, parse_file
from tesseract.config.tiers import LEVELS, MERGED_LEVELS, TIERS, UNITS
from tesseract.config.values import time_zones
from tesseract.config.yaml_lines import EMPTY, load
from tesseract.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCHEMA = Draft202012Validator(json.loads(json_schema()))
EXAMPLES = sorted((ROOT / "schemas").glob("*.yaml"))

# documents that are valid by construction ---------------------------------------------------------------------------------

TEXT = st.sampled_from(
    ["", "no", "1e3", "0x1F", "~", "2013-01-01", "12:30", "a: b", "# x", "'", '"', "°C", "é😀", "a\nb", " x ", "<<", "[", "-"]
)
ANY_TEXT = TEXT | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STATS = st.lists(st.sampled_from(["count", "sum", "avg", "std", "min", "max", "first", "last"]), unique=True)
FORMATS = st.sampled_from(["iso8601", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"])
PATHS = st.sampled_from(["p", "p.q", "$.p[0]", "$['a.b'].c", '$["x\'y"]', "$.p[0].q"])
SPANS = st.sampled_from(["P1Y", "P90D", "P1Y6M", "P2W", "P10Y3M1W2D"])


def options(**settings):
    """A map with any of these settings."""
    return st.fixed_dictionaries({}, optional=settings)


COMMON = {"unit": ANY_TEXT, "description": ANY_TEXT, "required": st.booleans(), "path": st.just("$.own[7]")}
COMMON["missing"] = st.lists(ANY_TEXT | FLOATS | st.integers(-(10**37), 10**37), max_size=3)
NUMBER = COMMON | {"min": FLOATS.filter(lambda x: x <= 0) | st.just(-3), "max": st.just(10**9) | FLOATS.filter(lambda x: x > 0)}
WIDE = {"min": st.integers(-(10**38) + 1, 0), "max": st.integers(1, 10**38 - 1)}


def typed(kind, rest):
    return options(**rest).map(lambda spec: {"type": kind, **spec})


FIELDS = st.one_of(
    st.sampled_from(["int", "float", "string", "bool", "timestamp"]),
    typed("int", COMMON | WIDE),
    typed("float", NUMBER),
    typed("float", {"enum": st.lists(st.floats(5, 9), min_size=1, unique=True)}),
    st.integers(0, 9).flatmap(
        lambda scale: typed("decimal", {"scale": st.just(scale)} | COMMON).map(lambda f: f | {"scale": scale})
    ),
    typed("string", COMMON | {"max_length": st.integers(1, 99)}),
    typed("string", {"enum": st.lists(ANY_TEXT, min_size=1, unique=True)}),
    typed("bool", COMMON),
    typed("timestamp", COMMON | {"format": FORMATS}),
)


@st.composite
def documents(draw):
    names = draw(st.lists(ANY_TEXT.filter(lambda n: "." not in n and n[:1] not in ("$", "_")), max_size=3, unique=True))
    fields = {name + "·": draw(FIELDS) for name in names}  # no name that something else has
    for index, spec in enumerate(fields.values()):
        if isinstance(spec, dict) and "path" in spec:
            spec["path"] = f"$.own[{index}]"
    numbers = [n for n, spec in fields.items() if (spec if isinstance(spec, str) else spec["type"]) in ("int", "float", "decimal")]
    some = st.lists(st.sampled_from(numbers or ["any"]), min_size=1, unique=True)
    stats = STATS | STATS.flatmap(lambda chosen: st.fixed_dictionaries(dict.fromkeys(chosen, some | st.just("*"))))
    if fields and not numbers:
        stats = STATS
    levels = draw(st.lists(st.sampled_from(LEVELS), unique=True))
    ladder = sorted(draw(st.lists(st.sampled_from(TIERS), unique=True, min_size=1)), key=lambda tier: UNITS[tier].rank)
    # by tier, where rows can climb before they go
    kept = SPANS | st.dictionaries(st.sampled_from(ladder), SPANS).filter(lambda tiers: not too_short(tiers, ladder))
    found = draw(
        options(
            description=ANY_TEXT,
            group_by=PATHS | st.lists(PATHS, min_size=1, unique=True),
            time_field=st.just("$.when"),
            ref_time_field=st.just("issued.at"),
            time_format=FORMATS,
            records_path=st.sampled_from(["", "list", "$.a.b[*]"]),
            max_future=st.sampled_from(["PT0S", "PT1H", "P1W", "PT36H", "P1DT1S"]),
            unknown_fields=st.sampled_from(["keep", "drop", "reject"]),
            on_invalid=st.sampled_from(["reject", "null", None]),
            revisions=st.sampled_from(["last_write", "latest_ref", "all"]),
            buffer_ttl_hours=st.integers(1, 87600),
            partitioning=st.just("group") | st.integers(1, 1024).map(lambda n: f"hash({n})"),
            history=st.sampled_from(["P1D", "P7D", "P4W", "PT36H"]),
            tags=st.dictionaries(st.sampled_from(["a", "b c", "x:y", "é"]), st.sampled_from(["", "1e3", "no", "a/b"])),
        )
    )
    if found.get("time_format", "iso8601") == "iso8601":
        found |= draw(options(time_zone=st.sampled_from(["", "UTC", "Europe/Berlin"])))
    found["archive_schedule"] = {f"{a}_to_{b}": UNITS[b].duration for a, b in zip(["buffer", *ladder], ladder, strict=False)}
    found["aggregations"] = {level: draw(stats) for level in levels}
    free = ["raw", *(levels if not {*levels} & {*MERGED_LEVELS} else MERGED_LEVELS)]  # what weeks are merged from is kept for ever
    found["retention"] = draw(
        st.dictionaries(st.sampled_from([name for name in free if name in ("raw", *levels)]), kept, max_size=2)
    )
    return {"datasets": {"d": found | {"fields": fields}}}


@given(documents())
@settings(max_examples=150, deadline=None)
def test_the_users_form_means_the_same_again(document):
    assert not list(SCHEMA.iter_errors(document))
    dataset = parse(json.dumps(document))["d"]
    form = document_of(dataset)
    assert parse(to_yaml(form)) == parse(json.dumps(form)) == {"d": dataset}
    assert document_of(parse(to_yaml(form))["d"]) == form
    assert not list(SCHEMA.iter_errors(form))
    applied = replace(
        dataset, version=7, applied_at=5, applied_by="x", levels=tuple(replace(v, live_from=9) for v in dataset.levels)
    )
    assert document_of(applied) == form
    assert list(parse(to_yaml(form))["d"].fields) == list(dataset.fields), "the order of columns"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_users_form_of_the_examples_is_short_and_the_same(path):
    (dataset,) = parse_file(path).values()
    text = to_yaml(document_of(dataset))
    assert parse(text) == {dataset.name: dataset}
    assert "buffer_ttl_hours: 168" not in text, "defaults are left out"
    assert len(text.splitlines()) < 120


def test_a_dataset_of_defaults_is_empty():
    assert to_yaml(document_of(parse("datasets: {d: {}}")["d"])) == "datasets:\n  d: {}\n"


def test_durations_are_written_short():
    assert [duration_text(s) for s in (0, 60, 3600, 90061, 604800)] == ["PT0S", "PT1M", "PT1H", "P1DT1H1M1S", "P7D"]


# the published schema -----------------------------------------------------------------------------------------------------


def test_the_published_schema_is_current():
    assert (ROOT / "schemas" / "configuration.schema.json").read_text() == json_schema(), (
        "tesseract config schema > schemas/configuration.schema.json"
    )


def test_every_key_has_a_description_and_an_example_that_is_right():
    published = json.loads(json_schema())
    Draft202012Validator.check_schema(published)
    for model, base in ((DatasetConfig, {}), (FieldConfig, {"type": "float"})):
        found = published["$defs"][model.__name__]["properties"]
        assert set(found) == set(model.model_fields)
        for key, spec in found.items():
            assert spec["description"], key
            for example in spec["examples"]:
                needed = {"scale": {"type": "decimal"}, "max_length": {"type": "string"}, "format": {"type": "timestamp"}}
                kinds = ("string", "int") if key == "enum" else (None,)
                assert any(
                    _valid(model, base | needed.get(key, {}) | ({"type": kind} if kind else {}) | {key: example}) for kind in kinds
                )


def _valid(model, settings):
    if model is FieldConfig:
        settings = {"fields": {"x": settings}}
    if "retention" in settings:
        settings |= {"aggregations": {"hourly": ["avg"]}}
    document = {"datasets": {"d": settings}}
    try:
        parse(json.dumps(document))
    except ConfigError:
        return False
    return not list(SCHEMA.iter_errors(document))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_satisfy_the_published_schema_and_name_it(path):
    assert not list(SCHEMA.iter_errors(yaml.safe_load(path.read_text())))
    named = path.read_text().partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).is_file()


@pytest.mark.parametrize(
    "text",
    [
        "datasets: {d: {buffer_ttl_hour: 5}}", "datasets: {d: {fields: {x: flaot}}}", "datasets: {d: {fields: {x: {path: y}}}}",
        "datasets: {d: {aggregations: {hourly: [mean]}}}", "datasets: {d: {aggregations: {yearly: [avg]}}}", "datasets: {2w: {}}",
        "datasets: {d: {archive_schedule: {buffer_to_daily: P2D}}}", "datasets: {d: {partitioning: hash(0)}}", "datasets: {}", "{}",
        "datasets: {d: {group_by: []}}", "datasets: {d: {retention: {raw: {hourly: P1Y}}}}", "datasets: {d: {on_invalid: drop}}",
    ],
)  # fmt: skip
def test_an_editor_sees_the_common_mistakes(text):
    assert list(SCHEMA.iter_errors(yaml.safe_load(text)))
    with pytest.raises(ConfigError):
        parse(text)


# YAML and JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[no, off, yes, y, 2013-01-01, 12:30, 1_000]", ["no", "off", "yes", "y", "2013-01-01", "12:30", "1_000"]),
        ("[true, False, null, ~, 010, 0x1F, 0o17, -5, +5]", [True, False, None, None, 10, 31, 15, -5, 5]),
        ("[1e3, .5, 5., -1.5E-3, 1.0]", [1000.0, 0.5, 5.0, -0.0015, 1.0]),
        ("['1', \"null\", !!str 5]", ["1", "null", "5"]),
        ("{a: &x {p: 1, q: 2}, b: {<<: *x, q: 3}}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ('{"a": [1E2, "\\ud83d\\ude00", 123456789012345678901234567890]}', {"a": [100.0, "😀", 123456789012345678901234567890]}),
        ("{a: , b: null}", {"a": EMPTY, "b": None}),
    ],
)
def test_plain_words_are_read_as_editors_read_them(text, value):
    assert load(text, "f").data == value


def test_lines_lead_to_what_was_written():
    loaded = load("a:\n  b: &b\n    c: [x,\n      y]\nd:\n  <<: *b\n  e: 1\n", "f")
    assert loaded.line(("a", "b", "c")) == 3
    assert loaded.line(("a", "b", "c", 1)) == loaded.line(("a", "b", "c", "y")) == 4
    assert loaded.line(("d", "c")) == 3, "where the merged map has it"
    assert loaded.line(("d", "zz", "q")) == 5, "the nearest around it"
    assert loaded.line(()) == 1


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "a: 1\nb:\n  c: 1\n  c: 2\na: 3",
            {("a",): "it is there twice, first in line 1", ("b", "c"): "it is there twice, first in line 3"},
        ),
        ('{"a": 1,\n "a": 2}', {("a",): "it is there twice, first in line 1"}),
        ('{"a": 1, "a": 2, "b": "\x7f"}', {(): "the key 'a' is there twice"}),
        ("a: [1.00000000000000000001]", {("a", 0): "1.00000000000000000001 has more digits than a double keeps: write 1.0"}),
        ("a: [1.50, 1.5e0, 0.1, 1e22, .inf]", {}),
        ("x: &m {a: 1}\ny: {<<: *m, a: 2}", {}),
    ],
)
def test_what_a_plain_reader_passes_over_is_a_fault(text, faults):
    assert dict(load(text, "f").faults) == faults


def test_an_anchor_within_itself_is_no_endless_loop():
    with pytest.raises(ConfigError):
        parse("datasets: &a {d: *a}")
    with pytest.raises(ConfigError):
        parse("datasets: {d: {fields: &f {x: *f}}}")


def test_time_zones_are_names_of_the_database():
    assert {"UTC", "Europe/Berlin", "America/New_York"} <= time_zones()
    assert not {"localtime", "posixrules"} & time_zones()
