"""What the ingestion functions say of themselves: a log line and metrics per dataset, and traces where the stage has them on."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from tesseract.ingestion.lambda_handler import Tally
from tesseract.utils.aws_helpers import stage_name

NAMESPACE = "tesseract"
COUNTS = {
    "RecordsAccepted": "accepted",
    "RecordsRejected": "rejected",
    "RecordsWithWarnings": "warnings",
    "RecordsNotWritten": "not_written",
    "RecordsDeleted": "deleted",
    "RecordsThrottled": "throttled",
}
WRITES = {"RecordsSuperseded": "superseded", "WritesThrottled": "throttled", "ItemsUnprocessed": "unprocessed"}

logger = Logger()

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def report(tally: Tally, **about: Any) -> None:
    """Log a tally, `about` beside it, and measure it. No value of a record is in either."""
    say = logger.warning if tally.error else logger.info
    say("ingested", **msgspec.structs.asdict(tally), **about)
    counts = {name: getattr(tally, attribute) for name, attribute in COUNTS.items()}
    counts |= {name: tally.writes[counter] for name, counter in WRITES.items()}
    if not any(counts.values()):  # refused as a whole: the log says why
        return
    metrics = EphemeralMetrics(namespace=NAMESPACE)  # dimension `service` is POWERTOOLS_SERVICE_NAME
    metrics.add_dimension("stage", stage_name())
    metrics.add_dimension("dataset", tally.dataset)
    for name, count in counts.items():
        if count or name == "RecordsAccepted":  # a metric that is always 0 would be paid for, too
            metrics.add_metric(name, MetricUnit.Count, count)
    metrics.add_metric("RecordBytes", MetricUnit.Bytes, tally.bytes)
    metrics.flush_metrics()


def traced(handler: Handler) -> Handler:
    """The handler in an X-Ray subsegment, for invocations that are sampled. Neither event nor answer is in it.

    X-Ray's library takes longer to load than everything else together: it is loaded for the first such invocation.
    """

    @wraps(handler)
    def run(event: dict[str, Any], context: Any) -> dict[str, Any]:
        sampled = os.environ.get("TESSERACT_TRACING") == "Active" and "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")
        return (_traced(handler) if sampled else handler)(event, context)

    return run


@cache
def _traced(handler: Handler) -> Handler:
    from aws_lambda_powertools import Tracer

    wrapped: Handler = Tracer(auto_patch=False).capture_lambda_handler(handler, capture_response=False)
    return wrapped
