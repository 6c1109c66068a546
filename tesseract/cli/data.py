"""The commands that read and write records: query, latest, sql."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tesseract.cli.common import Format, Output, Stage, note, open_store, thousands

if TYPE_CHECKING:
    from tesseract.query.results import Result
    from tesseract.store import Store

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]
OneGroup = Annotated[
    str | None, typer.Argument(metavar="GROUP", help="Its group, NETWORK/STATION for a compound one; all without.")
]
DEFAULT_SPAN = timedelta(hours=24)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the top level."""
    app.command()(latest)
    app.command()(query)
    app.command()(sql)


def latest(dataset: Dataset, group: OneGroup = None, form: Format = None, output: Output = None, stage: Stage = None) -> None:
    """The newest reading of a group, or of every group."""
    from tesseract.cli.output import choose, write_rows

    form = choose(form, output)
    write_rows(open_store(stage).latest(dataset, group), form, output)


def query(
    dataset: Dataset,
    groups: Annotated[list[str] | None, typer.Argument(metavar="GROUP", help="One group or several; all without.")] = None,
    start: Annotated[str | None, typer.Option(help="From here on.", show_default="24 hours before the end")] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, exclusive.", show_default="now + the dataset's max_future")] = None,
    level: Annotated[str, typer.Option(help="raw, or a level that the dataset keeps.")] = "raw",
    fields: Annotated[str | None, typer.Option(help="Only these, separated by commas.", show_default="all")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="The archive alone, without the buffer, as it was then.", show_default="everything, now")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All times, where neither --start nor --end is given.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say on stderr which tiers were read, and rows by source.")] = False,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """The records of a time range, raw or aggregated, from every tier.

    Times are ISO 8601 with a zone, a bare UTC day, now, or relative: --start -3h.
    """
    from tesseract.cli.output import choose, write_table

    form = choose(form, output)
    store = open_store(stage)
    if not everything:
        start, end = _span(store, dataset, start, end)
    names = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    result = store.read(dataset, list(groups) if groups else None, start, end, level=level, fields=names, as_of=as_of)
    write_table(result.table, form, output)
    if explain:
        _explain(result)


def sql(
    text: Annotated[str, typer.Argument(metavar="SELECT", help='Such as "select origin, avg(temp) from weather group by 1".')],
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """Ask in SQL (DuckDB): each dataset is a table by its name, each level is DATASET_LEVEL. Read-only."""
    from tesseract.cli.output import choose, write_table

    form = choose(form, output)
    write_table(open_store(stage).sql(text), form, output)


def _span(store: Store, dataset: str, start: str | None, end: str | None) -> tuple[str, str]:
    """The default range: everything is expensive, the last 24 hours are what most people look for."""
    from tesseract.utils.time_utils import iso_micros, parse_time, utc_now

    now = utc_now()
    if end is None:
        last = now + timedelta(seconds=store.dataset(dataset).max_future_seconds)
        end = iso_micros(last)
        return start or iso_micros(now - DEFAULT_SPAN), end
    return start or iso_micros(parse_time(end, now, "end") - DEFAULT_SPAN), end


def _explain(result: Result) -> None:
    for plan in result.plans:
        note(str(plan))
    for name, count in result.stats.as_dict().items():
        note(f"{name.replace('_', ' '):15} {thousands(count):>12}")
