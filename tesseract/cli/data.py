"""The commands that read records, but for query: latest, revisions, sql."""

from __future__ import annotations

from typing import Annotated

import typer

from tesseract.cli.common import Format, Output, Stage, open_store
from tesseract.cli.query import Dataset, End, Everything, Fields, Groups, KnownAt, Start, default_span, names


def latest(dataset: Dataset, groups: Groups = None, form: Format = None, output: Output = None, stage: Stage = None) -> None:
    """The newest reading of a group, of several, or of every group."""
    from tesseract.cli.output import choose, write_rows

    form = choose(form, output)
    store = open_store(stage)
    rows = store.latest(dataset, list(groups) if groups else None)
    config = store.dataset(dataset)
    units = {config.label(key): field.unit for key, field in config.fields.items()}
    write_rows(rows, form, output, units=units)


def revisions(
    dataset: Dataset,
    groups: Groups = None,
    start: Start = None,
    end: End = None,
    everything: Everything = False,
    fields: Fields = None,
    known_at: KnownAt = None,
    form: Format = None,
    output: Output = None,
    stage: Stage = None,
) -> None:
    """Every revision of the records of a time range: what was said of a time, when, and whether it counts.

    The dataset must keep `revisions: all`. Deletions are there, too, as such.
    """
    from tesseract.cli.output import choose, write_table

    form = choose(form, output)
    store = open_store(stage)
    if not everything:
        start, end = default_span(store, dataset, start, end)
    place = (dataset, list(groups) if groups else None)
    write_table(store.revisions(*place, start, end, fields=names(fields), known_at=known_at), form, output)


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
