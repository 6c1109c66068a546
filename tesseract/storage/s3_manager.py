"""The bucket in S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError, ClientError

from tesseract.storage.base import ObjectInfo
from tesseract.storage.dynamodb import translate

CHUNK = 1 << 20


class S3Objects:
    """One bucket. `client` is a boto3 S3 client; it is safe to share between threads."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        arguments: dict[str, Any] = {}
        if start or length is not None:
            arguments["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        answer = self._call("get_object", key, **arguments)
        return cast(bytes, answer["Body"].read())

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, self._call("get_object", key)["Body"])

    def put(self, key: str, body: bytes) -> None:
        self._call("put_object", key, Body=body)

    def upload(self, key: str, path: Path) -> None:
        with path.open("rb") as file:  # one request, streamed: an object of up to 5 GB appears whole or not at all
            self._call("put_object", key, Body=file)

    def download(self, key: str, path: Path) -> None:
        body = self._call("get_object", key)["Body"]
        try:
            with path.open("wb") as file:
                for chunk in iter(lambda: body.read(CHUNK), b""):
                    file.write(chunk)
        except BotoCoreError as error:  # the connection ended in between: the rest of the object is missing
            raise translate(error, "get_object", f"s3://{self.bucket}/{key}") from error

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

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, operation)(Bucket=self.bucket, Key=key, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, f"s3://{self.bucket}/{key}") from error
