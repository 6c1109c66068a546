"""What Lambda reads in a function's answer, and what it tells a destination about records that it discards."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tesseract.utils.time_utils import EPOCH, iso_micros
from tests.support.driver_stream import Event

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:tesseract"


def lowest(answer: Any, numbers: list[str]) -> int | None:
    """Where the batch is to be taken up again, by the function's answer: a place in it, -1 for all of it as a failure, or None."""
    if answer is None:
        return None
    if not isinstance(answer, dict):
        return -1
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    try:
        return min(numbers.index(failure["itemIdentifier"]) for failure in failures)
    except (KeyError, TypeError, ValueError):
        return -1


def message(shard: str, batch: list[Event], condition: str, failures: int, now: datetime) -> Event:
    """What an SQS or SNS destination gets about a discarded batch."""
    first, last = batch[0]["dynamodb"], batch[-1]["dynamodb"]
    arrival = lambda body: iso_micros(EPOCH + timedelta(seconds=body["ApproximateCreationDateTime"]))
    context = {"functionArn": FUNCTION, "condition": condition, "approximateInvokeCount": failures}
    response = {"responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}}
    info = {
        "shardId": shard,
        "startSequenceNumber": first["SequenceNumber"],
        "endSequenceNumber": last["SequenceNumber"],
        "approximateArrivalOfFirstRecord": arrival(first),
        "approximateArrivalOfLastRecord": arrival(last),
        "batchSize": len(batch),
        "streamArn": batch[0]["eventSourceARN"],
    }
    said = {"requestContext": context, "version": "1.0", "timestamp": iso_micros(now), "DDBStreamBatchInfo": info}
    return said | response if failures else said  # no invocation, no response
