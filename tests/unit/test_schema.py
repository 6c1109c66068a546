"""What a user may write: every fault is a sentence that says where and what would be right; what may change later, and what not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesseract.config.dataset import decode_dataset, encode_dataset
from tesseract.config.manager import CACHE, Configs, apply, plan
from tesseract.config.schema import json_schema, parse, parse_file
from tesseract.errors import ConfigError, NotFoundError
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.utils.time_utils import to_micros

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BASE = {"group_by": "g", "time_field": "t", "aggregations": {"hourly": ["avg"]}, "fields": {"x": "float", "s": "string"}}


def dataset(**changes):
    return parse(json.dumps({"datasets": {"d": BASE | changes}}))["d"]


def faults(**changes):
    with pytest.raises(ConfigError) as caught:
        dataset(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_schema_is_current():
    assert (ROOT / "schemas" / "configuration.schema.json").read_text() == json_schema(), (
        "tesseract config schema > schemas/configuration.schema.json"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "schemas").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid_and_survive_storage(path):
    for name, found in parse_file(path).items():
        assert path.stem == name
        assert decode_dataset(encode_dataset(found)) == found


def test_a_list_of_statistics_means_all_numbers_and_a_map_names_fields():
    level = dataset(aggregations={"hourly": ["avg", "count"], "daily": {"max": ["x"], "count": "*"}})
    assert level.level("hourly").stats == {"count": (), "avg": ()}
    assert level.level("daily").stats == {"count": (), "max": ("x",)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"buffer_ttl_hour": 5}, "datasets.d.buffer_ttl_hour: there is no such setting (did you mean 'buffer_ttl_hours'?)"),
        ({"buffer_ttl_hours": 0}, "datasets.d.buffer_ttl_hours: input should be greater than or equal to 1 (got 0)"),
        ({"fields": {"x": "flaot"}}, "'flaot' should be 'int', 'float', 'string' or 'bool' (did you mean 'float'?)"),
        ({"fields": {"x": {"type": "int", "pth": "y"}}}, "d.fields.x.pth: there is no such setting (did you mean 'path'?)"),
        ({"fields": {"x": {"type": "string", "min": 1}}}, "min and max are for numbers, not for type string"),
        ({"fields": {"x": {"type": "int", "min": 2, "max": 1}}}, "min 2 is greater than max 1"),
        ({"fields": {"x": {"type": "int", "missing": [False]}}}, "quote the word"),
        ({"fields": {"rows": "int"}}, "'rows' is reserved"),
        ({"fields": {"": "int"}}, "1 to 255 characters"),
        ({"fields": {"n" * 256: "int"}}, "1 to 255 characters"),
        ({"fields": {"g": "int"}}, "'g' is a group_by field already"),
        ({"fields": {"x": "int", "y": {"type": "int", "path": "x"}}, "aggregations": {}}, "'x' is read twice"),
        ({"fields": {"x": {"type": "int", "path": "t"}}}, "'t' is read twice"),
        ({"group_by": ["g", "g"]}, "'g' is read twice"),
        ({"group_by": "t"}, "'t' is read twice"),
        ({"group_by": []}, "group_by needs at least one field"),
        ({"group_by": ["valid_time"]}, "'valid_time' is reserved"),
        ({"aggregations": {"hourly": {"avg": ["y"]}}}, "aggregations.hourly.avg: there is no field 'y'"),
        ({"aggregations": {"hourly": {"avg": ["s"]}}}, "is of type string, aggregates are of numbers"),
        ({"aggregations": {"hourly": ["mean"]}}, "'mean' should be"),
        ({"aggregations": {"weekly": ["avg"]}}, "weekly"),
        ({"archive_schedule": {"buffer_to_dayly": "P1D"}}, "did you mean 'daily'?"),
        ({"archive_schedule": {"buffer_to_daily": "P2D"}}, "'P2D' should be P1D"),
        ({"archive_schedule": {"buffer_to_monthly": "P1M", "monthly_to_daily": "P1D"}}, "must climb from fine to coarse"),
        ({"archive_schedule": {"daily_to_monthly": "P1M"}}, "do not make one chain from the buffer"),
        ({"archive_schedule": {}}, "at least one tier"),
        ({"max_future": "1 hour"}, "'1 hour' is not an ISO 8601 duration"),
        ({"max_future": "P99999999999999W"}, "longer than 36525 days"),
        ({"max_future": "P40000D"}, "longer than 36525 days"),
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
        ("datasets: {a: {description: 2013-99-99}}", "neither YAML nor JSON"),
        ("[" * 5000, "neither YAML nor JSON"),
        ("\x00", "neither YAML nor JSON"),
        ("datasets: {}", "datasets"),
        ("datasets: {a b: {}}", "a b"),
        ("datasets: {1: {}}", "datasets"),
        ("{}", "datasets: it is missing"),
        ("datasets: {d: {fields: {x: {type: float, min: .nan}}}}", "finite"),
        ("datasets: {d: {fields: {x: {type: float, missing: [.nan]}}}}", "finite"),
        ("datasets: {d: {fields: {x: {type: float, missing: [no]}}}}", "quote the word"),
    ],
)
def test_a_broken_document_is_refused(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert words in str(caught.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["P1D", "*", "avg", "float"]),
    lambda part: (
        st.lists(part, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "min", "missing", "hourly", "avg", "x", "buffer_to_daily"]), part, max_size=3)
    ),
    max_leaves=5,
)
SETTINGS = [
    "group_by",
    "time_field",
    "fields",
    "aggregations",
    "archive_schedule",
    "max_future",
    "buffer_ttl_hours",
    "unknown_fields",
]


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


# what may change --------------------------------------------------------------------------------------------------------


def test_a_new_dataset_is_version_one_and_the_same_again_is_no_change():
    first = plan(None, dataset(), NOW)
    assert (first.verdict, first.dataset.version) == ("new", 1)
    assert plan(first.dataset, dataset(), NOW).verdict == "unchanged"


@pytest.mark.parametrize(
    "changes",
    [{"buffer_ttl_hours": 24}, {"archive_schedule": {"buffer_to_weekly": "P1W"}}, {"description": "x"}, {"aggregations": {}}],
)
def test_what_records_mean_stays_and_the_rest_may_change(changes):
    first = plan(None, dataset(), NOW).dataset
    again = plan(first, dataset(**changes), NOW)
    assert (again.verdict, again.dataset.version, len(again.changes)) == ("changed", 2, 1)


@pytest.mark.parametrize(
    "changes",
    [{"group_by": "h"}, {"time_field": "u"}, {"ref_time_field": "r"}, {"unknown_fields": "keep"}, {"fields": {"x": "int"}},
     {"aggregations": {"hourly": ["max"]}}],
)  # fmt: skip
def test_a_change_of_meaning_is_refused_whatever_else_changes(changes):
    first = plan(None, dataset(), NOW).dataset
    refused = plan(first, dataset(**changes, buffer_ttl_hours=24), NOW)
    assert refused.verdict == "refused"
    assert refused.refusals[0].endswith(("give the new meaning a new dataset name", "cannot change once it exists"))
    assert refused.dataset.version == 1


def test_a_level_that_is_added_counts_from_when_every_writer_knows_of_it():
    first = plan(None, dataset(aggregations={}, max_future="PT2H"), NOW).dataset
    added = plan(first, dataset(), NOW).dataset
    assert added.level("hourly").live_from == to_micros(NOW + CACHE + timedelta(hours=2))
    assert plan(added, dataset(), NOW + timedelta(days=9)).verdict == "unchanged"
    removed = plan(added, dataset(aggregations={}), NOW).dataset
    again = plan(removed, dataset(), NOW + timedelta(days=1)).dataset
    assert again.level("hourly").live_from > added.level("hourly").live_from


def test_two_who_apply_at_once_do_not_overwrite_each_other():
    catalog = Catalog(MemoryTable(), MemoryObjects())
    assert apply(catalog, dataset(), NOW).verdict == "new"

    class Late:
        def __getattr__(self, name):
            return getattr(catalog, name)

        def dataset(self, name):
            old = catalog.dataset(name, 1)
            if catalog.dataset(name, 2) is None:
                apply(catalog, dataset(buffer_ttl_hours=24), NOW)
            return old

    with pytest.raises(ConfigError, match="at the same time"):
        apply(Late(), dataset(buffer_ttl_hours=48), NOW)
    assert catalog.dataset("d").buffer_ttl_hours == 24
    with pytest.raises(ConfigError, match="cannot change"):
        apply(catalog, dataset(group_by="h"), NOW)


def test_a_cached_configuration_is_a_minute_old_at_most():
    now, catalog = NOW, Catalog(MemoryTable(), MemoryObjects())
    configs = Configs(catalog, lambda: now)
    with pytest.raises(NotFoundError, match="known datasets: none yet"):
        configs.get("d")
    apply(catalog, dataset(), NOW)
    assert configs.get("d").version == 1
    apply(catalog, dataset(buffer_ttl_hours=24), NOW)
    assert configs.get("d").version == 1
    assert configs.get("d", at_least=2).version == 2
    apply(catalog, dataset(buffer_ttl_hours=48), NOW)
    now += CACHE
    assert configs.get("d").version == 3
    assert msgspec.structs.replace(configs.get("d"), version=0, levels=()) == msgspec.structs.replace(
        dataset(buffer_ttl_hours=48), levels=()
    )
