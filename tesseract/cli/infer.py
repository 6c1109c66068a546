"""`tesseract config infer`: a first configuration from sample records."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

SAMPLE = 100_000  # records: enough to see ranges and sentinels, few enough for memory


def infer(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Sample records: ndjson, json, csv or parquet; - is stdin.")],
    group_by: Annotated[str | None, typer.Option(help="The field or fields that a series belongs to: a or a,b.")] = None,
    time_field: Annotated[str | None, typer.Option(help="The field with the valid time.")] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name.", show_default="the file's")] = None,
) -> None:
    """A first configuration from sample records, as YAML with comments on what was seen. Read it, then validate and apply it."""
    from tesseract.config.dataset import Dataset
    from tesseract.ingestion.files import read_lines
    from tesseract.ingestion.infer import infer as infer_configuration

    anything = Dataset("", 0, (), "", "", "keep", 1, (), ())
    lines = islice((line for line in read_lines(file, anything) if isinstance(line, bytes)), SAMPLE)
    groups = [part.strip() for part in (group_by or "").split(",") if part.strip()]
    typer.echo(infer_configuration(lines, name or _name_of(file), groups, time_field), nl=False)


def _name_of(file: str) -> str:
    """The file's name as a dataset may be called."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(file).name.partition(".")[0]).strip("_-")
    return plain[:64] if plain[:1].isalpha() else f"d_{plain}"[:64] if plain else "dataset"
