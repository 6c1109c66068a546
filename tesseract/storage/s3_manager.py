"""The bucket in S3."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError

from tesseract.errors import BackendError
from tesseract.storage.base import ObjectInfo
from tesseract.storage.dynamodb import translate
from tesseract.storage.s3_road import Road, road

CHUNK = 1 << 20
ATTEMPTS = 3  # to read a body to its end: botocore tries a request again, but not what breaks off later
T = TypeVar("T")


class S3Objects:
    """One bucket, by its name or what finds it out. `client` is a boto3 S3 client; it is safe to share between threads."""

    def __init__(self, client: Any, bucket: str | Callable[[], str]) -> None:
        self.client = client
        self._named = bucket

    @cached_property
    def bucket(self) -> str:
        """Its name."""
        return self._named if isinstance(self._named, str) else self._named()

    @cached_property
    def _road(self) -> Road | None:
        return road(self.client, self.bucket)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        span = f"bytes={start}-{'' if length is None else start + length - 1}" if start or length is not None else ""
        found = self._road.get(key, span) if self._road else None
        if found is not None:
            return found
        arguments = {"Range": span} if span else {}
        try:
            return self._whole(key, lambda: cast(bytes, self._call("get_object", key, **arguments)["Body"].read()))
        except BackendError as error:
            if isinstance(error.__cause__, ClientError) and error.__cause__.response["Error"].get("Code") == "InvalidRange":
                return b""  # the object ends before
            raise

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, _Stream(self._call("get_object", key)["Body"], self.uri(key)))

    def put(self, key: str, body: bytes) -> None:
        self._call("put_object", key, Body=body)

    def upload(self, key: str, path: Path) -> None:
        with path.open("rb") as file:  # one request, streamed: an object of up to 5 GB appears whole or not at all
            self._call("put_object", key, Body=file)

    def download(self, key: str, path: Path) -> None:
        def read() -> None:
            body = self._call("get_object", key)["Body"]
            with path.open("wb") as file:
                for chunk in iter(lambda: body.read(CHUNK), b""):
                    file.write(chunk)

        self._whole(key, read)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        token: dict[str, Any] = {}
        while True:
            try:
                page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **token)
            except (ClientError, BotoCoreError) as error:
                raise translate(error, "list_objects_v2", f"s3://{self.bucket}/{prefix}") from error
            for entry in page.get("Contents", []):
                yield ObjectInfo(entry["Key"], entry["Size"], entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def _whole(self, key: str, read: Callable[[], T]) -> T:
        """What `read` gives, called again where the connection ends within the body."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return read()
            except BotoCoreError as error:
                if attempt == ATTEMPTS:
                    raise translate(error, "get_object", self.uri(key)) from error
        raise AssertionError("unreachable")

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, operation)(Bucket=self.bucket, Key=key, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, f"s3://{self.bucket}/{key}") from error


class _Stream(io.RawIOBase):
    """The body of an answer, whose errors are ours. (botocore's own gives away what is beneath it when it is entered.)"""

    def __init__(self, body: Any, uri: str) -> None:
        self._body, self._uri = body, uri

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return cast(bytes, self._body.read(None if size < 0 else size))
        except BotoCoreError as error:
            raise translate(error, "get_object", self._uri) from error

    def readinto(self, buffer: Any, /) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._body.close()
        super().close()
