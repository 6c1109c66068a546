"""The whole of it: a fresh laptop cloud, a real deploy, the demo with all its checks, then bad input of every kind by real HTTP.

With AWS_ENDPOINT_URL or credentials of a deployed stage the same requests run against another cloud; the demo needs a laptop.
"""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tesseract.cli import run
from tesseract.local.state import is_alive
from tesseract.utils.time_utils import from_iso, iso_seconds, utc_now
from tests.e2e import questions
from tests.support.kpl import aggregate
from tests.support.laptop import ROOT, TESSERACT, Demo, clean_environment

GOOD = {"origin": "JFK", "time_hour": "2013-06-01T00:00:00Z", "temp": 70.5}
PUBLISHED = ("_symlink_format_manifest/manifest", "view.sql")
PATIENCE = 60.0  # seconds for what goes by way of a stream

pytestmark = pytest.mark.e2e  # one file, one worker: make test distributes by file


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
    assert "8,706 weather and 1,440 radiation rows in, all out" in demo.run.stdout
    for source in ("only in the archive", "only in the buffer", "in both"):
        assert source in demo.run.stdout


def test_a_reader_without_our_code_finds_the_archive_by_the_published_view(demo, tmp_path):
    import boto3
    import duckdb

    stack = demo.stack()
    client = boto3.client(
        "s3", endpoint_url=stack.endpoint, region_name=stack.region, aws_access_key_id="test", aws_secret_access_key="test"
    )
    (bucket,) = [found["Name"] for found in client.list_buckets()["Buckets"] if found["Name"].endswith("-archive")]
    folder = "catalog/external/dataset=weather/level=raw"
    text = {name: client.get_object(Bucket=bucket, Key=f"{folder}/{name}")["Body"].read().decode() for name in PUBLISHED}
    view = text["view.sql"]
    for number, place in enumerate(text["_symlink_format_manifest/manifest"].split()):
        file = tmp_path / f"{number}.parquet"
        client.download_file(bucket, place.removeprefix(f"s3://{bucket}/"), str(file))
        view = view.replace(place, str(file))
    with duckdb.connect() as connection:
        connection.sql(view)
        seen = connection.sql("select origin, count(*), sum(temp) from weather group by 1").fetchall()
    assert [row[:2] for row in seen] == [("JFK", 8706)]
    (ours,) = json.loads(demo.done("sql", "select sum(temp) as total from weather", "--format", "json"))
    assert seen[0][2] == pytest.approx(ours["total"], rel=1e-12)


@pytest.mark.parametrize("ask", questions.ALL, ids=lambda ask: ask.__name__)
def test_every_kind_of_question_gives_what_the_file_says(demo, tmp_path, ask):
    ask(demo, tmp_path)


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
            ":pk": {"S": "weather#JFK#hourly"},
            ":low": {"S": "2013-07-01T00:00:00Z"},
            ":high": {"S": "2013-07-01T23:00:00Z"},
        },
    )["Items"]
    plain = {item["sk"]["S"]: float(item["fields"]["M"]["temp"]["M"]["avg"]["N"]) for item in items}
    arguments = ["--start", "2013-07-01", "--end", "2013-07-02", "--level", "hourly", "--fields", "temp_avg", "--format", "json"]
    ours = json.loads(demo.cli("query", "weather", "JFK", *arguments).stdout)
    assert plain == {row["period_start"]: row["temp_avg"] for row in ours}
    assert len(plain) == 24


# configuration and ingestion, deployed

PUMPS = """
datasets:
  pumps:
    group_by: [site, pump.id]
    time_field: at
    ref_time_field: sent
    records_path: readings
    revisions: {revisions}
    partitioning: hash(2)
    on_invalid: {on_invalid}
    aggregations: {{ 15min: [count, max], weekly: [count, max, last] }}
    fields:
      flow: {{ type: decimal, scale: 3, path: flow.value, unit: m³/h, min: 0 }}
      total: {{ type: int, min: 0, max: 99999999999999999999 }}
      state: {{ type: string, enum: [running, stopped] }}
      checked: {{ type: timestamp }}{more}
"""


