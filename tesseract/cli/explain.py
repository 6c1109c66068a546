"""`query --dry-run` and `--explain`: what a query would read as a table, and that held against what it did read."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tesseract.cli.common import counted, note
from tesseract.cli.output import print_table, write_rows
from tesseract.query.plan import TIME_MAX, TIME_MIN
from tesseract.utils.time_utils import from_micros, iso_seconds

if TYPE_CHECKING:
    from tesseract.query.estimates import Plan

COLUMNS = ("source", "group", "what", "from", "to", "rows", "requests", "bytes")
HASH = re.compile(r"(-[0-9a-f]{8})[0-9a-f]{24}\.parquet$")
S3 = ("archive", "snapshot")  # sources that are files


def rows_of(plan: Plan) -> list[dict[str, Any]]:
    """A plan as rows, one for each slice; rows, requests and bytes are estimates, an open end is nothing."""
    return [
        dict(zip(COLUMNS, (*part[:3], _moment(part.start), _moment(part.end), part.rows, part.requests, part.bytes), strict=True))
        for part in plan.slices
    ]


def show(plan: Plan, form: str, path: str | None) -> None:
    """The slices as the result of a dry run, and what they come to on stderr."""
    write_rows(_short(rows_of(plan)) if form == "table" else rows_of(plan), form, path, COLUMNS)
    note(f"about {sum_of(plan)}; nothing was read but the catalog and the marks")


def before(plan: Plan) -> None:
    """The slices on stderr, before they are read."""
    rows = [list(row.values()) for row in _short(rows_of(plan))]
    note("the plan, estimated:")
    print_table(COLUMNS, {}, rows, len(rows), sink=sys.stderr)
    note("")


def after(plan: Plan, stats: Mapping[str, int]) -> None:
    """What was read, on stderr: estimates and counts side by side, then the counts by source."""
    names = ("S3 requests", "S3 bytes", "DynamoDB requests", "DynamoDB bytes")
    actual = [stats[name] for name in ("s3_requests", "s3_bytes", "dynamodb_requests", "dynamodb_bytes")]
    note("")
    rows = [list(row) for row in zip(names, estimates(plan), actual, strict=True)]
    print_table(("", "estimated", "actual"), {}, rows, len(rows), sink=sys.stderr)
    note("")
    left = {name: count for name, count in stats.items() if not name.startswith(("s3_", "dynamodb_"))}
    print_table(("counted", ""), {}, [[name.replace("_", " "), count] for name, count in left.items()], len(left), sink=sys.stderr)


def estimates(plan: Plan) -> tuple[int, int, int, int]:
    """Requests to S3 and the bytes of them, the same of DynamoDB; what finds the plan out is DynamoDB's."""
    files = [part for part in plan.slices if part.source in S3]
    items = [part for part in plan.slices if part.source not in S3]
    return (
        sum(part.requests for part in files),
        sum(part.bytes for part in files),
        plan.others + sum(part.requests for part in items),
        sum(part.bytes for part in items),
    )


def sum_of(plan: Plan) -> str:
    """`1,200 rows, 5 requests (3 of them to the catalog and the marks), 12,345 bytes`."""
    return (
        f"{counted(plan.rows, 'row')}, {counted(plan.requests, 'request')} ({plan.others:,} of them to the catalog and the marks), "
        f"{counted(plan.bytes, 'byte')}"
    )


def _short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keys of files cut to what a person tells them apart by: `yearly/2013-8f3a60c1….parquet`."""
    return [row | {"what": HASH.sub(r"\1….parquet", row["what"].rpartition("/tier=")[2])} for row in rows]


def _moment(micros: int) -> str | None:
    return None if micros in (TIME_MIN, TIME_MAX) else iso_seconds(from_micros(micros))
