"""Batches of the stage's Kinesis stream."""

from typing import Any

from aws_lambda_powertools import Logger

from tesseract.ingestion.wiring import service

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, write, and answer with the first record that must come again."""
    answer = service().handle_kinesis(event, context.get_remaining_time_in_millis() / 1000)
    logger.info("ingested", records=len(event["Records"]), failures=len(answer["batchItemFailures"]))
    return answer
