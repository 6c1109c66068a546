"""An HTTP API in front of the ingestion handler, as API Gateway is: WSGI requests become events of payload version 2.0."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

Handler = Callable[[dict[str, Any]], dict[str, Any]]
TEXT = ("text/", "application/json")  # what API Gateway hands over as text

UNSIGNED = {
    "statusCode": 403,
    "headers": {"content-type": "application/json"},
    "body": '{"message":"Missing Authentication Token"}',
}


class Gateway:
    """A WSGI application. Every answer is kept in `answers`. Any signature will do."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.answers: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = self.handler(event(environ)) if environ.get("HTTP_AUTHORIZATION") else UNSIGNED
        self.answers.append(answer)
        body = answer["body"].encode()
        status = HTTPStatus(answer["statusCode"])
        start_response(f"{status.value} {status.phrase}", [*answer["headers"].items(), ("content-length", str(len(body)))])
        return [body]


def event(environ: dict[str, Any]) -> dict[str, Any]:
    """The event of a request to the one route that takes every path."""
    raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers |= {"content-type": environ["CONTENT_TYPE"]} if environ.get("CONTENT_TYPE") else {}
    text = headers.get("content-type", "").startswith(TEXT) and "content-encoding" not in headers
    path = quote(environ["PATH_INFO"].encode("latin-1"))
    return {
        "version": "2.0",
        "rawPath": path,
        "requestContext": {"http": {"method": environ["REQUEST_METHOD"], "path": path}},
        "headers": headers,
        "body": raw.decode("utf-8", "replace") if text else base64.b64encode(raw).decode(),
        "isBase64Encoded": not text,
    }
