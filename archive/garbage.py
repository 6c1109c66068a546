"""Timer, and `archive gc`: retire what is past its retention, then remove what neither history nor any kept manifest asks for."""

from typing import Any

from aws_lambda_powertools import Logger
from msgspec import to_builtins
from msgspec.structs import replace

from tesseract.errors import NotFoundError
from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.gc import collect
from tesseract.processing.publisher import datasets_of
from tesseract.processing.retention import retire
from tesseract.utils.time_utils import utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Every dataset, or the one of `{"dataset": NAME}`; with `{"dry_run": true}`, only say what would go."""
    stage, name, now = archive_stage(), event.get("dataset"), utc_now()
    datasets = datasets_of(stage.catalog, name)
    if name and not datasets:
        raise NotFoundError(f"there is no dataset {name!r}")
    dry_run = bool(event.get("dry_run"))
    retired = retire(stage.catalog, datasets, now, dry_run)
    sums = [
        replace(one, retired=retired[one.dataset].segments, rows=retired[one.dataset].rows)
        for one in collect(stage.catalog, stage.backend.objects, datasets, now, dry_run)
    ]
    logger.info("gc", removed=to_builtins(sums), dry_run=dry_run)
    return {"removed": to_builtins(sums)}
