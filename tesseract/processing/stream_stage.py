"""What the stream functions work with, made once and kept while a function is warm, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from tesseract.config.cache import Configs
from tesseract.processing.aggregates import AggregateProcessor
from tesseract.processing.latest import LatestProcessor
from tesseract.processing.stream import lag, run
from tesseract.storage.aws import backend
from tesseract.storage.catalog import Catalog
from tesseract.utils.aws_helpers import stage_name
from tesseract.utils.time_utils import utc_now

NAMESPACE = "tesseract"
MOST = 100  # values of a metric in one line: CloudWatch takes no more

logger = Logger()


@cache
def configs() -> Configs:
    """The stage's configurations, read again after 60 s."""
    return Configs(_catalog(), utc_now)


@cache
def aggregates() -> AggregateProcessor:
    """The aggregates of TESSERACT_STAGE."""
    store = backend(stage_name())
    return AggregateProcessor(store.raw, store.live, _catalog(), configs(), utc_now)


@cache
def latest() -> LatestProcessor:
    """The latest values of TESSERACT_STAGE."""
    store = backend(stage_name())
    return LatestProcessor(store.raw, store.live, _catalog(), configs(), utc_now)


def handle(event: dict[str, Any], processor: AggregateProcessor | LatestProcessor) -> dict[str, Any]:
    """One batch: applied, logged, measured. The answer is Lambda's."""
    answer = run(event, processor.process, configs(), backend(stage_name()).objects)
    behind = lag(event, utc_now())
    logger.info("batch", records=len(event["Records"]), seconds_behind=behind, failures=answer["batchItemFailures"])
    _measure({"StreamLag": [behind]}, function=type(processor).__name__)
    if isinstance(processor, LatestProcessor):
        for dataset, ages in processor.ages.items():
            _measure({"LatestAge": ages}, dataset=dataset)
    return answer


def _measure(values: Mapping[str, Sequence[float]], **dimensions: str) -> None:
    """Metrics in seconds; of very many values the oldest: those are what somebody will ask about."""
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.add_dimension("stage", stage_name())
    for dimension, of in dimensions.items():
        metrics.add_dimension(dimension, of)
    for name, found in values.items():
        for value in sorted(found, reverse=True)[:MOST]:
            metrics.add_metric(name, MetricUnit.Seconds, value)
    metrics.flush_metrics()


@cache
def _catalog() -> Catalog:
    store = backend(stage_name())
    return Catalog(store.catalog, store.objects)
