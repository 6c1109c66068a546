"""S3 event on an export's `manifest-summary.json`, and timer: make the files of completed exports into tasks."""

import time
from typing import Any
from urllib.parse import unquote_plus

from aws_lambda_powertools import Logger

from tesseract.processing.archive_stage import archive_stage, work_queue
from tesseract.processing.collector import Progress, collect, collect_all, window_of
from tesseract.utils.time_utils import utc_now

logger = Logger()
TRIES = 15  # seconds that the summary may come before DynamoDB says that the export is complete; then the timer finds it


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One window for each S3 record, or all that are open."""
    records = event.get("Records")
    if records is None:
        stage = archive_stage()
        windows = collect_all(stage.catalog, stage.backend.objects, stage.exports, work_queue(), utc_now())
    else:
        windows = {}
        for record in records:
            windows |= _collect(unquote_plus(record["s3"]["object"]["key"]))
    logger.info("collect", windows=windows)
    return {"windows": windows}


def _collect(key: str) -> dict[str, Progress]:
    stage = archive_stage()
    window = window_of(stage.catalog, key)
    if window is None:
        return {}
    progress: Progress = "waiting"
    for _ in range(TRIES):
        progress = collect(stage.catalog, stage.backend.objects, stage.exports, work_queue(), window, utc_now())
        if progress != "waiting":
            break
        time.sleep(1)
        window = window_of(stage.catalog, key) or window
    return {window.id: progress}
