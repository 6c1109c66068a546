"""docs/openapi.yaml is true: it is a valid document, and the handler answers as it says, whatever is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.specs.openapi.checks import ignored_auth, missing_required_header, positive_data_acceptance

from tesseract.config.cache import Configs
from tesseract.config.manager import apply
from tesseract.config.schema import parse
from tesseract.errors import BackendError, Throttled
from tesseract.ingestion.lambda_handler import Service
from tesseract.ingestion.writer import Writer
from tesseract.storage.catalog import Catalog
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tests.support.http_gateway import Gateway

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG = "datasets: {weather: {group_by: origin, time_field: time_hour, unknown_fields: keep}}"
OPERATION = DOCUMENT["paths"]["/datasets/{dataset}/records"]["post"]


class Throttling(MemoryTable):
    """A table that takes nothing when it is told so."""

    error: Exception | None = None

    def put_many(self, items, until=None):
        if self.error is not None:
            raise self.error
        return super().put_many(items, until)


def gateway(raw: MemoryTable | None = None) -> Gateway:
    catalog = Catalog(MemoryTable("catalog"), MemoryObjects())
    for dataset in parse(CONFIG).values():
        apply(catalog, dataset, NOW)
    clock = lambda: NOW
    writer = Writer(raw or MemoryTable("raw"), MemoryTable("live"), clock)
    service = Service(Configs(catalog, clock), writer, MemoryObjects(), clock)
    return Gateway(lambda event: service.handle(event, 28))


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    """Text as it is; anything else is a line of JSON."""
    return value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()


API = gateway()
schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.app = API


@schema.parametrize()
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(case):
    case.path_parameters["dataset"] = "weather" if len(API.answers) % 3 else case.path_parameters.get("dataset", "x")
    response = case.call()
    # the gateway checks signatures, with 403; and what a record must have is for the dataset's configuration to say
    known = [ignored_auth, missing_required_header, positive_data_acceptance]
    case.validate_response(response, excluded_checks=known)


def test_the_document_is_openapi():
    validate(DOCUMENT)


def post(api, body, dataset="weather", **headers):
    service_event = {
        "version": "2.0",
        "rawPath": f"/datasets/{dataset}/records",
        "requestContext": {"http": {"method": "POST"}},
        "headers": headers,
        "body": body,
        "isBase64Encoded": False,
    }
    return api.handler(service_event)


def test_every_status_that_the_function_gives_is_in_the_document():
    good = json.dumps({"origin": "JFK", "time_hour": "2026-03-01T11:00:00Z", "temp": 1})
    throttled, broken = Throttling("raw"), Throttling("raw")
    throttled.error, broken.error = Throttled("slow down"), BackendError("no")
    seen = {
        post(API, good)["statusCode"],
        post(API, f"{good}\n{{}}")["statusCode"],
        post(API, "{}")["statusCode"],
        post(API, good, "nothere")["statusCode"],
        post(API, "x" * 4_500_001)["statusCode"],
        post(API, good, **{"content-type": "text/csv"})["statusCode"],
        post(gateway(throttled), good)["statusCode"],
        post(gateway(broken), good)["statusCode"],
        API.handler({"version": "2.0", "rawPath": "/datasets/weather/records", "requestContext": {"http": {"method": "GET"}}})[
            "statusCode"
        ],
    }
    assert seen == {200, 207, 400, 404, 405, 413, 415, 429, 503}
    assert seen <= {int(status) for status in OPERATION["responses"]}


def test_the_examples_are_accepted():
    content = OPERATION["requestBody"]["content"]
    for example in content["application/json"]["examples"].values():
        answer = post(API, json.dumps(example["value"]))
        assert answer["statusCode"] == 200
    assert post(API, content["application/x-ndjson"]["example"])["statusCode"] == 200
