"""Timer: publish configuration and catalog to the bucket, for clients."""

from typing import Any

from aws_lambda_powertools import Logger

from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.publisher import publish
from tesseract.utils.time_utils import utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write the documents as they are now."""
    stage = archive_stage()
    objects = publish(stage.catalog, stage.backend.objects, utc_now())
    logger.info("metadata", objects=objects)
    return {"objects": objects}
