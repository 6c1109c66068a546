"""pyiceberg and deltalake on the fleet's month, through the same S3, in two layouts.

`a file a day`: as the month came in, a day at a time, all sensors sorted, by write_deltalake with its defaults: Delta's guide wants
a gigabyte in a partition, and a sensor's month has 230 kB. pyiceberg's table names these files too: it is not measured on files of
its own making. `our files`: the tables name the very files of our archive, partitioned by sensor, so that their metadata alone find
the one file, and its row groups are ours: the best that they can have. Warm, both hold the table open and look at each query
whether it has a newer version, as ours does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan
from pyiceberg.table import StaticTable, Table
from pyiceberg.transforms import IdentityTransform

from benchmarks.query_samples import DAYS, FLEET, made, once
from benchmarks.query_servers import KEYS, REGION, bucket, client
from benchmarks.query_stage import Stage
from tesseract.model import Segment

GROUP, TIME = "sensorId", "valid_time"
DAILY = "fleet-by-day"


class Peer(Protocol):
    """A table that is open, and how it is read."""

    def warm(self, group: str, start: datetime, end: datetime) -> pa.Table:
        """The rows, by the table that is held open."""

    def cold(self, group: str, start: datetime, end: datetime) -> pa.Table:
        """The rows, by the table opened for this."""


def peers(stage: Stage, files: Mapping[str, Segment], folder: Path) -> Iterator[tuple[str, Peer]]:
    """Name → peer; the tables are made in the bucket of a stage. `files` are ours by sensor, `folder` is for a catalog."""
    schema = pq.read_schema(made(FLEET) / next(iter(files.values())).key).remove_metadata()
    names = _upload_days(stage)
    root = f"s3://{bucket(stage.name)}"
    yield "deltalake, a file a day", Delta(f"{root}/{DAILY}", stage)
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"{root}/iceberg", **_iceberg(stage))
    catalog.create_namespace("bench")
    daily = catalog.create_table("bench.daily", schema)
    daily.add_files([f"{root}/{name}" for name in names], check_duplicate_files=False)
    yield "pyiceberg, a file a day", Iceberg(daily, stage)
    _name_ours(root, stage, schema, files)
    yield "deltalake, our files", Delta(root, stage)
    own = catalog.create_table("bench.own", schema)
    with own.update_spec() as spec:
        spec.add_field(GROUP, IdentityTransform(), "sensor")
    own.add_files([f"{root}/{segment.key}" for segment in files.values()], check_duplicate_files=False)
    yield "pyiceberg, our files", Iceberg(own, stage)


def _iceberg(stage: Stage) -> dict[str, str]:
    keys = {"s3.access-key-id": KEYS["AWS_ACCESS_KEY_ID"], "s3.secret-access-key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    return {"s3.endpoint": stage.s3, "s3.region": REGION, **keys}


def _delta(stage: Stage) -> dict[str, str]:
    return {**KEYS, "AWS_ENDPOINT_URL": stage.s3, "AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}


class Iceberg:
    """A table of pyiceberg."""

    def __init__(self, table: Table, stage: Stage) -> None:
        self._open, self._options = table, _iceberg(stage)

    def warm(self, group: str, start: datetime, end: datetime) -> pa.Table:
        return self._read(self._open.refresh(), group, start, end)

    def cold(self, group: str, start: datetime, end: datetime) -> pa.Table:
        return self._read(StaticTable.from_metadata(self._open.metadata_location, self._options), group, start, end)

    def _read(self, table: Table, group: str, start: datetime, end: datetime) -> pa.Table:
        within = And(GreaterThanOrEqual(TIME, start.isoformat()), LessThan(TIME, end.isoformat()))
        return table.scan(And(EqualTo(GROUP, group), within)).to_arrow()


class Delta:
    """A table of deltalake."""

    def __init__(self, uri: str, stage: Stage) -> None:
        self._uri, self._options = uri, _delta(stage)
        self._open = DeltaTable(uri, storage_options=self._options)

    def warm(self, group: str, start: datetime, end: datetime) -> pa.Table:
        self._open.update_incremental()
        return self._read(self._open, group, start, end)

    def cold(self, group: str, start: datetime, end: datetime) -> pa.Table:
        return self._read(DeltaTable(self._uri, storage_options=self._options), group, start, end)

    def _read(self, table: DeltaTable, group: str, start: datetime, end: datetime) -> pa.Table:
        own, within = [(GROUP, "=", group)], (pc.field(TIME) >= start) & (pc.field(TIME) < end)
        if table.metadata().partition_columns:
            return table.to_pyarrow_table(partitions=own, filters=within)
        return table.to_pyarrow_table(filters=within & (pc.field(GROUP) == group))


# the tables -------------------------------------------------------------------------------------------------------------


def _upload_days(stage: Stage) -> list[str]:
    """The month by day, in the bucket; the names of its Parquet files."""
    folder, s3 = once(DAILY, _write_days), client("s3", stage.s3)
    names = {f"{DAILY}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: s3.put_object(Bucket=bucket(stage.name), Key=name, Body=names[name].read_bytes()), names))
    return sorted(name for name in names if name.endswith(".parquet"))


def _write_days(folder: Path) -> None:
    paths = sorted((made(FLEET) / "archive").rglob("*.parquet"))
    months = [pq.ParquetFile(path).read() for path in paths]
    for day in range(DAYS):
        rows = pa.concat_tables([month.slice(day * 1440, 1440) for month in months])
        write_deltalake(
            folder, rows.replace_schema_metadata(None).sort_by([(GROUP, "ascending"), (TIME, "ascending")]), mode="append"
        )


def _name_ours(uri: str, stage: Stage, schema: pa.Schema, files: Mapping[str, Segment]) -> None:
    """A Delta table whose log lies in the bucket's root, so that it can name our files where they are."""
    actions = [AddAction(part.key, part.bytes, {GROUP: group}, 0, True, _stats(part)) for group, part in files.items()]
    options: dict[str, Any] = {"partition_by": [GROUP], "storage_options": _delta(stage)}
    create_table_with_add_actions(uri, Schema.from_arrow(schema), actions, **options)


def _stats(segment: Segment) -> str:
    """What a Delta log says of a file, for readers that skip by it."""
    first, last = (datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in (segment.first, segment.last))
    return json.dumps({"numRecords": segment.rows, "minValues": {TIME: first}, "maxValues": {TIME: last}})
