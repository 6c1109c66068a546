"""What the archive's functions work with, made once and kept while a function is warm."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from tesseract.errors import BackendError
from tesseract.processing.windows import Settings, settings_from
from tesseract.storage import keys
from tesseract.storage.aws import backend
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog
from tesseract.storage.exports import DynamoExports, Exports
from tesseract.storage.services import Queue, SqsQueue
from tesseract.utils.aws_helpers import bucket_name, client, stage_name


@dataclass(frozen=True)
class ArchiveStage:
    """A stage as the archive sees it."""

    backend: Backend
    catalog: Catalog
    exports: Exports

    def settings(self) -> Settings:
        """The stage's settings of export windows; the automatic cadence follows the datasets as they are now."""
        return settings_from(os.environ, self.catalog.datasets())


@cache
def archive_stage(stage: str | None = None) -> ArchiveStage:
    """The archive of a stage; TESSERACT_STAGE where none is named."""
    stage = stage or stage_name()
    store = backend(stage)
    exports = DynamoExports(client("dynamodb"), keys.tables(stage)["raw"], bucket_name(stage))
    return ArchiveStage(store, Catalog(store.catalog, store.objects), exports)


@cache
def work_queue() -> Queue:
    """The queue of the workers' tasks: TESSERACT_WORK_QUEUE holds its URL. Raises BackendError where it does not."""
    url = os.environ.get("TESSERACT_WORK_QUEUE")
    if not url:
        raise BackendError("this function does not know the queue of the workers", hint="set TESSERACT_WORK_QUEUE to its URL")
    return SqsQueue(client("sqs"), url)
