"""POST /datasets/{dataset}/records, and the same by direct invoke."""

from typing import Any

from aws_lambda_powertools import Logger

from tesseract.ingestion.wiring import service

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, write, answer."""
    answer = service().handle(event, context.get_remaining_time_in_millis() / 1000)
    logger.info("ingested", status=answer.get("statusCode", 200), path=event.get("rawPath", "direct"))
    return answer
