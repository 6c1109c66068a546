"""`tesseract query`: the rows of a time range as a table, a file or a picture, or what it would take to read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesseract.cli.common import Format, Output, Stage, counted, note, open_store
from tesseract.cli.progress import State, progress
from tesseract.utils.text import cell

if TYPE_CHECKING:
    import pyarrow as pa

    from tesseract.store import Store

DEFAULT_SPAN = timedelta(hours=24)
ROWS, HOW, OUT = "Which rows", "How to read", "Output"
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]
Groups = Annotated[
    list[str] | None, typer.Argument(metavar="GROUP", help="One group or several, 'K*' and 'NY/*' too; all without.")
]
Start = Annotated[str | None, typer.Option(help="From here on.", show_default="24 hours before the end", rich_help_panel=ROWS)]
End = Annotated[
    str | None,
    typer.Option(help="Up to here, exclusive.", show_default="now + the dataset's max_future", rich_help_panel=ROWS),
]
Fields = Annotated[str | None, typer.Option(help="Only these, separated by commas.", show_default="all", rich_help_panel=ROWS)]
KnownAt = Annotated[str | None, typer.Option(help="What was known at this ref time; needs `revisions: all`.", rich_help_panel=ROWS)]
Everything = Annotated[
    bool, typer.Option("--all", help="All times, where neither --start nor --end is given.", rich_help_panel=ROWS)
]


def query(
    dataset: Dataset,
    groups: Groups = None,
    start: Start = None,
    end: End = None,
    everything: Everything = False,
    fields: Fields = None,
    where: Annotated[
        str | None, typer.Option(help='Only rows that pass: "temp > 20 and note is not null".', rich_help_panel=ROWS)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first rows alone.", min=1, rich_help_panel=ROWS)] = None,
    order: Annotated[
        str | None, typer.Option(help="asc, or desc: of each group the newest first.", show_default="asc", rich_help_panel=ROWS)
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="The archive alone, without the buffer, as it was then.", rich_help_panel=ROWS)
    ] = None,
    known_at: KnownAt = None,
    level: Annotated[
        str | None, typer.Option(help="raw, hourly, daily, yearly …: how coarse.", show_default="raw", rich_help_panel=HOW)
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="Aggregates of any length: 90s, 15min, 6h, 1d, 1w, 1mo, 1y.", rich_help_panel=HOW)
    ] = None,
    stats: Annotated[
        str | None, typer.Option(help="With --every: avg,min,max,… alone.", show_default="all", rich_help_panel=HOW)
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            help="With --every, gaps: none, null, previous, linear or a number.", show_default="none", rich_help_panel=HOW
        ),
    ] = None,
    tz: Annotated[str | None, typer.Option(help="Days by the clock of this zone: America/New_York.", rich_help_panel=HOW)] = None,
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds.", rich_help_panel=HOW)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read, about: rows, requests, bytes.", rich_help_panel=OUT)
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say on stderr what is read, estimated and counted.", rich_help_panel=OUT)
    ] = False,
    plot: Annotated[str | None, typer.Option(help="Draw it: a .png, .svg or .pdf.", metavar="FILE", rich_help_panel=OUT)] = None,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """The records of a time range, raw or aggregated, from every tier.

    Times are ISO 8601 with a zone, a bare UTC day, now, or relative: --start -3h.
    """
    from tesseract.cli import plot as drawing
    from tesseract.cli.output import choose

    _check(locals())
    wanted = None if plot and not form and not output else choose(form, output)
    if plot:
        drawing.check(plot)
    store = open_store(stage)
    if not everything:
        start, end = default_span(store, dataset, start, end)
    place = (dataset, list(groups) if groups else None, start, end)
    options = _given(fields=names(fields), where=where, as_of=as_of, tz=tz, timeout=timeout)
    if every:
        options |= _given(every=every, stats=names(stats), fill=_constant(fill))
    else:
        options |= _given(level=level, known_at=known_at, limit=limit, order=order)
    if dry_run:
        from tesseract.cli.explain import show

        options.pop("fill", None)  # reads nothing
        show(store.plan(*place, **options), wanted or "table", output)
        return
    if as_of:
        _say_how_whole(store, as_of, bool(every) or level not in (None, "raw"))
    if every:
        _finish(store.resample(*place, **options), wanted, output, plot)
    elif explain:
        _explained(store, place, options, wanted, output, plot)
    elif plot:
        _finish(store.query(*place, **options), wanted, output, plot)
    else:
        _stream(store.scan(*place, **options), dataset, str(wanted), output)


def names(text: str | None) -> list[str] | None:
    """`a,b` as a list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def default_span(store: Store, dataset: str, start: str | None, end: str | None) -> tuple[str, str]:
    """The default range: everything is expensive, the last 24 hours are what most people look for."""
    from tesseract.utils.time_utils import iso_micros, parse_time, utc_now

    now = utc_now()
    if end is None:
        last = now + timedelta(seconds=store.dataset(dataset).max_future_seconds)
        end = iso_micros(last)
        return start or iso_micros(now - DEFAULT_SPAN), end
    return start or iso_micros(parse_time(end, now, "end") - DEFAULT_SPAN), end


