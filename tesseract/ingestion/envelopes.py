"""An HTTP event of any form as one request: API Gateway's REST API (v1) and HTTP API (v2), and function URLs. Pure."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote

import msgspec

from tesseract.errors import InputError
from tesseract.ingestion.answers import Refused
from tesseract.ingestion.bodies import GZIP, check_size, inflate

ROUTE = "POST /datasets/{dataset}/records"
TYPES = {
    *("application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"),
    *("application/octet-stream", "application/gzip", "text/plain"),
}
_PATH = re.compile(r"/datasets/([^/]+)/records/?")


class Request(msgspec.Struct, frozen=True):
    """Records for a dataset: the event's method and names understood, its body still as it came."""

    dataset: str
    headers: dict[str, str]  # names in lower case
    event: dict[str, Any]

    def body(self) -> bytes:
        """The body, base64 and gzip undone. Raises Refused where a header is not understood, InputError where it is broken."""
        self._check_type()
        gzipped = self._check_encoding()
        body = self.event.get("body") or ""
        if self.event.get("isBase64Encoded"):
            try:
                raw = base64.b64decode(body, validate=True)
            except (TypeError, ValueError) as error:
                raise InputError(f"the body is not base64: {error}") from error
        else:
            raw = str(body).encode("utf-8", "surrogatepass")
        if gzipped and raw and not raw.startswith(GZIP) and raw.lstrip()[:1] not in (b"{", b"["):
            hint = "send it as application/x-ndjson or application/octet-stream, which gateways do not take for text"
            raise InputError("the body is not gzip, though its content-encoding says so", hint=hint)
        return check_size(inflate(raw))

    def _check_type(self) -> None:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and kind not in TYPES and not kind.endswith("+json"):
            accepted = "application/json, application/x-ndjson, application/octet-stream, application/gzip and text/plain are"
            raise Refused(415, f"content-type {kind[:100]!r} is not understood; {accepted}")

    def _check_encoding(self) -> bool:
        """Whether the body is said to be gzip. The bytes themselves decide: gateways inflate bodies and keep the header."""
        names = [name.strip().lower() for name in self.headers.get("content-encoding", "").split(",")]
        codings = [name for name in names if name and name != "identity"]
        if codings not in ([], ["gzip"], ["x-gzip"]):
            raise Refused(415, f"content-encoding {', '.join(codings)[:100]!r} is not understood; gzip is, or none")
        return bool(codings)


def is_http(event: dict[str, Any]) -> bool:
    """Whether an event came by HTTP, and not by direct invoke."""
    return "requestContext" in event or "httpMethod" in event


def read_request(event: dict[str, Any]) -> Request:
    """The request of an HTTP event. Raises Refused for another path than that of records, and for another method than POST.

    Gateways name the dataset by their route's parameter; function URLs and catch-all routes leave it in the path.
    """
    dataset = _part(event, "pathParameters").get("dataset")
    if dataset is None:
        path = str(event.get("rawPath") or event.get("path") or "")
        match = _PATH.fullmatch(path)
        if match is None and path:
            raise Refused(404, f"there is nothing at {path[:100]!r}; {ROUTE} takes records")
        dataset = match[1] if match else ""
    method = event.get("httpMethod") or _part(_part(event, "requestContext"), "http").get("method") or "POST"
    if str(method).upper() != "POST":
        raise Refused(405, f"{str(method)[:20]} is not understood here; {ROUTE} takes records")
    # a dataset's name has no %: whether a gateway has decoded it already makes no difference
    return Request(unquote(str(dataset)), _headers(event), event)


def _headers(event: dict[str, Any]) -> dict[str, str]:
    headers = {str(name).lower(): str(value) for name, value in _part(event, "headers").items() if value is not None}
    several = {
        str(name).lower(): ",".join(map(str, values))
        for name, values in _part(event, "multiValueHeaders").items()
        if isinstance(values, list)
    }
    return headers | several


def _part(event: dict[str, Any], name: str) -> dict[str, Any]:
    part = event.get(name)
    return part if isinstance(part, dict) else {}
