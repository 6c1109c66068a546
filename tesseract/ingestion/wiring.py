"""The ingestion service of this process's stage, made once and kept while the function is warm."""

from __future__ import annotations

import os
from functools import cache

from tesseract.config.cache import Configs
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.aws import backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.aws_helpers import stage_name
from tesseract.utils.time_utils import utc_now


@cache
def service() -> Service:
    """The service over the tables and the bucket of TESSERACT_STAGE."""
    store = backend(stage_name())
    configs = Configs(Catalog(store.catalog, store.objects), utc_now)
    writer = Writer(store.raw, store.live, utc_now)
    return Service(configs, writer, store.objects, utc_now, os.environ.get("TESSERACT_KINESIS_DATASET", ""))
