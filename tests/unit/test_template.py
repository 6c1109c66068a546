"""serverless.yml, read as text: rules whose breach no deployment reports. `make package` checks the template that comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tesseract.local import after_deploy
from tesseract.storage.keys import OUTAGE_PK, USED_PK, history_key, raw_key, worklist_pks

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions: `!GetAtt A.b` reads as {"GetAtt": "A.b"}."""


def _function(loader, suffix, node):
    construct = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    return {suffix: construct.get(type(node), loader.construct_mapping)(node)}


_Loader.add_multi_constructor("!", _function)
TEMPLATE = yaml.load((ROOT / "serverless.yml").read_text(), _Loader)
FUNCTIONS = TEMPLATE["functions"]
TABLES = TEMPLATE["resources"]["Resources"]


def rights(function, action):
    """The resources that a function may do `action` to."""
    found = []
    for statement in function["iamRoleStatements"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        found += resources if action in actions else []
    return found


def events(function, kind):
    return [event[kind] for event in function["events"] if kind in event]


def test_a_function_on_a_timer_may_invoke_itself_or_its_timer_never_fires():
    timed = {name: function for name, function in FUNCTIONS.items() if events(function, "schedule")}
    assert set(timed) >= {"export", "collect", "snapshot", "compact", "gc", "metadata"}
    for name, function in timed.items():
        (resource,) = rights(function, "lambda:InvokeFunction")
        assert resource["Sub"].endswith(f"function:tesseract-${{sls:stage}}-{name}*")


def test_nobody_has_a_right_to_everything():
    for function in FUNCTIONS.values():
        for statement in function["iamRoleStatements"]:
            assert statement["Action"] != "*"
            assert statement["Resource"] != "*" or all(action.startswith("xray:Put") for action in statement["Action"])


def test_a_function_that_is_traced_may_send_its_traces_or_it_cannot_be_deployed():
    traced = [function for function in FUNCTIONS.values() if "tracing" in function]
    assert len(traced) == 2
    for function in traced:
        assert function["tracing"] == function["environment"]["TESSERACT_TRACING"] == "${self:custom.settings.tracing}"
        assert rights(function, "xray:PutTraceSegments") == rights(function, "xray:PutTelemetryRecords") == ["*"]


@pytest.mark.parametrize("name", ["ingestHttp", "ingestKinesis"])
def test_ingestion_may_put_the_mark_of_use_and_nothing_else_into_the_catalog(name):
    statements = [one for one in FUNCTIONS[name]["iamRoleStatements"] if one["Resource"] == {"GetAtt": "CatalogTable.Arn"}]
    reads, mark = statements
    assert reads["Action"] == ["dynamodb:GetItem", "dynamodb:Query"]
    assert mark["Action"] == "dynamodb:PutItem"
    assert mark["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [USED_PK]}}


def test_the_raw_table_keeps_a_collection_in_one_lineage_and_streams_both_images():
    raw = TABLES["RawTable"]["Properties"]
    (index,) = raw["LocalSecondaryIndexes"]
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["pk", "pin"]
    assert raw["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert "LocalSecondaryIndexes" not in TABLES["LiveTable"]["Properties"]  # a hot key must be able to split


@pytest.mark.parametrize("name", ["RawTable", "LiveTable", "CatalogTable"])
def test_tables_are_on_demand_recoverable_and_protected(name):
    table = TABLES[name]
    properties = table["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "${self:custom.settings.keep}"
    assert "DeletionProtectionEnabled" in properties


@pytest.mark.parametrize("name", ["ingestKinesis", "aggregates", "latest"])
def test_a_stream_is_never_given_up(name):
    (stream,) = events(FUNCTIONS[name], "stream")
    assert stream["functionResponseType"] == "ReportBatchItemFailures"
    assert stream["maximumRetryAttempts"] == -1
    assert stream["bisectBatchOnFunctionError"]
    assert stream["startingPosition"] == "TRIM_HORIZON"
    assert stream.get("parallelizationFactor", 1) == 1
    assert rights(FUNCTIONS[name], "sqs:SendMessage") == [stream["destinations"]["onFailure"]["arn"]]


@pytest.mark.parametrize("name", ["aggregates", "latest"])
def test_the_streams_filters_let_current_items_through_and_revisions_kept_not(name):
    (stream,) = events(FUNCTIONS[name], "stream")
    ((pattern,), times) = stream["filterPatterns"], [datetime(year, 2, 3) for year in (1, 999, 1970, 2026, 9999)]
    prefixes = tuple(rule["prefix"] for rule in pattern["dynamodb"]["Keys"]["sk"]["S"])
    for moment in (moment.replace(tzinfo=UTC) for moment in times):
        assert raw_key("w", "A", moment)[1].startswith(prefixes)
        assert not history_key("w", "A", moment, moment)[1].startswith(prefixes)
    assert {f"{digit}" for digit in range(10)} == set(prefixes)
    assert pattern["eventName"] == ["INSERT", "MODIFY"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_handler_is_there(name):
    module, _, attribute = FUNCTIONS[name]["handler"].rpartition(".")
    path = ROOT / FUNCTIONS[name]["module"] / f"{module}.py"
    assert f"def {attribute}(" in path.read_text()
    assert len(path.read_text().splitlines()) <= 60


def test_the_dashboard_is_json():
    body = TABLES["Dashboard"]["Properties"]["DashboardBody"]["Sub"]
    titles = [widget["properties"]["title"] for widget in json.loads(body)["widgets"]]
    assert len(titles) == len(set(titles)) == 4


def test_stream_functions_may_record_an_outage_and_the_archive_may_delete_nothing_of_a_dataset():
    for name in ("aggregates", "latest"):
        statements = [one for one in FUNCTIONS[name]["iamRoleStatements"] if one["Action"] == "dynamodb:PutItem"]
        (outage,) = [one for one in statements if one["Resource"] == {"GetAtt": "CatalogTable.Arn"}]
        assert outage["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [OUTAGE_PK]}}
    deletes = [one for one in FUNCTIONS["snapshot"]["iamRoleStatements"] if "DeleteItem" in str(one["Action"])]
    leading = [value for one in deletes for condition in one["Condition"].values() for value in condition["dynamodb:LeadingKeys"]]
    assert leading == ["worklist#*", OUTAGE_PK]
    assert all(pk.startswith(leading[0][:-1]) for pk in worklist_pks())


def test_gc_may_delete_old_manifests_and_segments_and_nothing_else():
    statements = [one for one in FUNCTIONS["gc"]["iamRoleStatements"] if "Delete" in str(one["Action"])]
    versions, objects = statements
    assert versions["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["manifest#*"]}}
    assert [resource["Sub"] for resource in objects["Resource"]] == [
        "${S3BucketArchive.Arn}/archive/*",
        "${S3BucketArchive.Arn}/catalog/manifests/*",
    ]


def test_no_entry_point_is_named_like_a_module_of_the_interpreter():
    for function in FUNCTIONS.values():
        assert function["handler"].partition(".")[0] not in sys.stdlib_module_names


def test_a_task_is_tried_five_times_and_then_an_alarm_tells():
    resources = TABLES
    redrive = resources["Work"]["Properties"]["RedrivePolicy"]
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"]["GetAtt"] == "WorkDead.Arn"
    alarm = resources["WorkDeadAlarm"]["Properties"]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("ApproximateNumberOfMessagesVisible", 0)
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"GetAtt": "WorkDead.QueueName"}}]


# storage classes ----------------------------------------------------------------------------------------------------------


def lifecycle(classes):
    """The rules that lifecycle.js makes of a stage's storage classes, or what it says against them."""
    code = "console.log(JSON.stringify(require('./lifecycle.js').rules(JSON.parse(process.argv[1]))))"
    done = subprocess.run(["node", "-e", code, json.dumps(classes)], cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_segments_move_to_the_storage_classes_of_the_stage():
    rules = TEMPLATE["resources"]["extensions"]["S3BucketArchive"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rules == "${file(lifecycle.js)}"
    stages = yaml.safe_load((ROOT / "stages.yml").read_text())
    assert [stage["storageClasses"] for stage in stages.values()] == [{}, {}, {}]
    plain = lifecycle({})
    assert [rule["Id"] for rule in plain] == ["mpu", "exports"]
    moves = [{"StorageClass": "STANDARD_IA", "TransitionInDays": 30}, {"StorageClass": "GLACIER_IR", "TransitionInDays": 180}]
    moved = {"Id": "archive", "Status": "Enabled", "Prefix": "archive/", "Transitions": moves}
    assert lifecycle({"STANDARD_IA": 30, "GLACIER_IR": 180}) == [*plain, moved]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"GLACIER": 90}, "GLACIER is none that can be read at once; there are STANDARD_IA, INTELLIGENT_TIERING, GLACIER_IR"),
        ({"STANDARD_IA": 7}, "STANDARD_IA: 7 should be whole days, at least 30"),
        ({"GLACIER_IR": "a year"}, "GLACIER_IR: a year should be whole days, at least 1"),
        ({"GLACIER_IR": 30, "STANDARD_IA": 90}, "objects move from STANDARD_IA to INTELLIGENT_TIERING to GLACIER_IR"),
        ({"STANDARD_IA": 30, "GLACIER_IR": 40}, "stay 30 days in a class"),
    ],
)
def test_a_storage_class_that_a_query_would_wait_for_is_refused(classes, said):
    answer = lifecycle(classes)
    assert answer.count("storageClasses: ") >= 1
    assert said in answer


def test_the_laptop_gets_the_same_rules_by_api(monkeypatch):
    calls = []

    class Client:
        def put_bucket_lifecycle_configuration(self, **settings):
            calls.append(settings)

    monkeypatch.setattr(after_deploy, "client", lambda service: Client())
    assert after_deploy._lifecycle("b", lifecycle({"INTELLIGENT_TIERING": 1})) == 3
    (call,) = calls
    assert [rule["Filter"]["Prefix"] for rule in call["LifecycleConfiguration"]["Rules"]] == ["", "exports/", "archive/"]
    assert call["LifecycleConfiguration"]["Rules"][2]["Transitions"] == [{"StorageClass": "INTELLIGENT_TIERING", "Days": 1}]
