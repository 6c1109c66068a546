"""`tesseract catalog`: what the catalog has of a dataset, or of one of its groups."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tesseract.cli.common import Format, Output, Stage, note, open_store, say, thousands


def catalog(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    group: Annotated[
        str | None, typer.Argument(metavar="GROUP", help="One group, NETWORK/STATION for a compound one.", show_default=False)
    ] = None,
    versions: Annotated[bool, typer.Option("--versions", help="Of a group: the versions that are kept, not the segments.")] = False,
    stage: Stage = None,
    form: Format = None,
    output: Output = None,
) -> None:
    """Show what the archive holds: the partitions of a dataset, or the segments of a group and the versions of its manifests.

    With --format json everything is one object. Of a partition that several groups share, rows and bytes are those of all of them.
    """
    from tesseract.cli.live import group_of
    from tesseract.cli.output import choose, write_rows
    from tesseract.processing import catalog_view

    form = choose(form, output)
    store = open_store(stage)
    config = store.dataset(dataset)
    if group is not None:
        found = catalog_view.group(store.catalog, config, group_of(store, dataset, group))
        if form == "json" and output is None:
            say(json.dumps({"dataset": dataset, "group": group, "levels": found}, indent=2))
            return
        rows = list(catalog_view.flat(found, "versions" if versions else "segments"))
        if form == "table":  # a key is as wide as a terminal
            rows = [{name: value for name, value in row.items() if name != "key"} for row in rows]
        write_rows(rows, form, output)
        segments = [row for level in found for row in level["segments"]]
        note(f"{thousands(len(segments))} segments, {thousands(sum(row['bytes'] for row in segments))} bytes")
        return
    rows = catalog_view.partitions(store.catalog, config)
    sums = catalog_view.levels(rows)
    if form == "json" and output is None:
        say(json.dumps({"dataset": dataset, "levels": sums, "partitions": rows}, indent=2))
        return
    if form == "table" and output is None:
        write_rows(sums, form, None)
        say("")
    write_rows(rows, form, output)
    note(f"{thousands(len(rows))} partitions, {thousands(sum(row['bytes'] for row in rows))} bytes")
