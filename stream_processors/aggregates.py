"""The raw table's stream into the aggregate items of the live table."""

from typing import Any

from tesseract.processing.stream_stage import aggregates, handle


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, apply, and answer with the first record that must come again."""
    return handle(event, aggregates())
