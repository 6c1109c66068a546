"""Timer, and `archive compact`: merge segments that are due."""

from typing import Any

from aws_lambda_powertools import Logger

from tesseract.errors import NotFoundError
from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.compactor import compact, summary
from tesseract.processing.publisher import datasets_of
from tesseract.utils.time_utils import utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Every dataset, or the one of `{"dataset": NAME}`; what time does not allow is left to the next run.

    `{"whole": true}` leaves one segment a period; without it late rows gather first.
    """
    stage, name = archive_stage(), event.get("dataset")
    datasets = datasets_of(stage.catalog, name)
    if name and not datasets:
        raise NotFoundError(f"there is no dataset {name!r}")

    def seconds_left() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    whole = bool(event.get("whole"))
    done = compact(stage.catalog, stage.backend.objects, datasets, utc_now(), seconds_left=seconds_left, whole=whole)
    merges = summary(done)
    logger.info("compact", merges=merges)
    return {"merges": merges}
