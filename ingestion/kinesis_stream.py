"""Batches of the stage's Kinesis stream."""

from functools import partial
from typing import Any

from tesseract.ingestion.telemetry import report, traced
from tesseract.ingestion.wiring import service


@traced
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, write, and answer with the first record that must come again."""
    tell = partial(report, path="kinesis")
    return service().handle_kinesis(event, context.get_remaining_time_in_millis() / 1000, tell)
