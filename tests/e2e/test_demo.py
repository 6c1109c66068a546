"""The whole of it: a fresh laptop cloud, a real deploy, the demo with all its checks, then bad input of every kind by real HTTP.

With AWS_ENDPOINT_URL or credentials of a deployed stage the same requests run against another cloud; the demo needs a laptop.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tesseract.local.state import Stack, is_alive

ROOT = Path(__file__).parents[2]
TESSERACT = [sys.executable, "-m", "tesseract.cli"]
GOOD = {"origin": "JFK", "time_hour": "2013-06-01T00:00:00Z", "temp": 70.5}

pytestmark = pytest.mark.e2e  # one file, one worker: make test distributes by file


def clean_environment(folder: Path, **extra: str) -> dict[str, str]:
    """This process's environment without AWS settings: whatever runs must find the stack by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESSERACT_"))}
    return {**kept, "TESSERACT_LOCAL_DIR": str(folder), "COLUMNS": "160", **extra}


class Demo:
    """A demo that has run, and its stack, which is still up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "examples/demo.py"]
        self.run = subprocess.run(
            command, cwd=ROOT, env=clean_environment(folder, KEEP="1"), capture_output=True, text=True, timeout=540, check=False
        )

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = clean_environment(self.folder, **environment)
        return subprocess.run([*TESSERACT, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    def stack(self) -> Stack:
        import msgspec

        return msgspec.json.decode((self.folder / "stack.json").read_bytes(), type=Stack)

    def post(self, body: bytes, dataset: str = "weather", **headers: str) -> tuple[int, dict]:
        """A signed request to the deployed API."""
        from tesseract.storage.services import SignedHttp

        stack = self.stack()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in stack.environment().items():
                patch.setenv(name, value)
            status, answer, _ = SignedHttp("execute-api").post(f"{stack.api_url}/datasets/{dataset}/records", body, headers)
        return status, json.loads(answer)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("local")
    demo = Demo(folder)
    try:
        yield demo
    finally:
        demo.cli("local", "down")


def test_the_demo_ends_with_every_check_held(demo):
    assert demo.run.returncode == 0, demo.run.stdout[-3000:] + demo.run.stderr[-2000:]
    assert "every check held" in demo.run.stdout
    assert "26,115 weather and 1,440 radiation rows in, all out" in demo.run.stdout
    for source in ("only in the archive", "only in the buffer", "in both"):
        assert source in demo.run.stdout


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is empty"),
        (b"temp=1", 400, "not JSON"),
        (json.dumps({**GOOD, "temp": "warm"}).encode(), 400, "'temp' is a number, not text"),
        (json.dumps({"origin": "JFK"}).encode(), 400, "'time_hour' is missing"),
        (json.dumps({"time_hour": "2013-06-01T00:00:00Z"}).encode(), 400, "'origin' is missing"),
        (json.dumps({**GOOD, "time_hour": "2013-06-01T00:00:00"}).encode(), 400, "has no zone"),
        (json.dumps({**GOOD, "time_hour": "2099-06-01T00:00:00Z"}).encode(), 400, "in the future"),
        (json.dumps({**GOOD, "tmep": 1}).encode(), 400, "no field 'tmep'"),
        (json.dumps({**GOOD, "humid": 101}).encode(), 400, "above its maximum 100"),
        (json.dumps([GOOD, {**GOOD, "temp": "warm"}]).encode(), 207, "'temp' is a number, not text"),
        (b"[" + b" " * 4_600_000 + b"]", 413, "send it in parts"),
    ],
)
def test_bad_input_gets_one_sentence_and_never_a_500(demo, body, status, said):
    got, answer = demo.post(body, **{"content-type": "application/json"})
    assert got == status, answer
    assert said in json.dumps(answer, ensure_ascii=False)


def test_an_unknown_dataset_is_not_found_and_the_known_ones_are_named(demo):
    status, answer = demo.post(json.dumps(GOOD).encode(), dataset="wether")
    assert status == 404
    assert "weather" in answer["error"]


def test_the_good_records_of_a_batch_are_kept(demo):
    good = {"origin": "JFK", "time_hour": "2014-02-01T05:00:00Z", "temp": 20.25}
    status, answer = demo.post("\n".join(["{", json.dumps(good), '{"origin": "JFK"}']).encode())
    assert (status, answer["accepted"], [entry["index"] for entry in answer["rejected"]]) == (207, 1, [0, 2])
    found = demo.cli("query", "weather", "JFK", "--start", "2014-02-01", "--end", "2014-02-02", "--format", "json")
    assert [row["temp"] for row in json.loads(found.stdout)] == [20.25]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["query", "weather", "KFJK", "--start", "2013-01-01", "--end", "2013-01-02"], 1, "JFK"),
        (["query", "weather", "JFK", "--start", "2013-01-02", "--end", "2013-01-01"], 1, "start"),
        (["query", "wether", "JFK", "--start", "2013-01-01", "--end", "2013-01-02"], 1, "weather"),
        (["query", "weather", "JFK", "--start", "yesterday"], 1, "yesterday"),
        (["latest", "weather", "--stage", "nowhere"], 3, "credentials"),  # another stage is on AWS, and this shell has no keys
        (["sql", "select * from wether"], 1, "wether"),
        (["sql", "drop table weather"], 1, "select"),
        (["ingest", "weather", "no-such-file.csv"], 1, "no-such-file.csv"),
        (["config", "validate", "Makefile"], 1, "Makefile"),
        (["archive", "compact", "wether"], 1, "wether"),
        (["query"], 2, "DATASET"),
    ],
)
def test_a_wrong_command_line_ends_in_one_line_and_an_exit_code(demo, arguments, code, said):
    result = demo.cli(*arguments)
    assert result.returncode == code, result.stderr
    assert said.lower() in result.stderr.lower()
    assert "Traceback" not in result.stderr


def test_a_stage_that_is_not_there_is_named(demo):
    result = demo.cli("latest", "weather", "--stage", "nowhere", **demo.stack().environment() | {"TESSERACT_STAGE": "nowhere"})
    assert result.returncode == 1
    assert "there is no stage 'nowhere'" in result.stderr


def test_no_running_stack_is_said_in_one_line(demo, tmp_path):
    result = subprocess.run(
        [*TESSERACT, "latest", "weather"], cwd=ROOT, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "tesseract local up" in result.stderr
    assert result.stderr.count("\n") <= 2


def test_a_day_of_the_dashboard_reads_the_same_with_the_plain_client(demo):
    import boto3

    stack = demo.stack()
    client = boto3.client(
        "dynamodb", endpoint_url=stack.endpoint, region_name=stack.region, aws_access_key_id="test", aws_secret_access_key="test"
    )
    items = client.query(
        TableName="tesseract-local-live",
        KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
        ExpressionAttributeValues={
            ":pk": {"S": "weather#LGA#hourly"},
            ":low": {"S": "2013-07-01T00:00:00Z"},
            ":high": {"S": "2013-07-01T23:00:00Z"},
        },
    )["Items"]
    plain = {item["sk"]["S"]: float(item["fields"]["M"]["temp"]["M"]["avg"]["N"]) for item in items}
    arguments = ["--start", "2013-07-01", "--end", "2013-07-02", "--level", "hourly", "--fields", "temp_avg", "--format", "json"]
    ours = json.loads(demo.cli("query", "weather", "LGA", *arguments).stdout)
    assert plain == {row["period_start"]: row["temp_avg"] for row in ours}
    assert len(plain) == 24


def test_down_leaves_nothing_but_the_log(demo):
    processes = demo.stack().processes
    assert demo.cli("local", "down").returncode == 0
    assert [path.name for path in demo.folder.iterdir()] == ["local.log"]
    assert not any(map(is_alive, processes))
    assert demo.cli("local", "down").returncode == 0
