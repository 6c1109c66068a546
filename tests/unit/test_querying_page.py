"""docs/querying.md and the examples: every block runs against the sample in memory, and prints what the page says."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import re
import shlex
import statistics
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tesseract import cli
from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.utils.time_utils import utc_now

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "querying.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def sample():
    """The sample of the examples; what they import by their own folder is importable here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        yield importlib.import_module("sample").sample()


@pytest.fixture
def store(sample, monkeypatch, tmp_path):
    backend = sample.backend
    service = Service(Configs(sample.catalog, utc_now), Writer(backend.raw, backend.live, utc_now), backend.objects, utc_now)
    monkeypatch.setattr(
        "tesseract.ingestion.transports.invoke",
        lambda stage, name, event: service.handle(json.loads(msgspec.json.encode(event)), 28),
    )
    monkeypatch.setattr("tesseract.connect", lambda stage: sample)
    monkeypatch.setattr("tesseract.store.connect", lambda stage=None, bucket=None: sample)
    monkeypatch.chdir(tmp_path)
    return sample


def plain(text: str, masked: bool) -> list[str]:
    """Lines without their trailing blanks; of a plan without the numbers, which differ with every file."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return [re.sub(r"[0-9a-f]{8}…|\d+| +|─+", " ", line) for line in lines] if masked else lines


def test_every_block_of_the_page_prints_what_the_page_says(store, capsys):
    (yaml,) = (text for language, text in BLOCKS if language == "yaml")
    apply(store.catalog, parse(yaml)["forecast"], utc_now())
    space: dict[str, object] = {}
    checked = 0
    for (language, text), (following, expected) in pairwise([*BLOCKS, ("", "")]):
        if language == "sh":
            words = shlex.split(text.strip())
            assert words[0] == "tesseract"
            code = cli.run(words[1:])
        elif language == "python":
            exec(compile(text, "docs/querying.md", "exec"), space)
            code = 0
        else:
            continue
        out, err = capsys.readouterr()
        wrong = following == "text" and expected.startswith("error: ")
        assert code == (1 if wrong else 0), err
        if following == "text":
            masked = "--dry-run" in text
            assert plain(err if wrong else out, masked) == plain(expected, masked), text
            checked += 1
    assert checked > 12
    assert Path("january.png").read_bytes().startswith(b"\x89PNG")


def test_every_link_of_the_page_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def rows() -> list[dict[str, str]]:
    with gzip.open(ROOT / "examples" / "data" / "nyc_weather_2013.csv.gz", "rt", newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["time_hour"].startswith("2013-01-")]


def by(day, value, how) -> dict[tuple[str, datetime], float]:
    parts: dict[tuple[str, datetime], list[float]] = {}
    for row in rows():
        if row[value] != "NA":
            at = datetime.fromisoformat(row["time_hour"])
            parts.setdefault((row["origin"], day(at)), []).append(float(row[value]))
    return {key: how(found) for key, found in parts.items()}


def midnight(at: datetime) -> datetime:
    return at.replace(hour=0)


def test_the_pandas_example(store):
    found = importlib.import_module("with_pandas").main(store)
    means = by(midnight, "temp", statistics.fmean)
    apart = {day: abs(means["EWR", day] - means["JFK", day]) for _, day in means if ("EWR", day) in means and ("JFK", day) in means}
    most = sorted(apart, key=lambda day: -apart[day])[:5]
    assert [at.to_pydatetime() for at in found.index] == most
    assert list(found["difference"]) == pytest.approx([apart[day] for day in most], rel=1e-12)


def test_the_polars_example(store):
    found = importlib.import_module("with_polars").main(store)
    strongest = by(lambda at: at.replace(hour=at.hour // 6 * 6), "wind_speed", max)
    assert found["wind_speed"].to_list() == sorted(strongest.values(), reverse=True)[:5]
    assert all(strongest[origin, at] == speed for origin, at, speed in found.rows())


def test_the_duckdb_example(store):
    rainiest, means = importlib.import_module("with_duckdb").main(store)
    rain = by(midnight, "precip", sum)
    assert rainiest["precip_sum"].to_pylist() == pytest.approx(sorted(rain.values(), reverse=True)[:5])
    temps = by(lambda at: at.replace(day=1, hour=0), "temp", statistics.fmean)
    celsius = {origin: round((mean - 32) / 1.8, 2) for (origin, _), mean in temps.items()}
    assert means.to_pydict() == {
        "name": ["Kennedy", "LaGuardia", "Newark"],
        "celsius": [celsius[key] for key in ("JFK", "LGA", "EWR")],
    }


def test_an_example_runs_as_a_script(capsys, monkeypatch, sample):
    import runpy

    monkeypatch.setattr("sys.argv", ["sample.py"])
    runpy.run_path(str(ROOT / "examples" / "sample.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[1].startswith("weather  origin    raw, hourly, daily")
