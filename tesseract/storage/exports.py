"""DynamoDB's exports to S3: ask for one, look how it stands, and since when the table can be had at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tesseract.errors import NotFoundError
from tesseract.storage.dynamodb import translate

ExportStatus = Literal["IN_PROGRESS", "COMPLETED", "FAILED", "GONE"]  # GONE: AWS does not know it


@dataclass(frozen=True)
class Export:
    """How an export stands; `failure` is AWS's reason where it failed."""

    status: ExportStatus
    failure: str = ""


class Exports(Protocol):
    """The exports of the raw table. Errors are those of tesseract.errors."""

    def earliest(self) -> datetime | None:
        """The earliest restorable time of the table; None where point-in-time recovery is off."""

    def request(self, prefix: str, start: datetime | None, end: datetime, token: str) -> str:
        """Ask for the changes written in [start, end), new images; without a start for all that was there at `end`.

        Returns the ARN. The same token asks for the same export.
        """

    def describe(self, arn: str) -> Export:
        """How an export stands."""


def export_id(arn: str) -> str:
    """The last part of an export's ARN, which names its folder."""
    return arn.rpartition("/")[2]


class DynamoExports:
    """The exports of one table into one bucket. `client` is a boto3 DynamoDB client."""

    def __init__(self, client: Any, table: str, bucket: str) -> None:
        self.client = client
        self.table = table
        self.bucket = bucket

    @cached_property
    def table_arn(self) -> str:
        """What the export call wants instead of a name."""
        return str(self._call("describe_table", TableName=self.table)["Table"]["TableArn"])

    def earliest(self) -> datetime | None:
        answer = self._call("describe_continuous_backups", TableName=self.table)
        recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        moment: datetime | None = recovery.get("EarliestRestorableDateTime")
        if recovery.get("PointInTimeRecoveryStatus") != "ENABLED" or moment is None:
            return None
        return moment.astimezone(UTC)

    def request(self, prefix: str, start: datetime | None, end: datetime, token: str) -> str:
        window = {"ExportFromTime": start, "ExportToTime": end, "ExportViewType": "NEW_IMAGE"}
        kind: dict[str, Any] = {"ExportType": "FULL_EXPORT", "ExportTime": end}
        if start is not None:
            kind = {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": window}
        answer = self._call(
            "export_table_to_point_in_time",
            TableArn=self.table_arn,
            S3Bucket=self.bucket,
            S3Prefix=prefix,
            ClientToken=f"{self.table}-{token}",
            ExportFormat="DYNAMODB_JSON",
            **kind,
        )
        return str(answer["ExportDescription"]["ExportArn"])

    def describe(self, arn: str) -> Export:
        try:
            description = self._call("describe_export", ExportArn=arn)["ExportDescription"]
        except NotFoundError:
            return Export("GONE")
        failure = ": ".join(description[name] for name in ("FailureCode", "FailureMessage") if description.get(name))
        return Export(description["ExportStatus"], failure)

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ExportNotFoundException":
                raise NotFoundError("there is no such export", operation=operation, key=self.table) from error
            raise translate(error, operation, self.table) from error
