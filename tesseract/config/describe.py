"""A dataset as a person at a prompt or in a notebook sees it: what it is, and its fields with their units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tesseract.utils.text import aligned, html_table

if TYPE_CHECKING:
    from tesseract.config.dataset import Dataset

HEAD = ("field", "type", "unit", "description")


def text(dataset: Dataset) -> str:
    """A sentence, and a line for each field."""
    lines = _lines(dataset)
    return f"{title(dataset)}\n{aligned([HEAD, *lines])}" if lines else title(dataset)


def html(dataset: Dataset) -> str:
    """The same as HTML."""
    return html_table([(name, "") for name in HEAD], _lines(dataset), title(dataset))


def title(dataset: Dataset) -> str:
    """`weather: version 3, by origin; raw, hourly, daily; buffer → daily → monthly`."""
    levels, ladder = ", ".join(["raw", *(level.name for level in dataset.levels)]), " → ".join(["buffer", *dataset.ladder])
    return f"{dataset.name}: version {dataset.version}, by {', '.join(dataset.group_by)}; {levels}; {ladder}"


def _lines(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    return [(dataset.label(key), field.type, field.unit, field.description) for key, field in dataset.fields.items()]
