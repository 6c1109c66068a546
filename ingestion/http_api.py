"""POST /datasets/{dataset}/records, by API Gateway or function URL, and the same by direct invoke."""

from functools import partial
from typing import Any

from tesseract.ingestion.telemetry import report, traced
from tesseract.ingestion.wiring import service


@traced
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, write, answer."""
    path = event.get("rawPath") or event.get("path") or "direct"
    return service().handle(event, context.get_remaining_time_in_millis() / 1000, partial(report, path=path))
