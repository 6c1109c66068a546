"""The raw table's stream into the hourly and daily items of the live table."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from tesseract.config.cache import Configs
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.stream import run
from tesseract.storage.aws import backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.aws_helpers import stage_name
from tesseract.utils.time_utils import utc_now

logger = Logger()


@cache
def configs() -> Configs:
    """Kept while the function is warm, and read again after 60 s."""
    store = backend(stage_name())
    return Configs(Catalog(store.catalog, store.objects), utc_now)


@cache
def processor() -> AggregateProcessor:
    """Kept while the function is warm."""
    store = backend(stage_name())
    return AggregateProcessor(store.live, Catalog(store.catalog, store.objects), configs(), utc_now)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decode, apply, and answer with the first record that must come again."""
    answer = run(event, processor().process, configs(), backend(stage_name()).objects)
    logger.info("aggregated", records=len(event["Records"]), failures=answer["batchItemFailures"])
    return answer