def pumps(**changes: str) -> str:
    return PUMPS.format(**({"revisions": "latest_ref", "on_invalid": "reject", "more": ""} | changes))


def ago(**time_ago: float) -> str:
    return iso_seconds((utc_now() - timedelta(**time_ago)).replace(microsecond=0))


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` finds, asked until it finds something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def plant(demo, tmp_path_factory):
    """A dataset of every type, applied by the command; its file can be changed."""
    file = tmp_path_factory.mktemp("pumps") / "pumps.yaml"
    file.write_text(pumps())
    assert "version 1" in demo.done("config", "apply", str(file))
    return file


def message(site: str, *readings: dict[str, Any], **common: Any) -> bytes:
    return json.dumps({"site": site, **common, "readings": readings}).encode()


def test_a_nested_message_of_every_type_comes_back_exact(demo, plant):
    at = ago(hours=3)
    reading = {
        "pump": {"id": 7},
        "at": at,
        "flow": {"value": 12.125},
        "total": 90071992547409931234,
        "state": "running",
        "checked": at,
    }
    status, answer = demo.post(gzip.compress(message("a#/%☂", reading)), "pumps", **{"content-encoding": "gzip"})
    assert (status, answer) == (200, {"accepted": 1, "rejected": []})
    with demo.here():
        import tesseract

        (row,) = tesseract.connect("local").query("pumps", ("a#/%☂", 7)).to_pylist()
    assert (str(row["flow"]), int(row["total"]), row["state"]) == ("12.125", 90071992547409931234, "running")
    assert iso_seconds(row["checked"]) == at
    assert json.loads(demo.done("query", "pumps", "--format", "json"), parse_float=str)[0]["flow"] == "12.125"
    assert eventually(lambda: demo.rows("pumps", "--all", "--level", "15min"))[0]["flow_count"] == 1
    assert demo.rows("pumps", "--all", "--level", "weekly")[0]["total_last"] == 90071992547409931234


def test_the_newest_revision_wins_whatever_comes_last(demo, plant):
    at = ago(hours=2)
    for sent, flow in (("2026-01-05T02:00:00Z", 2), ("2026-01-05T03:00:00Z", 3), ("2026-01-05T01:00:00Z", 1)):
        body = message("north", {"pump": {"id": 1}, "at": at, "flow": {"value": flow}}, sent=sent)
        assert demo.post(body, "pumps")[0] == 200
    assert [row["flow"] for row in demo.rows("pumps", "north/1")] == [3]
    latest = eventually(lambda: [r for r in json.loads(demo.done("latest", "pumps", "--format", "json")) if r["flow"] == 3])
    assert latest[0]["site"] == "north"


def test_a_change_is_planned_applied_noticed_and_taken_back(demo, plant):
    at = ago(hours=1)
    body = message("east", {"pump": {"id": 1}, "at": at, "flow": {"value": 1}, "noise": 55.5})
    assert "no field 'noise' is declared" in demo.post(body, "pumps")[1]["rejected"][0]["reason"]
    plant.write_text(pumps(more="\n      noise: { type: float, unit: dB }"))
    planned = demo.done("config", "plan", str(plant))
    assert "+" in planned
    assert "compatible" in planned
    assert "version 2" in demo.done("config", "apply", str(plant))
    assert demo.post(body, "pumps")[0] == 200  # at once: what a cached version refuses is asked of the newest
    plant.write_text(pumps(more="\n      noise: { type: string }"))
    refused = demo.cli("config", "apply", str(plant))
    assert refused.returncode == 1
    assert "noise" in refused.stderr
    assert "version 3" in demo.done("config", "rollback", "pumps", "--to", "1")
    history = demo.done("config", "history", "pumps")
    assert [line.split()[0] for line in history.splitlines()[2:5]] == ["3", "2", "1"]


def test_kinesis_takes_what_producers_have_and_keeps_what_is_wrong(demo, plant):
    import boto3

    at = ago(minutes=50)
    plain = json.dumps({"dataset": "weather", **GOOD, "time_hour": "2014-03-01T00:00:00Z"}).encode()
    packed = aggregate(
        *(("g", json.dumps({"dataset": "weather", **GOOD, "time_hour": f"2014-03-02T0{n}:00:00Z"}).encode()) for n in (1, 2))
    )
    one = {"pump": {"id": 1}, "at": at, "state": "broken"}
    wrong = json.dumps({"dataset": "pumps", "records": [{"site": "w", "readings": [one]}]}).encode()
    with demo.here() as stack:
        kinesis = boto3.client("kinesis", region_name=stack.region)
        for data in (plain, packed, wrong):
            kinesis.put_record(StreamName="tesseract-local-records", PartitionKey="g", Data=data)
    found = eventually(lambda: demo.rows("weather", "JFK", "--start", "2014-03-01", "--end", "2014-03-03")[2:])
    assert len(found) == 1
    listed = eventually(lambda: json.loads(demo.done("quarantine", "list", "pumps", "--format", "json")))
    assert listed
    assert "broken" in demo.done("quarantine", "show", "pumps")
    replayed = demo.cli("quarantine", "replay", "pumps")
    assert json.loads(demo.done("quarantine", "list", "pumps", "--format", "json")), replayed.stdout  # it still fails, so it stays
    plant.write_text(pumps(on_invalid='"null"'))
    demo.done("config", "apply", str(plant))
    assert eventually(lambda: demo.cli("quarantine", "replay", "pumps").returncode == 0)
    assert json.loads(demo.done("quarantine", "list", "pumps", "--format", "json")) == []
    assert [row["state"] for row in demo.rows("pumps", "w/1")] == [None]


def test_a_file_is_sent_its_bad_lines_mended_and_sent_again(demo, plant, tmp_path):
    lines = [
        {"origin": "LGA", "time_hour": f"2014-04-{day:02}T{hour:02}:00:00Z", "temp": day}
        for day in range(1, 29)
        for hour in range(24)
    ]
    lines[5]["temp"] = "warm"
    file = tmp_path / "april.ndjson"
    file.write_text("\n".join(map(json.dumps, lines)))
    result = demo.cli("ingest", "weather", str(file), "--resume")
    assert result.returncode == 1, result.stderr
    rejects = tmp_path / "april.ndjson.rejects.ndjson"
    rejects.write_text(rejects.read_text().replace('"warm"', "1"))
    assert demo.cli("ingest", "weather", str(rejects)).returncode == 0
    rows = demo.rows("weather", "LGA", "--start", "2014-04-01", "--end", "2014-05-01")
    assert [row["temp"] for row in rows] == [day for day in range(1, 29) for _ in range(24)]
    again = demo.cli("ingest", "weather", str(file), "--resume")  # all of it was acknowledged
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


def test_a_program_sends_readings_one_by_one_and_tables_at_once(demo, plant):
    import pandas

    with demo.here():
        import tesseract

        store = tesseract.connect("local")
        with store.producer("weather", flush_seconds=0.2) as producer:
            for hour in range(24):
                producer.send({"origin": "EWR", "time_hour": f"2014-05-01T{hour:02}:00:00Z", "temp": hour / 4})
        times = pandas.date_range("2014-05-02", periods=24, freq="h", tz="UTC")
        frame = pandas.DataFrame({"origin": "EWR", "time_hour": times, "temp": [n / 4 for n in range(24)]})
        assert store.put("weather", frame) == {"accepted": 24, "rejected": []}
        rows = store.query("weather", "EWR", "2014-05-01", "2014-05-03")
    assert rows["temp"].to_pylist() == [n / 4 for n in range(24)] * 2


# live aggregates, deployed

METERS = """
datasets:
  meters:
    group_by: meter
    time_field: at
    aggregations: { hourly: &all [count, sum, avg, std, min, max, first, last], daily: *all }
    fields: { kwh: { type: decimal, scale: 3 }, volts: float }
"""
STATISTICS = ("count", "sum", "min", "max", "first", "last")


@pytest.fixture(scope="module")
def meters(demo, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """A dataset of meters with an hour and a half of readings of one meter, two hours ago; what is written, by time."""
    file = tmp_path_factory.mktemp("meters") / "meters.yaml"
    file.write_text(METERS)
    demo.done("config", "apply", str(file))
    begin = (utc_now() - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
    times = [iso_seconds(begin + timedelta(minutes=n)) for n in range(90)]
    written = {at: {"kwh": str(Decimal(n * 37 % 50) / 8), "volts": 230 + n % 7 / 4} for n, at in enumerate(times)}
    send(demo, written)
    assert settled(demo, written)
    return written


def send(demo, readings: dict[str, dict[str, Any]]) -> None:
    body = [{"meter": "m1", "at": at, **values} for at, values in readings.items()]
    assert demo.post(json.dumps(body).encode(), "meters") == (200, {"accepted": len(body), "rejected": []})


def wanted(written: dict[str, dict[str, Any]], length: int) -> dict[str, dict[str, list[Decimal]]]:
    """The statistics of each hour (length 13) or day (10), by plain recomputation."""
    periods: dict[str, dict[str, list[Decimal]]] = {}
    for at, values in sorted(written.items()):
        for name, value in values.items():
            periods.setdefault(at[:length], {}).setdefault(name, []).append(Decimal(str(value)))
    return {
        start: {name: [Decimal(len(v)), sum(v, Decimal()), min(v), max(v), v[0], v[-1]] for name, v in fields.items()}
        for start, fields in periods.items()
    }


def live_items(demo, level: str, length: int) -> dict[str, dict[str, Any]]:
    """The live items of the meter, read by a plain client."""
    import boto3
    from boto3.dynamodb.conditions import Key

    with demo.here() as stack:
        table = boto3.resource("dynamodb", region_name=stack.region).Table("tesseract-local-live")
        items = table.query(KeyConditionExpression=Key("pk").eq(f"meters#m1#{level}"))["Items"]
    return {item["sk"][:length]: item for item in items}


def plain(items: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[Decimal]]]:
    """Their plain numbers; a stale or pending item has none."""
    shown = {start: item.get("fields", {}) for start, item in items.items()}
    return {start: {n: [f[stat] for stat in STATISTICS] for n, f in fields.items()} for start, fields in shown.items()}


def settled(demo, written: dict[str, dict[str, Any]]) -> bool:
    """Whether the live items come to be those of a recomputation, to the last digit."""
    levels = (("hourly", 13), ("daily", 10))
    return eventually(lambda: all(plain(live_items(demo, level, length)) == wanted(written, length) for level, length in levels))


def test_corrections_and_deletes_are_in_the_live_items_to_the_last_digit(demo, meters):
    from tesseract.model import Record
    from tesseract.storage.items import raw_item
    from tesseract.utils.time_utils import from_iso

    greatest, last = max(meters, key=lambda at: Decimal(meters[at]["kwh"])), max(meters)
    corrected = {greatest: {"kwh": "0.001", "volts": 1.5}, last: {"kwh": "9.875", "volts": None}}
    send(demo, corrected)
    meters.update({greatest: corrected[greatest], last: {"kwh": "9.875"}})
    assert settled(demo, meters)
    with demo.here():
        import tesseract

        store = tesseract.connect("local")
        dataset = store.catalog.dataset("meters")
        for at in (min(meters), greatest, last):
            store.backend.raw.put(raw_item(dataset, Record("m1", from_iso(at), None, {}, deleted=True), utc_now()))
            del meters[at]
        assert settled(demo, meters)
        newest = max(meters)
        assert eventually(lambda: iso_seconds(store.latest("meters", "m1")[0]["valid_time"]) == newest)
    again = {greatest: {"kwh": "3.5", "volts": 233.25}}
    send(demo, again)  # written again after its delete
    meters.update(again)
    assert settled(demo, meters)


def test_a_rebuild_gives_the_same_numbers_and_an_audit_finds_what_somebody_spoiled(demo, meters, capsys):
    import boto3

    demo.done("rebuild", "meters", "m1", "--wait")
    assert settled(demo, meters)
    assert all("repaired_through" in item for item in live_items(demo, "hourly", 13).values())
    assert demo.cli("audit", "meters", "--sample", "100%").returncode == 0
    start, item = next(iter(live_items(demo, "hourly", 13).items()))
    item["fields"]["kwh"]["sum"] += 1
    with demo.here() as stack:
        table = boto3.resource("dynamodb", region_name=stack.region).Table("tesseract-local-live")
        table.put_item(Item=item | {"version": item["version"] + 1})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tesseract.cli.live.PAUSE", 0.1)  # seconds, twelve times, that a difference may be the stream's lag
            code = run(["audit", "meters", "m1", "--sample", "100%"])
        assert (code, start in capsys.readouterr().out) == (1, True)
        item["fields"]["kwh"]["sum"] -= 1
        table.put_item(Item=item | {"version": item["version"] + 2})
    assert settled(demo, meters)


def test_groups_that_share_partitions_are_archived_together_and_read_one_by_one(demo, plant):
    before = demo.rows("pumps", "--all")
    demo.done("archive", "export", "pumps")
    held = json.loads(demo.done("catalog", "pumps", "--format", "json"))["partitions"]
    assert {row["partition"] for row in held} <= {"*0000", "*0001"}
    assert sum(row["rows"] for row in held if row["level"] == "raw") >= len(before) > 3
    assert demo.rows("pumps", "--all") == before
    own = [row for row in before if (row["site"], row["pump.id"]) == ("north", "1")]
    assert demo.rows("pumps", "north/1", "--all") == own != []


def test_watch_follows_a_group_until_it_is_told_to_stop(demo, meters):
    process = demo.start("watch", "meters", "m1", "--interval", "0.2")
    time.sleep(3)
    now = {ago(minutes=1): {"kwh": "77.125", "volts": 231.5}}
    send(demo, now)
    meters.update(now)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    assert "77.125" in out


# the archive, deployed

BARN = """
datasets:
  barn:
    group_by: animal
    time_field: at
    aggregations: { hourly: [count, sum, max], daily: [count, sum, max] }
    fields: { milk: { type: decimal, scale: 2 }, note: string }
"""
ERASED = "hen-7f3a"  # a name that is nowhere else
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(demo, capsys) -> Ask:
    """A command in this process: exit code, stdout, stderr. None may end in a trace."""

    def asked(*arguments: str) -> tuple[int, str, str]:
        with demo.here():
            code = run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return asked


@pytest.fixture(scope="module")
def barn(demo, tmp_path_factory) -> dict[str, dict[str, str]]:
    """A dataset of three animals, one of them milked today, the others long ago: milk by time, by animal."""
    file = tmp_path_factory.mktemp("barn") / "barn.yaml"
    file.write_text(BARN)
    demo.done("config", "apply", str(file))
    old = [f"2014-07-{day:02}T{hour:02}:15:00Z" for day in (1, 2) for hour in range(10)]
    times = {"cow-1": old, "cow-2": old, ERASED: [ago(minutes=minutes) for minutes in range(90, 120)]}
    milked = {animal: {at: f"{number}.25" for number, at in enumerate(of)} for animal, of in times.items()}
    milk(demo, milked)
    return milked


def milk(demo, milked: dict[str, dict[str, str]]) -> None:
    body = [{"animal": animal, "at": at, "milk": litres} for animal, of in milked.items() for at, litres in of.items()]
    assert demo.post(json.dumps(body).encode(), "barn") == (200, {"accepted": len(body), "rejected": []})


def client_of(demo, service: str) -> Any:
    """A plain client of the stage."""
    import boto3

    with demo.here() as stack:
        return boto3.client(service, region_name=stack.region)


def objects(demo, prefix: str = "") -> dict[str, bytes]:
    """All objects of the bucket, by a plain client."""
    s3, bucket = client_of(demo, "s3"), demo.stack().bucket
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(found, pool.map(lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read(), found), strict=True))


def archived(demo, dataset: str, level: str = "raw") -> list[dict[str, Any]]:
    """The rows that the published catalog's segments hold, by pyarrow."""
    import io

    import pyarrow.parquet as pq

    s3, bucket = client_of(demo, "s3"), demo.stack().bucket

    def get(key: str) -> bytes:
        return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    partitions = json.loads(get(f"catalog/{dataset}.json"))["partitions"]
    keys = [segment["key"] for partition in partitions if partition["level"] == level for segment in partition["segments"]]
    return [row for key in keys for row in pq.read_table(io.BytesIO(get(key))).to_pylist()]


def milk_of(rows: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(row["animal"], iso_seconds(row["valid_time"])): str(row["milk"]) for row in rows}


def flat(milked: dict[str, dict[str, str]]) -> dict[tuple[str, str], str]:
    return {(animal, at): litres for animal, of in milked.items() for at, litres in of.items()}


def all_milk(demo) -> dict[tuple[str, str], str]:
    with demo.here():
        import tesseract

        return milk_of(tesseract.connect("local").query("barn").to_pylist())


def test_an_export_is_done_when_its_rows_are_committed_and_status_tells_of_it(demo, barn, ask):
    before = utc_now()
    code, out, _ = ask("archive", "export", "barn")
    said = re.fullmatch(r"archived 70 rows of barn; every write before (\S+) is in\n", out)
    assert code == 0, out
    assert said, out
    assert from_iso(said[1]) >= before - timedelta(seconds=1)
    assert milk_of(archived(demo, "barn")) == flat(barn)
    code, out, _ = ask("archive", "status", "barn", "--format", "json")
    facts = json.loads(out)
    assert (code, facts["archived_through"], facts["snapshot_through"], facts["dead_letters"]) == (0, said[1], said[1], 0)
    query = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "windows"}}}
    items = client_of(demo, "dynamodb").query(TableName="tesseract-local-catalog", **query)["Items"]
    bodies = {item["sk"]["S"]: json.loads(item["body"]["S"]) for item in items}
    assert facts["windows"][-1]["window"] == max(bodies)
    assert {window["window"]: window["items"] for window in facts["windows"]}.items() <= {
        n: b["items"] for n, b in bodies.items()
    }.items()
    sizes = {tier["level"]: (tier["rows"], tier["bytes"]) for tier in facts["tiers"]}
    raw = [len(body) for key, body in objects(demo, "archive/dataset=barn/level=raw/").items()]
    assert sizes["raw"] == (70, sum(raw))
    code, out, _ = ask("archive", "status")
    assert code == 0
    for text in ("export windows", f"archived through  {said[1]}, ", "dead letters      0", "left for late records", "barn"):
        assert text in out


def test_dead_letters_go_back_to_the_workers_and_what_is_no_task_stays(demo, barn, ask):
    sqs = client_of(demo, "sqs")
    dead, work = (sqs.get_queue_url(QueueName=f"tesseract-local-{name}")["QueueUrl"] for name in ("work-dead", "work"))
    with demo.here():
        import tesseract

        window = tesseract.connect("local").catalog.newest_windows(1)[0]
    late = {"kind": "file", "window": window.id, "export": window.export, "key": "exports/gone.json.gz", "md5": "", "items": 1}
    for body in ("{", json.dumps(late), json.dumps(late)):
        sqs.send_message(QueueUrl=dead, MessageBody=body)
    assert json.loads(ask("archive", "status", "--format", "json")[1])["dead_letters"] == 3
    code, out, err = ask("archive", "retry")
    assert (code, out) == (0, f"window {window.id}: 1 task\nsent 1 dead letter back to the work queue\n")
    assert err == "messages that are no tasks, left in the queue: 1\n"
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")

    def depth(url: str) -> int:
        return sum(int(value) for value in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values())

    assert eventually(lambda: depth(work) == 0)  # the window is closed: the task changes nothing
    assert depth(dead) == 1
    sqs.purge_queue(QueueUrl=dead)
    assert ask("archive", "retry")[:2] == (0, "there are no dead letters\n")


def test_the_archive_is_sound_and_nothing_of_it_is_garbage(demo, barn, ask):
    code, out, err = ask("archive", "verify", "barn", "--format", "csv")
    assert (code, "none is damaged" in err) == (0, True), out + err
    assert "orphan" not in out
    before = sorted(objects(demo, "archive/dataset=barn/"))
    for options in (["--dry-run"], []):
        code, out, _ = ask("archive", "gc", *options, "--format", "json")
        assert (code, {(r["versions"], r["objects"], r["bytes"]) for r in json.loads(out)}) == (0, {(0, 0, 0)})
    assert sorted(objects(demo, "archive/dataset=barn/")) == before


def test_a_past_state_is_read_as_it_was(demo, barn, ask):
    at = min(barn["cow-1"])
    past = iso_seconds(utc_now())
    time.sleep(1.1)  # the moment lies between two commits
    barn["cow-1"][at] = "77.75"
    milk(demo, {"cow-1": {at: "77.75"}})
    code, out, _ = ask("archive", "export", "barn")
    assert (code, out.startswith("archived 1 row of barn; ")) == (0, True)
    first = ("query", "barn", "cow-1", "--start", at, "--end", "2014-07-01T01:00:00Z", "--fields", "milk", "--format", "csv")
    assert [ask(*first, *more)[1].splitlines()[1:] for more in ([], ["--as-of", past], ["--as-of", "2020-01-01"])] == [
        [f"cow-1,{at},,77.75"],
        [f"cow-1,{at},,0.25"],
        [],
    ]
    assert ask(*first, "--as-of", "2099-01-01")[0] == 1


def test_ranges_and_groups_are_deleted_and_a_record_written_again_lives(demo, barn, ask):
    gone = [at for at in barn["cow-1"] if at.startswith("2014-07-01")]
    code, out, _ = ask("delete", "barn", "cow-1", "--start", "2014-07-01", "--end", "2014-07-02", "--yes")
    assert (code, out) == (0, f"deleted {len(gone)} rows\n")
    code, out, _ = ask("delete", "barn", "cow-2", "--all", "--yes")
    assert (code, out) == (0, "deleted 20 rows\n")
    again = {gone[3]: "5.00"}
    milk(demo, {"cow-1": again})
    barn["cow-1"] = {at: litres for at, litres in barn["cow-1"].items() if at not in gone} | again
    barn["cow-2"] = {}
    assert all_milk(demo) == flat(barn)
    assert ask("archive", "export", "barn")[0] == 0
    assert all_milk(demo) == flat(barn)
    assert ask("archive", "compact", "barn")[0] == 0
    assert all_milk(demo) == flat(barn)
    rows = archived(demo, "barn")
    assert milk_of([row for row in rows if not row["__deleted"]]) == flat(barn)
    wanted = {at[:10]: sum(Decimal(v) for t, v in barn["cow-1"].items() if t[:10] == at[:10]) for at in barn["cow-1"]}
    days = demo.rows("barn", "cow-1", "--all", "--level", "daily")
    assert {row["period_start"][:10]: Decimal(str(row["milk_sum"])) for row in days} == wanted
    assert demo.rows("barn", "cow-2", "--all", "--level", "daily") == []
    assert ask("archive", "verify", "barn")[0] == 0


def named(demo, name: str) -> list[str]:
    """Every object and item that has a name in it, by plain clients."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for key, body in objects(demo).items():
        text = [key, body.decode("latin-1")]
        if body.startswith(b"\x1f\x8b"):
            text.append(gzip.decompress(body).decode())
        if key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(body))
            text += [str(table[one.name].unique()) for one in table.schema if pa.types.is_string(one.type)]
            text.append(str(table.schema.metadata))
        found += [key] if any(name in part for part in text) else []
    dynamodb = client_of(demo, "dynamodb")
    for table in ("raw", "live", "catalog"):
        for page in dynamodb.get_paginator("scan").paginate(TableName=f"tesseract-local-{table}"):
            found += [f"{item['pk']['S']} {item['sk']['S']}" for item in page["Items"] if name in str(item)]
    return found


def test_of_an_erased_group_nothing_is_left_in_any_object_or_item(demo, barn, ask):
    before = named(demo, ERASED)
    assert any(key.startswith("archive/") for key in before)
    assert any(key.startswith("exports/") for key in before)
    assert any(key.startswith(f"barn#{ERASED}#") for key in before)
    assert ask("archive", "erased", "barn", ERASED)[0] == 1
    code, out, _ = ask("delete", "barn", ERASED, "--all", "--erase", "--yes")
    assert code == 0, out
    assert out.startswith("deleted 30"), out
    assert named(demo, ERASED) == []
    code, out, err = ask("archive", "erased", "barn", ERASED)
    assert (code, out) == (0, "")
    assert "nothing is there" in err
    del barn[ERASED]
    assert all_milk(demo) == flat(barn)


def test_years_of_files_are_backfilled_and_a_query_gives_what_they_say(demo, ask, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        import checks
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for row in checks.weather_rows() if row["origin"] == "LGA" or (row["origin"] == "EWR" and row["month"] < "3")]
    lga = [row for row in rows if row["origin"] == "LGA"]
    earlier = [{**row, "time_hour": row["time_hour"].replace("2013-", "2011-", 1)} for row in lga if row["month"] == "6"]
    with gzip.open(tmp_path / "1.csv.gz", "wt", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(earlier + lga)
    ewr = [
        {name: cell if name in ("origin", "time_hour") else None if cell == "NA" else float(cell) for name, cell in row.items()}
        for row in rows
        if row["origin"] == "EWR"
    ]
    (tmp_path / "2.ndjson").write_text("\n".join(map(json.dumps, ewr[:700])))
    pq.write_table(pa.Table.from_pylist(ewr[700:]), tmp_path / "3.parquet")
    code, out, err = ask("backfill", "weather", str(tmp_path))
    assert code == 0, err
    total = len(earlier) + len(rows)
    assert f"accepted   {total:,}, 0 of them superseded" in out
    with demo.here():
        import tesseract

        store = tesseract.connect("local")
        span = ("2011-01-01", "2014-01-01")
        found = store.query("weather", ["EWR", "LGA"], *span)
        assert checks.compare_raw(found, "weather", "origin", "time_hour", earlier + rows) == []
        for level in ("hourly", "daily"):
            found = store.query("weather", ["EWR", "LGA"], *span, level=level)
            assert checks.compare_level(found, "weather", level, "origin", "time_hour", earlier + rows) == []
    assert ask("archive", "compact", "weather")[0] == 0
    assert len([row for row in archived(demo, "weather") if row["origin"] != "JFK" and row["valid_time"].year < 2014]) == total
    assert ask("archive", "verify", "weather")[0] == 0


def test_down_leaves_nothing_but_the_log(demo):
    processes = demo.stack().processes
    assert demo.cli("local", "down").returncode == 0
    assert [path.name for path in demo.folder.iterdir()] == ["local.log"]
    assert not any(map(is_alive, processes))
    assert demo.cli("local", "down").returncode == 0
