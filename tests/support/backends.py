"""The storage that the contract and the integration suite run over: emulators of their own, or whatever AWS_ENDPOINT_URL names."""

from __future__ import annotations

import os
import uuid
from typing import Any

import boto3

from tesseract.storage.base import Backend
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.s3_manager import S3Objects
from tesseract.storage.wire import Wire

ENDPOINT = os.environ.get("AWS_ENDPOINT_URL")
CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


def backends(*names: str) -> list[str]:
    """The names of the backends that a suite runs over: `endpoint` alone where AWS_ENDPOINT_URL is set."""
    return ["endpoint"] if ENDPOINT else list(names)


def client(service: str, endpoint: str) -> Any:
    """A boto3 client of an emulator."""
    return boto3.client(service, endpoint_url=endpoint, **CREDENTIALS)


def create_table(dynamodb: Any, name: str = "") -> str:
    """A table as the stage deploys it, of that name or a new one: with the index that keeps a collection in one shard lineage."""
    name = name or f"raw-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
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
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    return name


def table(endpoint: str) -> DynamoTable:
    """A new table of an emulator."""
    return DynamoTable(Wire(endpoint, "us-east-1"), create_table(client("dynamodb", endpoint)))


def objects(endpoint: str) -> S3Objects:
    """A new bucket of an emulator."""
    storage = client("s3", endpoint)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    storage.create_bucket(Bucket=bucket)
    return S3Objects(storage, bucket)


def stage(endpoint: str) -> Backend:
    """The storage of a new stage: three tables and a bucket."""
    return Backend(raw=table(endpoint), live=table(endpoint), catalog=table(endpoint), objects=objects(endpoint))
