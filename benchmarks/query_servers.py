"""What the query benchmarks read from: MiniStack (DynamoDB and S3, one thread of Python) and DynamoDB Local, both of our own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore.config import Config

from tesseract.storage.keys import tables
from tests.support import dynamodb_local

REGION, ACCOUNT = "us-east-1", "000000000000"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
START_SECONDS = 30


class Servers(NamedTuple):
    """Endpoints: `cloud` has S3 and DynamoDB, `local` DynamoDB alone."""

    cloud: str
    local: str

    @property
    def dynamodb(self) -> dict[str, str]:
        """Who serves DynamoDB, as a figure names it → its endpoint."""
        return {"MiniStack": self.cloud, "DynamoDB Local": self.local}


@contextmanager
def running() -> Iterator[Servers]:
    """Start both on free ports of 127.0.0.1; end both by their pids."""
    os.environ.update({name: os.environ.get(name, value) for name, value in KEYS.items()})
    with _ministack() as cloud, dynamodb_local.running() as local:
        yield Servers(cloud, local)


@contextmanager
def _ministack() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="tesseract-bench-") as folder:
        settings = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "TMPDIR": folder}
        settings |= {"IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}  # a line of log for each call would cost time
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**clean, **KEYS, **settings},
        )
        try:
            _wait(f"{endpoint}/_ministack/health", process)
            yield endpoint
        finally:
            process.terminate()
            process.wait(15)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"MiniStack did not start (exit code {process.poll()})")


def client(service: str, endpoint: str) -> Any:
    """boto3's own client, with as many connections as ours has."""
    config = Config(max_pool_connections=32, retries={"mode": "standard"})
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, config=config)


def bucket(stage: str) -> str:
    """The archive bucket of a stage."""
    return f"tesseract-{stage}-{ACCOUNT}-archive"


def create(stage: str, servers: Servers, dynamodb: str) -> None:
    """The tables of a stage at `dynamodb`, its bucket in MiniStack."""
    for name in tables(stage).values():
        client("dynamodb", dynamodb).create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
    client("s3", servers.cloud).create_bucket(Bucket=bucket(stage))
