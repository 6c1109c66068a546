"""Timer: snapshot the aggregate levels of the windows that have closed."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools import Logger

from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.snapshots import run
from tesseract.utils.time_utils import from_micros, iso_seconds, utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """All windows that are due, oldest first; a run that is cut short is continued by the next."""
    stage = archive_stage()
    reports = [asdict(report) for report in run(stage.backend, stage.catalog, utc_now())]
    through = stage.catalog.progress().snapshot_through
    answer = {"windows": reports, "snapshot_through": iso_seconds(from_micros(through)) if through else None}
    logger.info("snapshot", **answer)
    return answer
