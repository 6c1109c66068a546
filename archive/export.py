"""Timer, and `archive export`: open the export windows that are due, and ask DynamoDB for their exports."""

from typing import Any

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.exporter import run
from tesseract.utils.aws_helpers import stage_name
from tesseract.utils.time_utils import from_iso, from_micros, iso_seconds, utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """`{"force": true, "covering": ISO time}` opens a window as soon as it may; both are optional."""
    stage, covering = archive_stage(), event.get("covering")
    try:
        outcome = run(
            stage.catalog,
            stage.exports,
            stage.backend.live,
            stage.settings(),
            utc_now(),
            force=bool(event.get("force")),
            covering=from_iso(covering) if covering else None,
        )
    finally:  # while exports cannot be had, the lag grows, and must be seen to
        _measure(stage.catalog.progress().archived_through)
    opened = [
        {"id": w.id, "start": iso_seconds(from_micros(w.start)), "end": iso_seconds(from_micros(w.end))} for w in outcome.opened
    ]
    next_possible = None if outcome.next_possible is None else iso_seconds(outcome.next_possible)
    logger.info("export", opened=[window["id"] for window in opened], next_possible=next_possible)
    return {"opened": opened, "next_possible": next_possible}


def _measure(through: int) -> None:
    """The number that must never run out against the buffer's hold; the stage's alarm watches it."""
    if not through:
        return  # recovery has never been on: the failure of the call is what tells
    lag = (utc_now() - from_micros(through)).total_seconds()
    with single_metric(name="ExportLagSeconds", unit=MetricUnit.Seconds, value=lag, namespace="tesseract") as metric:
        metric.add_dimension("stage", stage_name())
