"""A result as a picture: a line for each group; of aggregates the mean, in a band from the least to the greatest value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tesseract.cli.output import check_file
from tesseract.config.dataset import STATS
from tesseract.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SUFFIXES = (".png", ".svg", ".pdf")
PANELS = 12  # one below the other; more are a wall
NAMED = 20  # groups in the legend
POINTS = 4_000  # of a line: more than there are pixels; beyond, the extremes of stretches are drawn
MARKED = 300  # points of a line that are few enough to be marked
GAP = 3  # steps between two rows, beyond which a line is broken


class Panel(NamedTuple):
    """What shares a y axis: a field, the columns that are lines and, of an aggregate, the two that are the band."""

    name: str
    unit: str
    lines: tuple[str, ...]
    band: tuple[str, str] | None


class Series(NamedTuple):
    """The rows of a group."""

    name: str
    rows: pa.Table


def check(path: str) -> None:
    """Raises InputError where no picture can be made of that name. A command asks this first."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"a plot is not written as {path!r}", hint="name a file that ends in .png, .svg or .pdf")
    check_file(Path(path))
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("--plot needs matplotlib", hint="pip install 'tesseract-store[plot]'") from error


def draw(table: pa.Table, path: str) -> None:
    """A result of `store.query` or `store.resample` as a file. Raises InputError where it has no numbers to draw."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    time, panels = panels_of(table)
    shown = series(table, table.column_names[: table.column_names.index(time)])
    figure = Figure(figsize=(11, 1 + 2.6 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_ylabel(f"{panel.name}\n[{panel.unit}]" if panel.unit else panel.name)
        axis.grid(alpha=0.3)
        for at, one in enumerate(shown):
            _line(axis, panel, one, time, f"C{at % 10}")
    _dates(axes[-1], table.schema.field(time).type.tz)
    axes[0].set_title(_title(table), loc="left")
    for at, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        if len(panel.lines) > 1 or (len(shown) > 1 and not at):
            axis.legend(*(part[:NAMED] for part in axis.get_legend_handles_labels()), loc="upper right", fontsize="small")
    try:
        with rc_context({"svg.fonttype": "none"}):  # text stays text
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def panels_of(table: pa.Table) -> tuple[str, list[Panel]]:
    """The column of time, and what is drawn against it. Raises InputError where that is nothing, or too much."""
    names = table.column_names
    time = next((name for name in ("valid_time", "period_start") if name in names), None)
    if time is None:
        raise InputError("there is no column of time to draw against")
    values = [name for name in names[names.index(time) + 1 :] if name not in ("ref_time", "filled") and _drawable(table, name)]
    fields = _fields(values, time == "period_start")
    found = [_panel(table, name, columns) for name, columns in fields.items()]
    if not found:
        raise InputError("there is nothing to draw: no column has numbers")
    if len(found) > PANELS:
        raise InputError(f"{len(found)} fields are too many for one picture", hint=f"name at most {PANELS} of them: --fields a,b")
    return time, found


def series(table: pa.Table, keys: Sequence[str]) -> list[Series]:
    """The rows of each group: a result is sorted by it."""
    if not keys or not len(table):
        return [Series("", table)]
    import pyarrow.compute as pc

    change = None
    for key in keys:
        column = table[key].combine_chunks()
        differs = pc.not_equal(column[1:], column[:-1])
        change = differs if change is None else pc.or_(change, differs)
    starts = [0, *(index + 1 for index in pc.indices_nonzero(change).to_pylist())]
    parts = [table.slice(start, end - start) for start, end in zip(starts, [*starts[1:], len(table)], strict=True)]
    return [Series("/".join(str(part[key][0]) for key in keys), part) for part in parts]


def _drawable(table: pa.Table, name: str) -> bool:
    import pyarrow.types as types

    kind = table.schema.field(name).type
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def _fields(values: Sequence[str], aggregated: bool) -> dict[str, list[str]]:
    """Field → its columns. The number of rows is drawn where there is nothing else."""
    if not aggregated:
        return {name: [name] for name in values}
    fields: dict[str, list[str]] = {}
    for name in values:
        field, _, stat = name.rpartition("_")
        fields.setdefault(field if stat in STATS else name, []).append(name)
    if len(fields) > 1:
        fields.pop("rows", None)
    return fields


def _panel(table: pa.Table, name: str, columns: Sequence[str]) -> Panel:
    have = {column.rpartition("_")[2]: column for column in columns}
    band = (have["min"], have["max"]) if have.keys() >= {"min", "max"} else None
    rest = tuple(column for stat, column in have.items() if stat not in ("count", "std")) or tuple(columns)
    lines = (have["avg"],) if "avg" in have else () if band else rest
    units = [(table.schema.field(column).metadata or {}).get(b"unit", b"").decode() for column in columns]
    return Panel(name, next(filter(None, units), ""), lines, band)


def _line(axis: Any, panel: Panel, one: Series, time: str, color: str) -> None:
    times = _times(one.rows[time])
    if panel.band:
        (at, low), (_, high) = (_broken(times, _numbers(one.rows[name])) for name in panel.band)
        axis.fill_between(at, low, high, color=color, alpha=0.25, linewidth=0, label=None if panel.lines else one.name)
    for number, name in enumerate(panel.lines):
        at, values = thinned(*_broken(times, _numbers(one.rows[name])))
        stat = name.rpartition("_")[2] if len(panel.lines) > 1 else ""
        label = " ".join(part for part in (one.name, stat) if part)
        style = {"marker": ".", "markersize": 4} if len(at) <= MARKED else {}
        axis.plot(at, values, color=color, linewidth=1, linestyle=("-", "--", ":", "-.")[number % 4], label=label, **style)


def _times(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Times as numpy has them: without a zone, by the clock of the column's."""
    import pyarrow.compute as pc

    local = pc.local_timestamp(column)
    times: np.ndarray[Any, Any] = local.to_numpy()
    return times


def _numbers(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Values as doubles, a null as NaN."""
    values: np.ndarray[Any, Any] = column.cast("int8" if str(column.type) == "bool" else column.type).cast("float64").to_numpy()
    return values


def _broken(times: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The same with a NaN in each gap, where no line is to be drawn."""
    import numpy as np

    steps = np.diff(times)
    if not len(steps):
        return times, values
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    return np.insert(times, gaps, times[gaps - 1] + steps[gaps - 1] // 2), np.insert(values, gaps, np.nan)


def thinned(
    times: np.ndarray[Any, Any], values: np.ndarray[Any, Any], points: int = POINTS
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """About `points` points that look the same: the least and the greatest of each stretch, where they are, and its gaps."""
    import numpy as np

    if len(values) <= points:
        return times, values
    starts = np.linspace(0, len(values), points // 4, endpoint=False).astype(int)
    kept = np.fromiter(_places(values, starts), int)
    return times[kept], values[kept]


def _places(values: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> Iterator[int]:
    import numpy as np

    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        part = values[start:end]
        empty = np.isnan(part)
        found = {0, len(part) - 1}
        if not empty.all():
            found |= {int(np.nanargmin(part)), int(np.nanargmax(part))}
        if empty.any():
            found.add(int(empty.argmax()))
        yield from (int(start) + place for place in sorted(found))


def _dates(axis: Any, zone: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlabel(zone)


def _title(table: pa.Table) -> str:
    metadata = table.schema.metadata or {}
    return ", ".join(metadata[name].decode() for name in (b"tesseract.dataset", b"tesseract.level") if name in metadata)
