"""The example data sets as the JSON lines that producers send."""

from __future__ import annotations

import runpy
from pathlib import Path

from tesseract.config.dataset import Dataset
from tesseract.config.schema import parse_file
from tesseract.ingestion.files import read_lines

ROOT = Path(__file__).resolve().parents[1]


def both() -> dict[str, tuple[Dataset, list[bytes]]]:
    """Dataset name → (configuration, lines): a year of weather at three airports, a day of radiation at one station."""
    weather = parse_file(ROOT / "schemas" / "weather.yaml")["weather"]
    surfrad = parse_file(ROOT / "schemas" / "surfrad.yaml")["surfrad"]
    lines = read_lines(str(ROOT / "examples" / "data" / "nyc_weather_2013.csv.gz"), weather)
    made = runpy.run_path(str(ROOT / "examples" / "surfrad.py"))
    day = [line.encode() for line in made["ndjson"](made["SAMPLE"])]
    return {"weather": (weather, [line for line in lines if isinstance(line, bytes)]), "surfrad": (surfrad, day)}
