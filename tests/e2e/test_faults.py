"""The functions' own code over HTTP clients, while S3, DynamoDB and SQS fail as AWS does: nothing is lost, nothing is twice.

An emulator of its own, with microburst before it. A call that fails for good is made again, as Lambda, its queue or a timer does.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tesseract.errors import BackendError, RetryError, TesseractError
from tesseract.ingestion import wiring
from tesseract.ingestion.files import read_lines
from tesseract.processing import archive_stage, dead_letters, stream_stage
from tesseract.processing.verify import verify
from tesseract.storage import aws
from tesseract.storage.keys import tables
from tesseract.storage.services import queue
from tesseract.utils import aws_helpers
from tesseract.utils.time_utils import to_micros, utc_now
from tests.support import backends
from tests.support.faulty_cloud import RULES, STAGE, FaultyCloud, error, fault
from tests.support.real_stream import RealStream

pytestmark = pytest.mark.e2e
T = TypeVar("T")
EXAMPLES = Path(__file__).parents[2] / "examples"
GROUPS = ("JFK", "LGA")
LATER = timedelta(days=30)  # when the garbage is collected: past `history` and grace
CACHES = (wiring.service, stream_stage.configs, stream_stage.aggregates, stream_stage.latest, archive_stage.archive_stage)
CACHES += (archive_stage.work_queue, aws.backend, aws_helpers.client, aws_helpers.account)
Event = dict[str, Any]


class Context:
    """What Lambda tells a function of its call."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class Functions:
    """The deployed functions, each called as AWS would; `errors` counts what got through to them, by the class of ours."""

    def __init__(self, cloud: FaultyCloud) -> None:
        self.cloud = cloud
        self.errors: Counter[str] = Counter()
        self._stream = RealStream(cloud.direct, tables(STAGE)["raw"])
        self._sqs = backends.client("sqs", cloud.direct)
        self._work = self._sqs.get_queue_url(QueueName=f"tesseract-{STAGE}-work")["QueueUrl"]

    def insist(self, work: Callable[[], T]) -> T:
        """Again and again; an error that is none of ours ends the test."""
        for _ in range(50):
            try:
                return work()
            except (RetryError, BackendError) as trouble:
                self.errors[type(trouble).__name__] += 1
        raise AssertionError("it never came about")

    def call(self, module: str, event: Event) -> Event:
        handler = importlib.import_module(module).handler
        answer: Event = self.insist(lambda: handler(event, Context()))
        return answer

    def write(self, event: Event) -> None:
        """Records or tombstones, by direct invoke, until all are acknowledged."""
        name = "records" if "records" in event else "delete"
        while True:
            answer = self.call("ingestion.http_api", event)
            left = [entry["index"] for entry in answer.get("rejected", [])]
            if answer.get("error"):
                self.errors["answer"] += 1
                continue
            if not left:
                return
            assert all("not written" in entry["reason"] for entry in answer["rejected"]), answer
            if name == "records":
                event = {**event, "records": [event["records"][index] for index in left]}

    def follow(self) -> None:
        """What the stream has, to both functions; a batch comes again from its first failure on."""
        for event in self._stream.events():
            for module in ("stream_processors.aggregates", "stream_processors.latest"):
                rest = event["Records"]
                while rest:
                    answer = self.call(module, {"Records": rest})
                    failed = [entry["itemIdentifier"] for entry in answer["batchItemFailures"]]
                    rest = [r for r in rest if failed and int(r["dynamodb"]["SequenceNumber"]) >= min(map(int, failed))]
                    self.errors["batch"] += bool(failed)

    def archive(self) -> None:
        """An export window over all that was written, its tasks, and what follows."""
        self.export()
        self.work_off()
        self.call("archive.collect", {})
        self.close()

    def export(self) -> str:
        """Open a window, and have its tasks sent; its id."""
        covering = utc_now().isoformat()
        opened: list[Event] = []
        while not opened:
            opened = self.call("archive.export", {"force": True, "covering": covering})["opened"]
        name = str(opened[-1]["id"])
        while self.call("archive.collect", {})["windows"].get(name, "done") == "waiting":
            pass
        return name

    def work_off(self) -> None:
        """The queue, as Lambda polls it: what has failed five times goes to the dead letters."""
        while messages := self._sqs.receive_message(QueueUrl=self._work, MaxNumberOfMessages=1).get("Messages"):
            records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in messages]
            try:
                answer = importlib.import_module("archive.worker").handler({"Records": records}, Context())
            except TesseractError as trouble:
                self.errors[type(trouble).__name__] += 1
                continue
            failed = {entry["itemIdentifier"] for entry in answer["batchItemFailures"]}
            self.errors["task"] += len(failed)
            for message in messages:
                if message["MessageId"] not in failed:
                    self._sqs.delete_message(QueueUrl=self._work, ReceiptHandle=message["ReceiptHandle"])

    def close(self) -> None:
        stage = archive_stage.archive_stage()
        assert all(window.state == "closed" for window in self.insist(stage.catalog.windows))
        self.call("archive.snapshot", {})
        self.call("archive.metadata", {})


