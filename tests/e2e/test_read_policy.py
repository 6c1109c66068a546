"""Who has nothing but the stage's read policy: an emulator that checks rights lets them read everything, and write nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pytest
from botocore.exceptions import ClientError

from tesseract.storage.base import Backend
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.keys import tables
from tesseract.storage.s3_manager import S3Objects
from tesseract.storage.wire import Wire
from tesseract.store import Store
from tests.support import backends
from tests.support.laptop import TESSERACT, clean_environment
from tests.unit.query_world import DATASET, NOW, START, World, values
from tests.unit.test_template import TABLES

pytestmark = pytest.mark.e2e
STAGE, REGION, ACCOUNT = "readers", "us-east-1", "000000000000"
BUCKET = f"tesseract-{STAGE}-{ACCOUNT}-archive"
START_SECONDS = 60
ARNS = {f"{name.title()}Table.Arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}" for name, table in tables(STAGE).items()}
ARNS["S3BucketArchive.Arn"] = f"arn:aws:s3:::{BUCKET}"


def policy() -> dict[str, Any]:
    """The policy of serverless.yml as CloudFormation would make it."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(one) for one in value]
        return (
            ARNS[value["GetAtt"]]
            if "GetAtt" in value
            else value["Sub"].replace("${S3BucketArchive.Arn}", ARNS["S3BucketArchive.Arn"])
        )

    document = TABLES["ReadPolicy"]["Properties"]["PolicyDocument"]
    return document | {"Statement": [one | {"Resource": resolved(one["Resource"])} for one in document["Statement"]]}


class Checking:
    """MiniStack with AUTH: whoever calls with keys of a user may do what the policies of that user say. `test` is its root."""

    def __init__(self, folder) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        quiet = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
        env = {**clean_environment(folder), **quiet, "AUTH": "true", "GATEWAY_PORT": str(port), "TMPDIR": str(folder)}
        with (folder / "ministack.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ministack"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                urlopen(f"{self.endpoint}/_ministack/health", timeout=2).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("MiniStack did not start")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def reader(self) -> dict[str, str]:
        """The keys of a new user who has the read policy and no other."""
        iam = boto3.client("iam", endpoint_url=self.endpoint, **backends.CREDENTIALS)
        arn = iam.create_policy(PolicyName=f"tesseract-{STAGE}-read", PolicyDocument=json.dumps(policy()))["Policy"]["Arn"]
        iam.create_user(UserName="reader")
        iam.attach_user_policy(UserName="reader", PolicyArn=arn)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"], "region_name": REGION}

    def stage(self) -> World:
        """A stage with rows in the archive and in the buffer, and levels, written by root."""
        dynamodb = backends.client("dynamodb", self.endpoint)
        for name in tables(STAGE).values():
            backends.create_table(dynamodb, name)
        s3 = backends.client("s3", self.endpoint)
        s3.create_bucket(Bucket=BUCKET)
        wire = Wire(self.endpoint, REGION)
        stored = {name: DynamoTable(wire, table) for name, table in tables(STAGE).items()}
        world = World()
        world.backend = Backend(**stored, objects=S3Objects(s3, BUCKET))
        world.store = Store(world.backend, STAGE)
        world.store.catalog.put_dataset(DATASET, START - timedelta(days=5))
        hours = [START + step * timedelta(hours=1) for step in range(24)]
        world.archive([(at, values(step), False, START) for step, at in enumerate(hours)])
        world.buffer(NOW, values(7))
        world.snapshot("daily", [(START, [(at, values(step)) for step, at in enumerate(hours)], 1)])
        world.progress(START + timedelta(days=10))
        s3.put_object(Bucket=BUCKET, Key="quarantine/dataset=w/1.json", Body=b"{}")
        return world


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[tuple[Checking, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("checking")
    cloud = Checking(folder)
    try:
        cloud.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            cloud.stage()
        yield cloud, cloud.reader()
    finally:
        cloud.stop()


def tesseract(cloud: Checking, keys: dict[str, str], folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of somebody with these keys."""
    aws = {name.upper(): value for name, value in keys.items()}
    env = clean_environment(folder, AWS_REGION=REGION, AWS_ENDPOINT_URL=cloud.endpoint, TESSERACT_STAGE=STAGE, **aws)
    return subprocess.run([*TESSERACT, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (("query", "w", "--start", "2026-03-01", "--end", "2026-04-01"), 25),
        (("query", "w", "A", "--level", "daily", "--start", "2026-03-01", "--end", "2026-03-02"), 1),
        (("query", "w", "A", "--level", "hourly", "--start", "2026-03-19", "--end", "2026-03-21"), 1),
        (("sql", "select station, n from w where station = 'A' and valid_time < '2026-03-02'"), 24),
        (("latest", "w", "A"), 1),
    ],
)
def test_the_read_policy_is_enough_to_read(cloud, tmp_path, command, rows):
    checking, keys = cloud
    done = tesseract(checking, keys, tmp_path, *command, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == rows


def test_the_read_policy_shows_configurations(cloud, tmp_path):
    checking, keys = cloud
    assert "station" in tesseract(checking, keys, tmp_path, "config", "show", "w").stdout


def test_the_read_policy_lets_nothing_be_written(cloud, tmp_path):
    checking, keys = cloud
    user = boto3.Session(**keys)
    dynamodb, s3 = (user.client(service, endpoint_url=checking.endpoint) for service in ("dynamodb", "s3"))
    key = {"pk": {"S": "w#A#2026-03-01"}, "sk": {"S": "x"}}
    attempts = [
        *(lambda name=name: dynamodb.put_item(TableName=name, Item=key) for name in tables(STAGE).values()),
        *(lambda name=name: dynamodb.delete_item(TableName=name, Key=key) for name in tables(STAGE).values()),
        lambda: dynamodb.scan(TableName=tables(STAGE)["catalog"]),
        lambda: s3.put_object(Bucket=BUCKET, Key="archive/x", Body=b""),
        lambda: s3.delete_object(Bucket=BUCKET, Key="archive/raw/A/1.parquet"),
        lambda: s3.get_object(Bucket=BUCKET, Key="quarantine/dataset=w/1.json"),
    ]
    for attempt in attempts:
        with pytest.raises(ClientError, match=r"AccessDenied|not authorized"):
            attempt()
    file = tmp_path / "w.yaml"
    file.write_text("datasets:\n  x: {group_by: station, time_field: t}\n")
    refused = tesseract(checking, keys, tmp_path, "config", "apply", str(file))
    assert refused.returncode == 3, refused.stderr
    assert "PutItem" in refused.stderr
