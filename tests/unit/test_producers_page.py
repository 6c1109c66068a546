"""docs/producers.md: every example runs against a stage in memory, every configuration is checked by what AWS takes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tesseract import cli
from tesseract.config.schema import parse
from tesseract.storage.memory import memory_backend
from tesseract.store import Store
from tests.support.flaky_api import FlakyApi
from tests.support.ingest_world import World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "producers.md").read_text()
README = (ROOT / "README.md").read_text()
GREENHOUSE = parse(re.search(r"```yaml\n(# greenhouse.yaml\n.*?)```", README, re.S)[1])["greenhouse"]
IOT = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


def blocks(section: str, language: str) -> list[str]:
    """The examples of one language under a heading."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)[1]
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@pytest.fixture
def world(monkeypatch):
    made = World(GREENHOUSE)
    backend = memory_backend()
    store = Store(backend, "dev", lambda: datetime(2026, 1, 5, tzinfo=UTC))
    store.catalog.put_dataset(GREENHOUSE, made.now - timedelta(days=1))
    monkeypatch.setattr("tesseract.connect", lambda stage: store)
    monkeypatch.setattr("tesseract.storage.services.client", lambda service, timeout=60: Aws(made))
    monkeypatch.setattr("tesseract.ingestion.transports.invoke", lambda stage, name, event: Aws(made).run(event))
    monkeypatch.setattr("boto3.client", lambda service: Aws(made), raising=False)
    return made


class Aws:
    """Lambda and Kinesis, as far as the examples use them."""

    def __init__(self, world):
        self.world = world

    def run(self, event):
        import msgspec

        return self.world.service.handle(json.loads(msgspec.json.encode(event)), 28)

    def invoke(self, FunctionName, Payload):  # noqa: N803
        assert FunctionName == "tesseract-dev-ingestHttp"
        return {"Payload": io.BytesIO(json.dumps(self.run(json.loads(Payload))).encode())}

    def put_record(self, StreamName, Data, PartitionKey):  # noqa: N803
        assert StreamName == "tesseract-dev-records"
        assert self.world.kinesis(Data.encode()) == []

    def put_records(self, StreamName, Records):  # noqa: N803
        """Takes all but the last, until one is left."""
        taken = Records[:-1] or Records
        for entry in taken:
            self.put_record(StreamName, **entry)
        return {
            "Records": [{}] * len(taken) + [{"ErrorCode": "ProvisionedThroughputExceededException"}] * (len(Records) - len(taken))
        }


def run(code, capsys):
    exec(compile(code, "docs/producers.md", "exec"), {"__name__": "example"})
    return capsys.readouterr().out


def temperatures(world):
    return [fields.get("temperature") for fields in world.stored().values()]


def test_put(world, capsys):
    dicts, table = blocks("Python, all at once", "python")
    assert run(dicts, capsys).startswith("1\n1 time 2025-03-01T11:30:00 the time has no zone")
    assert run(table, capsys) == "{'accepted': 2, 'rejected': []}\n"
    assert len(world.stored()) == 3


def test_producer(world, capsys):
    (code,) = blocks("Python, one by one", "python")
    assert run(code, capsys) == "Counts(sent=60, accepted=60, rejected=0, retried=0, pending=0)\n"
    assert len(world.stored()) == 60