@pytest.fixture(scope="module")
def functions(tmp_path_factory) -> Iterator[Functions]:
    with FaultyCloud(tmp_path_factory.mktemp("faults")) as cloud, pytest.MonkeyPatch.context() as patch:
        environment = cloud.deploy()
        for name, value in {**environment, "POWERTOOLS_LOG_LEVEL": "CRITICAL", "POWERTOOLS_METRICS_DISABLED": "true"}.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        # the waits between botocore's own attempts grow to seconds
        patch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
        patch.syspath_prepend(str(EXAMPLES))
        for cached in CACHES:
            cached.cache_clear()
        try:
            yield Functions(cloud)
        finally:
            for cached in CACHES:
                cached.cache_clear()


def january(checks: Any) -> tuple[list[dict[str, str]], dict[tuple[str, str], Event]]:
    """The rows of the file as text, and as records by group and time."""
    from tesseract.config.schema import parse_file

    dataset = parse_file(EXAMPLES.parent / "schemas" / "weather.yaml")["weather"]
    records = map(json.loads, read_lines(str(checks.WEATHER), dataset))
    taken = {(r["origin"], r["time_hour"]): r for r in records if r["origin"] in GROUPS and r["time_hour"] < "2013-01-06"}
    return [row for row in checks.weather_rows() if (row["origin"], row["time_hour"]) in taken], taken


def differences(functions: Functions, checks: Any, rows: list[dict[str, str]]) -> list[str]:
    """What raw rows, hours and days have that a recomputation has not, or differently."""
    import pyarrow as pa

    import tesseract

    store = tesseract.connect(STAGE)

    def read(level: str) -> pa.Table:
        return pa.concat_tables([functions.insist(lambda g=group: store.query("weather", g, level=level)) for group in GROUPS])

    found: list[str] = checks.compare_raw(read("raw"), "weather", "origin", "time_hour", rows)
    for level in ("hourly", "daily"):
        found += checks.compare_level(read(level), "weather", level, "origin", "time_hour", rows)
    return found


def test_the_archive_road_under_faults_loses_nothing_and_doubles_nothing(functions: Functions) -> None:
    import checks  # type: ignore[import-not-found]

    import tesseract
    from tesseract.config.manager import apply
    from tesseract.config.schema import parse_file

    rows, records = january(checks)
    store = tesseract.connect(STAGE)
    apply(store.catalog, parse_file(EXAMPLES.parent / "schemas" / "weather.yaml")["weather"], utc_now())
    functions.cloud.rules(RULES)

    sent = list(records.values())
    for first in range(0, len(sent), 300):
        functions.write({"dataset": "weather", "records": sent[first : first + 300]})
    functions.follow()
    functions.archive()

    # corrections, a delete, and a record that is written again after it
    for row in rows[::25]:
        row["temp"] = "99.5"
        functions.write({"dataset": "weather", "records": [{**records[row["origin"], row["time_hour"]], "temp": 99.5}]})
    gone = [row for row in rows if row["origin"] == "LGA" and "2013-01-03" <= row["time_hour"] < "2013-01-04"]
    marks = [[to_micros(datetime.fromisoformat(row["time_hour"])), None] for row in gone]
    functions.write({"dataset": "weather", "delete": {"group": ["LGA"], "rows": marks}})
    again = gone.pop()
    functions.write({"dataset": "weather", "records": [{**records["LGA", again["time_hour"]], "temp": float(again["temp"])}]})
    rows = [row for row in rows if row not in gone]
    functions.follow()
    assert differences(functions, checks, rows) == []
    functions.archive()
    assert differences(functions, checks, rows) == []
    functions.call("archive.compact", {"whole": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("archive.garbage"), "utc_now", lambda: utc_now() + LATER)
        for _ in range(2):  # versions of manifests, then what they alone named
            functions.call("archive.garbage", {})
    assert differences(functions, checks, rows) == []

    fired = functions.cloud.fired()
    functions.cloud.rules([])
    kinds = {(service, action.partition(":")[0]) for service, action in fired}
    assert {("dynamodb", "error"), ("dynamodb", "reset"), ("s3", "error"), ("s3", "reset"), ("sqs", "error")} <= kinds, fired
    assert fired.total() > 100, fired
    assert functions.errors["RetryError"] + functions.errors["Throttled"] > 0, functions.errors  # some came through to us
    for item in [item for day in range(1, 7) for g in GROUPS for item in store.backend.raw.query(f"weather#{g}#2013-01-{day:02}")]:
        store.backend.raw.delete((item["pk"], item["sk"]))  # as TTL does
    assert differences(functions, checks, rows) == []
    report = verify(store.catalog, store.backend.objects, [store.dataset("weather")], utc_now())
    assert not report.findings
    assert report.rows > len(rows)


def test_a_task_that_fails_all_the_time_waits_among_the_dead_letters_until_it_is_sent_back(functions: Functions) -> None:
    import tesseract

    store = tesseract.connect(STAGE)
    record = {"origin": "JFK", "time_hour": "2013-02-01T05:00:00Z", "temp": 20.25}
    functions.write({"dataset": "weather", "records": [record]})
    window = functions.export()
    functions.cloud.rules([fault("s3", 2, 2, operation="GetObject", **error("InternalError", 500))])
    functions.work_off()
    dead = queue(STAGE, "work-dead")
    assert dead.depth() > 0
    functions.cloud.rules([])
    assert store.catalog.window(window).state == "collecting"
    done = dead_letters.retry(dead, queue(STAGE, "work"))
    assert set(done.windows) == {window}
    functions.work_off()
    functions.close()
    assert store.catalog.rows_of(store.catalog.window(window), "weather") == 1
