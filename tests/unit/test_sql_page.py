"""docs/sql.md: every statement runs, over a July of weather in memory, and what the page says of conditions is so."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tesseract.config.manager import apply
from tesseract.config.schema import parse_file
from tesseract.model import Record
from tesseract.query import sql
from tesseract.query.results import shape
from tesseract.query.sql_scan import Tables
from tesseract.storage.items import raw_item
from tesseract.storage.keys import partitions_pk
from tesseract.storage.memory import memory_backend
from tesseract.store import Store

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sql.md").read_text()
WEATHER = parse_file(ROOT / "schemas" / "weather.yaml")["weather"]
JULY, HOUR = datetime(2013, 7, 1, tzinfo=UTC), timedelta(hours=1)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


@pytest.fixture(scope="module")
def store():
    backend = memory_backend()
    store = Store(backend, "test", lambda: JULY + timedelta(days=10))
    apply(store.catalog, WEATHER, JULY - timedelta(days=5))
    dataset = store.dataset("weather")
    for group in ("JFK", "LGA"):
        backend.catalog.put({"pk": partitions_pk("weather", "raw"), "sk": group})
        for step in range(72):
            at = JULY + step * HOUR
            backend.raw.put(raw_item(dataset, Record(group, at, None, {"temp": 70 + step % 24, "humid": 50}, False), at))
    return store


@pytest.mark.parametrize("text", blocks("sql"))
def test_the_statements_of_the_page_give_rows(store, text):
    assert len(store.sql(text))


def test_the_program_of_the_page_runs(store, capsys):
    (program,) = blocks("python")
    exec(program, {"store": store})


@pytest.mark.parametrize(
    ("where", "times", "groups"),
    [
        ("valid_time = '2013-07-01'", True, False),
        ("valid_time > now() - interval 3 hour", True, False),
        ("valid_time > current_date - 7", True, False),
        ("date_trunc('month', valid_time) = '2013-07-01'", True, False),
        ("valid_time not in ('2013-07-01')", True, False),
        ("valid_time::date = '2013-07-01'", False, False),
        ("year(valid_time) = 2013", False, False),
        ("valid_time + interval 1 hour > '2013-07-01'", False, False),
        ("origin = 'JFK'", False, True),
        ("origin in ('JFK', 'LGA')", False, True),
        ("origin <> 'JFK'", False, True),
        ("origin >= 'J' and origin < 'K'", False, True),
        ("origin like 'J%'", False, False),
        ("starts_with(origin, 'J')", False, False),
        ("origin in (select origin from weather)", False, False),
        ("(origin = 'JFK' and valid_time < '2013-07-01') or (origin = 'LGA' and valid_time > '2013-07-01')", True, True),
    ],
)
def test_a_condition_narrows_what_the_page_says(where, times, groups):
    asked = []

    def scan(question):
        asked.append(question)
        return shape(WEATHER, question.level, [], question.fields).to_reader()

    sql.run(
        f"select temp from weather where {where}",
        Tables(lambda: ["weather"], lambda _: WEATHER, lambda _: ["EWR", "JFK", "LGA"], scan),
    )
    wholes = [question for question in asked if question.start is None and question.end is None]
    assert bool(len(wholes) < len(asked)) == times
    assert all(question.groups is not None for question in asked) == groups
