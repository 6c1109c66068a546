"""Timer: snapshot the aggregate levels of the windows that have closed, and repair the stale items of the live table."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.closing import run
from tesseract.utils.aws_helpers import stage_name
from tesseract.utils.time_utils import from_micros, iso_seconds, utc_now

logger = Logger()
SHOWN = 5  # items named in the answer


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """All windows that are due, oldest first; a run that is cut short is continued by the next."""
    stage = archive_stage()
    outcome = run(stage.backend, stage.catalog, utc_now())
    through = stage.catalog.progress().snapshot_through
    answer = {
        "windows": [asdict(report) | {"different": len(report.different)} for report in outcome.windows],
        "repairs": asdict(outcome.repairs),
        "missed": [f"{seen.pk} {seen.sk}" for seen in outcome.missed[:SHOWN]],
        "healed": outcome.healed,
        "snapshot_through": iso_seconds(from_micros(through)) if through else None,
    }
    with single_metric(name="MissedChanges", unit=MetricUnit.Count, value=len(outcome.missed), namespace="tesseract") as metric:
        metric.add_dimension("stage", stage_name())
    logger.info("snapshot", **answer)
    return answer
