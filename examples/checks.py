"""What the demo checks: every row and every aggregate that comes out, against the source files and a plain recomputation.

The recomputation shares nothing with the library: exact fractions over the text of the files.
"""

from __future__ import annotations

import csv
import gzip
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import surfrad

DATA = Path(__file__).parent / "data"
WEATHER = DATA / "nyc_weather_2013.csv.gz"
Row = dict[str, str]
Place = tuple[str, datetime]  # group and period start
TOLERANCE = 1e-12


def weather_rows() -> list[Row]:
    """The rows of the csv, as text."""
    with gzip.open(WEATHER, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def radiation_rows() -> list[Row]:
    """The rows of the station's file, as text."""
    return list(surfrad.readings(surfrad.SAMPLE))


def missing(cell: str) -> bool:
    """Whether the file says that there is no value."""
    return cell in ("NA", "-9999.9")


def compare_raw(table: pa.Table, dataset: str, group: str, time: str, rows: list[Row]) -> list[str]:
    """Every row of the files against a raw result: none missing, none more, every value equal."""
    got = {(row[group], row["valid_time"]): row for row in table.to_pylist()}
    differences = []
    for row in rows:
        key = (row[group], datetime.fromisoformat(row[time]))
        found = got.pop(key, None)
        if found is None:
            differences.append(f"{dataset} {key[0]} {row[time]}: not there")
            continue
        for name, cell in row.items():
            if name not in (group, time) and not _equal(found[name], cell):
                differences.append(f"{dataset} {key[0]} {row[time]} {name}: {found[name]!r}, the file says {cell}")
    differences += [f"{dataset} {key[0]} {key[1]}: not in the file" for key in got]
    return differences


def _equal(value: Any, cell: str) -> bool:
    if missing(cell) or value is None:
        return value is None and missing(cell)
    return float(value) == float(cell)


def compare_level(table: pa.Table, dataset: str, level: str, group: str, time: str, rows: list[Row]) -> list[str]:
    """Every period of a level against a recomputation from the files: exact but for avg and std, 1e-12 relative."""
    stats = [name for name in table.column_names if name not in (group, "period_start", "rows")]
    expected = dict(_expected(tuple(stats), level, group, time, rows))
    differences = []
    for got in table.to_pylist():
        key = (got[group], got["period_start"])
        want = expected.pop(key, None)
        if want is None:
            differences.append(f"{dataset} {level} {key[0]} {key[1]}: no such period in the files")
            continue
        for name in ("rows", *stats):
            if not _close(got[name], want[name], name.endswith(("_avg", "_std"))):
                differences.append(f"{dataset} {level} {key[0]} {key[1]} {name}: {got[name]!r}, recomputed {want[name]!r}")
    return differences + [f"{dataset} {level} {key[0]} {key[1]}: not there" for key in expected]


_KNOWN: dict[tuple[Any, ...], dict[Place, dict[str, Any]]] = {}


def _expected(
    stats: tuple[str, ...], level: str, group: str, time: str, rows: list[Row]
) -> dict[tuple[str, datetime], dict[str, Any]]:
    """The recomputation of every period; made once, since the demo asks twice."""
    key = (stats, level, rows[0][group], rows[0][time], len(rows))
    if key not in _KNOWN:
        fields = {name.rpartition("_")[0] for name in stats}
        _KNOWN[key] = {period: recompute(part, fields, time) for period, part in periods(rows, level, group, time)}
    return _KNOWN[key]


def _close(value: Any, wanted: Any, rounded: bool) -> bool:
    if value is None or wanted is None:
        return value is wanted
    return math.isclose(value, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE) if rounded else float(value) == float(wanted)


def periods(rows: list[Row], level: str, group: str, time: str) -> Iterator[tuple[tuple[str, datetime], list[Row]]]:
    """The rows of each (group, period start)."""
    parts: dict[tuple[str, datetime], list[Row]] = {}
    for row in rows:
        moment = datetime.fromisoformat(row[time]).astimezone(UTC)
        start = moment.replace(minute=0, second=0, microsecond=0)
        start = start.replace(hour=0) if level == "daily" else start
        parts.setdefault((row[group], start), []).append(row)
    yield from parts.items()


def recompute(rows: list[Row], fields: Iterable[str], time: str) -> dict[str, Any]:
    """All statistics of one period, in exact fractions."""
    result: dict[str, Any] = {"rows": len(rows)}
    ordered = sorted(rows, key=lambda row: row[time])
    for name in fields:
        values = [Fraction(row[name]) for row in ordered if not missing(row[name])]
        result[f"{name}_count"] = len(values)
        pick: dict[str, Callable[[], Any]] = {
            "sum": lambda v=values: float(sum(v)),
            "avg": lambda v=values: float(sum(v) / len(v)),
            "min": lambda v=values: float(min(v)),
            "max": lambda v=values: float(max(v)),
            "first": lambda v=values: float(v[0]),
            "last": lambda v=values: float(v[-1]),
        }
        for stat, compute in pick.items():
            result[f"{name}_{stat}"] = compute() if values else None
        result[f"{name}_std"] = _deviation(values)
    return result


def _deviation(values: list[Fraction]) -> float | None:
    if len(values) < 2:
        return None
    return 0.0 if len(set(values)) == 1 else float(statistics.stdev(values))
