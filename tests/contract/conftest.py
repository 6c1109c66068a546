"""One suite, every backend: memory, moto, and Amazon's DynamoDB Local (tables only: it has no S3)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tesseract.storage.base import Objects, Table
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.storage.s3_manager import S3Objects
from tesseract.storage.wire import Wire
from tests.support import dynamodb_local

CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(scope="session")
def local_endpoint() -> Iterator[str]:
    with dynamodb_local.running() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def create_table(client) -> str:
    """A table as the stage deploys it: with the empty index that keeps a collection in one shard lineage."""
    name = f"raw-{uuid.uuid4().hex[:8]}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk", "pin")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        LocalSecondaryIndexes=[
            {
                "IndexName": "pin",
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "pin", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


@pytest.fixture(params=["memory", "moto", "dynamodb-local"])
def table(request) -> Table:
    if request.param == "memory":
        return MemoryTable()
    endpoint = request.getfixturevalue("moto" if request.param == "moto" else "local_endpoint")
    client = boto3.client("dynamodb", endpoint_url=endpoint, **CREDENTIALS)
    return DynamoTable(Wire(endpoint, "us-east-1"), create_table(client))


@pytest.fixture(params=["memory", "moto"])
def objects(request) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    client = boto3.client("s3", endpoint_url=request.getfixturevalue("moto"), **CREDENTIALS)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    return S3Objects(client, bucket)
