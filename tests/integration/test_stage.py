"""Real readings through every service that a stage stands on: HTTP and Kinesis in, streams, queue and bucket, queries out."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

from tesseract.config.manager import apply
from tesseract.config.schema import parse_file
from tesseract.ingestion.files import read_lines
from tesseract.processing import compactor
from tesseract.utils.time_utils import utc_now
from tests.support.real_stage import RealStage

ROOT = Path(__file__).parents[2]
WEATHER = parse_file(ROOT / "schemas" / "weather.yaml")["weather"]
FILE = ROOT / "examples" / "data" / "nyc_weather_2013.csv.gz"
READINGS = 240


def readings(group: str = "JFK") -> list[dict]:
    """The first days of one airport, as JSON."""
    found = []
    for line in read_lines(str(FILE), WEATHER):
        record = json.loads(line)
        if record["origin"] == group:
            found.append(record)
            if len(found) == READINGS:
                break
    return found


def post(stage: RealStage, records: list[dict]) -> tuple[int, dict]:
    body = gzip.compress("\n".join(map(json.dumps, records)).encode())
    answer = stage.service.handle(
        {
            "version": "2.0",
            "rawPath": "/datasets/weather/records",
            "pathParameters": {"dataset": "weather"},
            "requestContext": {"http": {"method": "POST", "path": "/datasets/weather/records"}},
            "headers": {"content-type": "application/x-ndjson", "content-encoding": "gzip"},
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        },
        60,
    )
    return answer["statusCode"], json.loads(answer["body"])


def columns(table) -> list[dict]:
    return table.select(["valid_time", "temp", "wind_dir", "precip"]).to_pylist()


def expected(records: list[dict]) -> list[tuple]:
    def number(value):
        return None if value == "NA" else value

    return sorted((r["time_hour"], number(r["temp"]), number(r["wind_dir"]), number(r["precip"])) for r in records)


def found(table) -> list[tuple]:
    return [
        (row["valid_time"].isoformat().replace("+00:00", "Z"), row["temp"], row["wind_dir"], row["precip"])
        for row in columns(table)
    ]


def test_readings_by_http_are_live_then_archived_and_the_same_from_every_tier(stage):
    apply(stage.catalog, WEATHER, utc_now())
    records = readings()
    assert post(stage, records) == (200, {"accepted": READINGS, "rejected": []})
    assert post(stage, records[:50])[0] == 200  # sent twice, stored once
    spoiled = {**records[0], "temp": "warm"}
    assert post(stage, [spoiled, records[1]])[0] == 207
    assert found(stage.store.query("weather", "JFK")) == expected(records)

    assert stage.follow(READINGS) >= READINGS  # moto tells of puts that change nothing, too
    live = stage.store.query("weather", "JFK", level="daily")
    assert sum(row["rows"] for row in live.to_pylist()) == READINGS
    assert stage.store.latest("weather", "JFK")[0]["temp"] == records[-1]["temp"]

    correction = {**records[10], "temp": 99.5}
    assert post(stage, [correction])[0] == 200
    assert stage.follow(1) >= 1
    records[10] = correction
    assert stage.archive() == READINGS
    assert compactor.compact(stage.catalog, stage.backend.objects, [WEATHER], utc_now())
    assert found(stage.store.query("weather", "JFK")) == expected(records)

    for item in list(stage.backend.raw.query("weather#JFK#2013-01-01")):
        stage.backend.raw.delete((item["pk"], item["sk"]))
    assert found(stage.store.query("weather", "JFK")) == expected(records)
    assert stage.store.query("weather", "JFK", level="daily").to_pylist()[0]["rows"] == live.to_pylist()[0]["rows"]


def test_readings_by_kinesis_are_written_and_bad_ones_kept(stage):
    apply(stage.catalog, WEATHER, utc_now())
    groups = {group: readings(group) for group in ("JFK", "LGA", "EWR")}
    payloads = []
    for group, records in groups.items():
        for start in range(0, READINGS, 60):
            body = {"dataset": "weather", "records": records[start : start + 60]}
            payloads.append((group, json.dumps(body).encode()))
    payloads.append(("JFK", b'{"dataset": "weather", "records": [{"origin": "JFK", "temp": 1}]}'))
    payloads.append(("JFK", b"\xff no JSON"))
    for event in stage.kinesis(payloads):
        assert stage.service.handle_kinesis(event, 60) == {"batchItemFailures": []}
        assert stage.service.handle_kinesis(event, 60) == {"batchItemFailures": []}  # delivered again
    for group, records in groups.items():
        assert found(stage.store.query("weather", group)) == expected(records)
    assert stage.follow(3 * READINGS) >= 3 * READINGS
    kept = [entry.key for entry in stage.backend.objects.list("quarantine/")]
    assert len(kept) == 2
    assert {key.split("/")[1] for key in kept} == {"dataset=weather", "dataset=_unknown"}
