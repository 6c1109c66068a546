"""The documentation of a configuration is true: its examples run, its answers are the parser's, its reference is current."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tesseract.config.paths import parse_path
from tesseract.config.schema import parse, parse_file
from tesseract.errors import ConfigError
from tesseract.ingestion.records_path import expand
from tests.support.reference import FOLDER, pages

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "configuration.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.M | re.S)


def at(record, path):
    for step in parse_path(path):
        record = record[step]
    return record


def test_the_reference_has_a_current_page_per_key():
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert written == pages(), "python -m tests.support.reference"


def test_the_examples_of_the_guide_are_valid_and_its_mistakes_are_answered_so():
    *examples, wrong = blocks("yaml")
    for example in examples:
        parse(example)
    with pytest.raises(ConfigError) as caught:
        parse(wrong, "weather.yaml")
    assert "\n".join(caught.value.faults) + "\n" == blocks("text")[0]


def test_the_message_of_the_guide_holds_what_its_dataset_reads():
    dataset = parse(next(text for text in blocks("yaml") if "records_path" in text))["meters"]
    records = [json.loads(line) for line in expand(dataset, [blocks("json")[0].strip().encode()]).lines]
    assert [[at(record, path) for path in dataset.group_by] for record in records] == [[7, "a"], [7, "b"]]


def test_the_message_of_the_plant_holds_what_its_dataset_reads():
    path = ROOT / "schemas" / "plant.yaml"
    (dataset,) = parse_file(path).values()
    comment = "".join(line[1:] for line in path.read_text().splitlines() if line.startswith("#   "))
    (line,) = expand(dataset, [comment.encode()]).lines
    record = json.loads(line)
    assert [at(record, path) for path in dataset.group_by] == ["north", 4, "press 1"]
    assert at(record, dataset.time_field) < at(record, dataset.ref_time_field)
    for field in dataset.fields.values():
        assert at(record, field.path) is not None


def test_every_link_of_the_guide_and_the_reference_leads_somewhere():
    for page in (ROOT / "docs" / "configuration.md", *FOLDER.iterdir()):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
