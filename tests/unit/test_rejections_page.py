"""docs/rejections.md is the catalogue of reasons: it has all of them and no other, and its examples get the reason that it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tesseract.config.schema import parse
from tesseract.ingestion.answers import NOT_VALID, NOT_WRITTEN
from tesseract.ingestion.rejections import REASONS
from tesseract.ingestion.validators import Validator

PAGE = (Path(__file__).parents[2] / "docs" / "rejections.md").read_text()
DATASET = parse(re.search(r"```yaml\n(.*?)```", PAGE, re.S)[1])["plant"]
ROWS = re.findall(r"^\| `(.+?)` \| (?:`(.*?)`)? ?\|", PAGE, re.M)
EXAMPLES = [(reason, example) for reason, example in ROWS if example]
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_the_page_has_every_reason_and_no_other():
    said = {NOT_WRITTEN, NOT_VALID, "there is nothing at records_path …"}
    assert {reason for reason, _ in ROWS} - said == set(REASONS.values())
    assert all(f"`{sentence}`" in PAGE for sentence in said)
    assert len(EXAMPLES) >= 25


@pytest.mark.parametrize(("reason", "example"), EXAMPLES)
def test_an_example_gets_its_reason(reason, example):
    decoded = Validator(DATASET).decode([example.encode()], NOW)
    (rejection,) = decoded.rejected
    pattern = "".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{.*?\})", reason))
    assert re.fullmatch(pattern, rejection.reason), rejection