@pytest.fixture
def api(world, monkeypatch):
    with FlakyApi(world) as made:
        for name, value in {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "token"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("API_URL", made.url)
        yield made


def test_curl(api, tmp_path):
    (code,) = blocks("HTTP with any client", "sh")
    lines = [json.dumps({"sensor": "north", "time": f"2025-03-01T10:0{minute}:00Z", "temperature": 1}) for minute in (0, 1)]
    (tmp_path / "readings.ndjson").write_text("\n".join(lines))
    done = subprocess.run(["sh", "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"accepted": 2, "rejected": []}
    assert api.signatures[0].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "/us-east-1/execute-api/aws4_request" in api.signatures[0]


def test_botocore(api, world, capsys):
    (code,) = blocks("HTTP with any client", "python")
    assert run(code, capsys) == "{'accepted': 1, 'rejected': []}\n"
    assert "/us-east-1/execute-api/aws4_request" in api.signatures[0]
    assert temperatures(world) == [22]


def test_lambda(world, capsys):
    (code,) = blocks("Lambda invoke", "python")
    assert run(code, capsys) == ""
    assert temperatures(world) == [21]


def test_kinesis(world, capsys):
    (code,) = blocks("Kinesis with boto3", "python")
    run(code, capsys)
    assert len(world.stored()) == 4
    assert world.quarantine() == {}


def test_kpl(world):
    (code,) = blocks("Kinesis Producer Library", "java")
    literal = re.search(r'reading = (".*");', code)[1]
    reading = json.loads(literal)
    assert world.kinesis(reading.encode()) == []
    assert len(world.stored()) == 1


def test_agent(world):
    (line,), (text,) = blocks("Kinesis agent", "text"), blocks("Kinesis agent", "json")
    (flow,) = json.loads(text)["flows"]
    assert set(flow) <= {"filePattern", "kinesisStream", "partitionKeyOption", "initialPosition", "dataProcessingOptions"}
    assert (flow["kinesisStream"], flow["partitionKeyOption"]) == ("tesseract-dev-records", "DETERMINISTIC")
    assert world.kinesis(line.encode()) == []
    assert len(world.stored()) == 1


def test_iot_rules_are_what_aws_takes_and_make_what_the_stage_takes(world):
    import botocore.session
    from botocore.stub import Stubber

    rules = [json.loads(text) for text in blocks("AWS IoT", "json")]
    client = botocore.session.get_session().create_client("iot", **IOT)
    with Stubber(client) as stub:  # checks every parameter against AWS's model
        for rule in rules:
            known = client.meta.service_model.operation_model("CreateTopicRule").input_shape.members["topicRulePayload"]
            assert set(rule) <= set(known.members)
            stub.add_response("create_topic_rule", {})
            client.create_topic_rule(ruleName="greenhouse", topicRulePayload=rule)
    kinesis, function, http = (rule["actions"][0] for rule in rules)
    reading = {"sensor": "north", "time": "2025-03-01T10:00:00Z", "temperature": 20}
    named = {"dataset": re.search(r"'(\w+)' AS dataset", rules[0]["sql"])[1]}
    assert world.kinesis(reading | named) == []
    assert kinesis["kinesis"]["partitionKey"] == "${sensor}"
    assert world.kinesis({"records": [reading | {"time": "2025-03-01T10:01:00Z"}]} | named) == []
    batch = {"records": [reading | {"time": "2025-03-01T10:02:00Z"}]} | named
    assert world.service.handle(batch, 28)["accepted"] == 1
    assert function["lambda"]["functionArn"].endswith(":tesseract-dev-ingestHttp")
    assert http["http"]["url"].startswith(http["http"]["confirmationUrl"])
    assert (
        world.post(json.dumps(reading), dataset="greenhouse", headers={"content-type": http["http"]["headers"][0]["value"]})[0]
        == 200
    )
    assert len(world.stored()) == 3


def test_the_commands_of_the_page_are_commands(world, monkeypatch, capsys, tmp_path):
    sent = []
    monkeypatch.setattr(
        "tesseract.store.connect", lambda stage=None, bucket=None: SimpleNamespace(stage=stage, dataset=lambda *a: GREENHOUSE)
    )
    monkeypatch.setattr(
        sys.modules["tesseract.cli.ingest"].Run, "send", lambda self, source: sent.append((source.name, self._resume))
    )
    monkeypatch.setattr("tesseract.ingestion.client.transport_of", lambda via, stage: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archive").mkdir()
    for name in ("archive/x.parquet", "readings.ndjson", "more.csv.gz"):
        (tmp_path / name).touch()
    for code in blocks("Files", "sh"):
        assert cli.run(shlex.split(code)[1:]) == 0
    names = ["readings.ndjson", "more.csv.gz", "archive/x.parquet"]
    assert sent == [(name, resume) for resume in (False, True) for name in names]
