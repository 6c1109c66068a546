"""The validator on real weather: bytes to records, against the floor of decoding the same bytes without a type."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure, medians
from tesseract.config.dataset import Dataset
from tesseract.config.schema import parse_file
from tesseract.ingestion.files import read_lines
from tesseract.ingestion.validators import Validator
from tesseract.storage.items import raw_item

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (ROOT / "examples" / "data", ROOT.parent / "shared" / "data")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 5


def run() -> Iterator[Figure]:
    """A year of three airports as JSON lines."""
    weather = parse_file(ROOT / "schemas" / "weather.yaml")["weather"]
    source = next(path for folder in SOURCES if (path := folder / "nyc_weather_2013.csv.gz").exists())
    lines = list(read_lines(str(source), weather))
    free = msgspec.structs.replace(weather, fields={}, unknown_fields="keep")
    records = [record for _, record in Validator(weather).decode(lines, NOW).records]
    floor, fast, slow, items = medians(
        ROUNDS,
        _timed(lambda: [msgspec.json.decode(line) for line in lines]),
        _validated(weather, lines),
        _validated(free, lines),
        _timed(lambda: [raw_item(weather, record, NOW) for record in records]),
    )
    for name, seconds in (
        ("validate declared fields", fast),
        ("validate undeclared fields", slow),
        ("records to raw items", items),
    ):
        rates = f"{len(lines) / seconds:,.0f} records/s; untyped msgspec.json.decode {len(lines) / floor:,.0f}/s"
        yield Figure(name, seconds / floor, "×", rates)


def _validated(dataset: Dataset, lines: list[bytes]) -> Callable[[], float]:
    decode = Validator(dataset).decode
    return _timed(lambda: decode(lines, NOW))


def _timed(work: Callable[[], Any]) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measure
