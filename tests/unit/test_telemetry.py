"""What the entry points of ingestion log and measure: one JSON shape, numbers only, and no library for traces nobody asked for."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tesseract.errors import BackendError
from tesseract.ingestion import telemetry
from tests.support.ingest_world import World, reading

ROOT = Path(__file__).parents[2]
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 28_000)


@pytest.fixture
def world(monkeypatch):
    from ingestion import http_api, kinesis_stream

    monkeypatch.setenv("TESSERACT_STAGE", "dev")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "tesseract")
    world = World()
    for module in (http_api, kinesis_stream):
        monkeypatch.setattr(module, "service", lambda: world.service)
    return world


@pytest.fixture
def lines(monkeypatch, capsys):
    """The lines that went to the log, as JSON: those of the logger, and those of the metrics."""
    logged = []

    class Handler(logging.Handler):
        def emit(self, record):
            logged.append(json.loads(formatter.format(record)))

    formatter = telemetry.logger.registered_formatter
    handler = Handler()
    telemetry.logger._logger.addHandler(handler)
    yield lambda: (logged, [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line])
    telemetry.logger._logger.removeHandler(handler)


def post(**event):
    from ingestion.http_api import handler

    return handler({"requestContext": {}, "pathParameters": {"dataset": "plant"}} | event, CONTEXT)


def told(entry):
    names = (
        "level",
        "message",
        "path",
        "dataset",
        "status",
        "accepted",
        "rejected",
        "warnings",
        "not_written",
        "throttled",
        "error",
    )
    return tuple(entry[name] for name in names)


def test_a_request_is_one_line_and_one_set_of_metrics(world, lines):
    body = json.dumps([reading(), reading(1, x="secret")])
    assert post(rawPath="/datasets/plant/records", body=body)["statusCode"] == 207
    (entry,), (metrics,) = lines()
    assert told(entry) == ("INFO", "ingested", "/datasets/plant/records", "plant", 207, 1, 1, 0, 0, 0, "")
    assert entry["bytes"] == len(body) - len("[, ]")
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["stage", "dataset", "service"]]
    assert {name: metrics[name] for name in metrics if name != "_aws"} == {
        "stage": "dev",
        "dataset": "plant",
        "service": "tesseract",
        "RecordsAccepted": [1],
        "RecordsRejected": [1],
        "RecordBytes": [entry["bytes"]],
    }
    assert "secret" not in json.dumps([entry, metrics])


def test_direct_and_kinesis_have_the_same_shape(world, lines):
    from ingestion import http_api, kinesis_stream

    assert http_api.handler({"dataset": "plant", "records": [reading()]}, CONTEXT)["status"] == 200
    batch = {"Records": [{"kinesis": {"sequenceNumber": "1", "data": ""}}]}
    assert kinesis_stream.handler(batch, CONTEXT) == {"batchItemFailures": []}
    (direct, kinesis), (_, metrics) = lines()
    assert told(direct) == ("INFO", "ingested", "direct", "plant", 200, 1, 0, 0, 0, 0, "")
    assert told(kinesis) == ("INFO", "ingested", "kinesis", "_unknown", 0, 0, 1, 0, 0, 0, "")
    assert direct.keys() == kinesis.keys()
    assert (metrics["dataset"], metrics["RecordsRejected"]) == ("_unknown", [1])


def test_trouble_is_a_warning_without_the_key_and_a_refusal_has_no_metrics(world, lines):
    world.live.error = BackendError("AccessDenied", operation="PutItem", key="plant#secret#days")
    assert post(body=json.dumps(reading(t="2025-12-01T00:00:00Z")))["statusCode"] == 503
    assert post(body="", pathParameters={"dataset": "secret"})["statusCode"] == 404
    (trouble, unknown), (metrics,) = lines()
    assert told(trouble)[0] == "WARNING"
    assert trouble["error"] == "PutItem: AccessDenied"
    assert metrics["RecordsNotWritten"] == [1]
    assert told(unknown)[3:5] == ("_unknown", 404)
    assert "secret" not in json.dumps([trouble, unknown, metrics])


def test_throttling_is_counted(world, lines):
    world.raw.throttled = lambda item: True
    assert post(body=json.dumps(reading()))["statusCode"] == 429
    (entry,), (metrics,) = lines()
    assert told(entry)[-3:] == (1, 1, "")
    assert metrics["RecordsThrottled"] == metrics["RecordsNotWritten"] == [1]


TRACED = """
import os, sys
from types import SimpleNamespace
from tesseract.ingestion.telemetry import traced
handler = traced(lambda event, context: event)
assert handler({"a": 1}, SimpleNamespace(function_name="f")) == {"a": 1}
print("aws_xray_sdk" in sys.modules)
"""


@pytest.mark.parametrize(
    ("tracing", "sampled", "loaded"), [("Active", 1, True), ("Active", 0, False), ("PassThrough", 1, False), (None, 1, False)]
)
def test_only_an_invocation_that_is_traced_loads_the_tracer(tracing, sampled, loaded):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_", "POWERTOOLS"))}
    environment |= {"_X_AMZN_TRACE_ID": f"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled={sampled}"}
    environment |= {"TESSERACT_TRACING": tracing} if tracing else {}
    done = subprocess.run([sys.executable, "-c", TRACED], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{loaded}\n"
