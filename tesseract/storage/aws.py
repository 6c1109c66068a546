"""The storage of a stage on AWS, and the clients that its functions need beside it."""

from __future__ import annotations

from functools import cache
from typing import Any

from tesseract.storage import keys
from tesseract.storage.base import Backend
from tesseract.storage.dynamodb import DynamoTable
from tesseract.storage.s3_manager import S3Objects
from tesseract.storage.wire import Wire
from tesseract.utils.aws_helpers import bucket_name, client


@cache
def backend(stage: str, bucket: str | None = None) -> Backend:
    """The three tables and the bucket of a stage; `bucket` is found by the caller's account where it is not given.

    AWS is asked for that when the bucket is first needed, which takes a client of its own and a request: what reads the tables
    alone, such as `latest`, does without. BackendError is then raised where AWS does not say who the caller is.
    """
    names = keys.tables(stage)
    wire = Wire()
    return Backend(
        raw=DynamoTable(wire, names["raw"]),
        live=DynamoTable(wire, names["live"]),
        catalog=DynamoTable(wire, names["catalog"]),
        objects=S3Objects(_Late("s3"), bucket or (lambda: bucket_name(stage))),
    )


class _Late:
    """A client that is made when it is first asked for something: what takes records over HTTP hardly ever needs the bucket."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(client(self._service), name)
