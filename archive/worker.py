"""Queue of tasks: commit the rows of an export's data file to the archive."""

from typing import Any

import msgspec
from aws_lambda_powertools import Logger

from tesseract.errors import TesseractError
from tesseract.processing.archive_stage import archive_stage
from tesseract.processing.archiver import run
from tesseract.processing.collector import Task
from tesseract.utils.time_utils import utc_now

logger = Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Run each task; one that fails comes again, and ends in the dead-letter queue if it keeps failing."""
    failures = []
    stage = archive_stage()
    for record in event["Records"]:
        try:
            task = msgspec.json.decode(record["body"], type=Task)
            done = run(stage.catalog, stage.backend.objects, task, utc_now())
        except (TesseractError, msgspec.DecodeError) as error:
            logger.error("task failed", message_id=record["messageId"], body=record["body"], reason=str(error))
            failures.append({"itemIdentifier": record["messageId"]})
        else:
            logger.info("task", window=task.window, file=task.file, outcome=done.outcome, rows=done.rows, commits=done.commits)
    return {"batchItemFailures": failures}