def _check(given: dict[str, Any]) -> None:
    """Raises typer's error for options that do not go together."""
    for name in ("stats", "fill"):
        if given[name] and not given["every"]:
            raise typer.BadParameter(f"--{name} goes with --every")
    for name in ("level", "known_at", "limit", "order", "explain"):
        if given["every"] and given[name]:
            raise typer.BadParameter(f"--{name.replace('_', '-')} does not go with --every")
    if given["dry_run"] and (given["explain"] or given["plot"]):
        raise typer.BadParameter(f"--{'explain' if given['explain'] else 'plot'} does not go with --dry-run")


def _given(**options: Any) -> Any:
    """The options that are given, for `**`."""
    return {name: value for name, value in options.items() if value is not None}


def _constant(fill: str | None) -> str | float | None:
    """What gaps are filled with: a word, or a number."""
    try:
        return fill if fill is None else float(fill)
    except ValueError:
        return fill


def _say_how_whole(store: Store, as_of: str, of_level: bool) -> None:
    """What a past state holds for sure, on stderr."""
    from tesseract.query.past import complete_through
    from tesseract.utils.time_utils import from_micros, to_micros

    moment = store.span(as_of, None)[0]
    through = complete_through(store.catalog.windows(), to_micros(moment), of_level) if moment else 0
    if through:
        note(f"of writes before {cell(from_micros(through))} all are in the state of then, of later ones some may be")
    else:
        note("how far the state of then was complete is not known")


def _explained(store: Store, place: Any, options: Any, wanted: str | None, output: str | None, plot: str | None) -> None:
    from tesseract.cli import explain

    plan = store.plan(*place, **options)
    explain.before(plan)
    result = store.read(*place, **options)
    _finish(result.table, wanted, output, plot)
    explain.after(plan, result.stats.as_dict())


def _finish(table: pa.Table, wanted: str | None, output: str | None, plot: str | None) -> None:
    from tesseract.cli.output import write_table
    from tesseract.cli.plot import draw

    if plot:
        draw(table, plot)
        note(f"{plot}: {counted(len(table), 'row')} drawn")
    if wanted:
        write_table(table, wanted, output)


def _stream(reader: pa.RecordBatchReader, dataset: str, form: str, output: str | None) -> None:
    """Rows are written as they are read. What is wrong with the question shows before the first of them is."""
    from tesseract.cli.output import first_rows, print_table, units_of, write_batches

    if form == "table" and output is None:
        with _watched(reader, dataset, form, output) as batches:
            found = first_rows(batches)
        print_table(reader.schema.names, units_of(reader.schema), *found)
        return
    with _watched(reader, dataset, form, output) as batches:
        first = next(batches, None)
        write_batches(reader.schema, batches if first is None else chain([first], batches), form, output)


@contextmanager
def _watched(reader: pa.RecordBatchReader, dataset: str, form: str, output: str | None) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of a reader, with the progress on stderr; not on a terminal where the rows themselves appear."""
    if output is None and form != "table" and sys.stdout.isatty():
        yield iter(reader)
        return
    rows, place = 0, ""

    def batches(told: Callable[[], None]) -> Iterator[pa.RecordBatch]:
        nonlocal rows, place
        for batch in reader:
            rows += batch.num_rows
            if batch.num_rows:
                group, time = (
                    batch.column(0)[-1],
                    batch.column("period_start" if "period_start" in batch.schema.names else "valid_time")[-1],
                )
                place = f", {group} {cell(time.as_py())}"
            told()
            yield batch

    with progress(lambda: State(dataset, f"{counted(rows, 'row')}{place}", 0, 0)) as told:
        yield batches(told)
