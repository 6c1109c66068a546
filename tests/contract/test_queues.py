"""What a stage asks of SQS and of DynamoDB's exports, against an emulator or AWS's documented answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from botocore.stub import Stubber

from tesseract.errors import BackendError, NotFoundError
from tesseract.storage import services
from tesseract.storage.exports import DynamoExports, Export
from tests.support import backends

START, END = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/raw"
ASKED = {
    "TableArn": TABLE,
    "S3Bucket": "bucket",
    "S3Prefix": "exports/w",
    "ClientToken": "raw-w-1",
    "ExportFormat": "DYNAMODB_JSON",
}


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    return backends.ENDPOINT or str(request.getfixturevalue("moto"))


@pytest.fixture
def exports() -> Iterator[tuple[DynamoExports, Stubber]]:
    client = backends.client("dynamodb", "http://127.0.0.1:1")
    with Stubber(client) as stub:
        found = DynamoExports(client, "raw", "bucket")
        found.__dict__["table_arn"] = TABLE
        yield found, stub


def test_dead_letters_are_counted_received_and_removed(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = backends.client("sqs", endpoint)
    monkeypatch.setattr(services, "client", lambda _: sqs)
    with pytest.raises(NotFoundError, match="is the stage deployed"):
        services.queue("nowhere", "work-dead")
    sqs.create_queue(QueueName="tesseract-test-work-dead")
    dead = services.queue("test", "work-dead")
    assert dead.receive() == []
    dead.send([f"task {number}" for number in range(23)])
    assert dead.depth() == 23
    seen = []
    while messages := dead.receive():
        dead.remove(messages)
        seen += [message.body for message in messages]
    assert sorted(seen) == sorted(f"task {number}" for number in range(23))
    assert dead.depth() == 0


def test_a_window_asks_for_its_changes_and_a_gap_for_all_that_is_there(exports: tuple[DynamoExports, Stubber]) -> None:
    found, stub = exports
    answer = {"ExportDescription": {"ExportArn": f"{TABLE}/export/0170-ab"}}
    window = {"ExportFromTime": START, "ExportToTime": END, "ExportViewType": "NEW_IMAGE"}
    changes = {**ASKED, "ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": window}
    stub.add_response("export_table_to_point_in_time", answer, changes)
    assert found.request("exports/w", START, END, "w-1") == f"{TABLE}/export/0170-ab"
    stub.add_response("export_table_to_point_in_time", answer, {**ASKED, "ExportType": "FULL_EXPORT", "ExportTime": END})
    assert found.request("exports/w", None, END, "w-1") == f"{TABLE}/export/0170-ab"


def test_an_export_that_aws_does_not_know_has_gone_and_other_trouble_is_trouble(exports: tuple[DynamoExports, Stubber]) -> None:
    found, stub = exports
    stub.add_client_error("describe_export", "ExportNotFoundException", "Export not found")
    assert found.describe(f"{TABLE}/export/x").status == "GONE"
    stub.add_client_error("describe_export", "AccessDeniedException", "no")
    with pytest.raises(BackendError, match="AccessDenied"):
        found.describe(f"{TABLE}/export/x")
    failed = {"ExportStatus": "FAILED", "FailureCode": "S3NoSuchBucket", "FailureMessage": "no bucket"}
    stub.add_response("describe_export", {"ExportDescription": failed})
    assert found.describe(f"{TABLE}/export/x") == Export("FAILED", "S3NoSuchBucket: no bucket")
