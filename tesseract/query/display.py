"""How results and datasets look to a person at a prompt or in a notebook: the first rows, with units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError
from tesseract.utils.text import aligned, cell, html_table, some, table_text

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10
WIDTH = 120  # characters of a line, about


class Datasets(Sequence[str]):
    """The names of a stage's datasets as a list, read once; calling it gives a plain list that is read anew.

    Shown at a prompt, it says what each of them holds.
    """

    def __init__(self, names: Callable[[], list[str]], dataset: Callable[[str], Dataset]) -> None:
        self._ask, self._dataset = names, dataset
        self._known: list[str] | None = None

    def __call__(self) -> list[str]:
        """The names, as they are now."""
        return self._ask()

    @property
    def _names(self) -> list[str]:
        if self._known is None:
            self._known = self._ask()
        return self._known

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self._names[place]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple | Datasets) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        lines = [self._line(name) for name in self]
        return aligned([("dataset", "group by", "levels", "fields"), *lines]) if lines else "no datasets"

    def _repr_html_(self) -> str:
        return html_table([(name, "") for name in ("dataset", "group by", "levels", "fields")], map(self._line, self))

    def _line(self, name: str) -> tuple[str, str, str, str]:
        try:
            dataset = self._dataset(name)
        except DamagedError:
            return name, "", "", "its configuration is damaged"
        fields = [_with_unit(dataset.label(key), field.unit) for key, field in dataset.fields.items()]
        levels = ", ".join(["raw", *(level.name for level in dataset.levels)])
        shown = some(fields, WIDTH // 2)
        return name, ", ".join(dataset.group_by), levels, f"{shown} ({len(fields)})" if shown.endswith("…") else shown


def text(table: pa.Table, rows: int = ROWS, width: int = WIDTH) -> str:
    """The first rows of a result, as many columns as fit into a line, and what is left out."""
    lines, numeric = _lines(table, rows)
    return f"{title(table)}\n{table_text(_head(table), lines, numeric, width)}{_more(table, rows)}"


def html(table: pa.Table, rows: int = ROWS) -> str:
    """The first rows of a result for a notebook, units below the names."""
    return html_table(_head(table), _lines(table, rows)[0], title(table)) + _more(table, rows).replace("\n", "<br>")


def title(table: pa.Table) -> str:
    """`weather, hourly: 24 rows, 9 columns`."""
    metadata = table.schema.metadata or {}
    what = ", ".join(metadata[name].decode() for name in (b"tesseract.dataset", b"tesseract.level") if name in metadata)
    size = f"{len(table):,} row{'' if len(table) == 1 else 's'}, {table.num_columns} column{'' if table.num_columns == 1 else 's'}"
    return f"{what}: {size}" if what else size


def _head(table: pa.Table) -> list[tuple[str, str]]:
    return [(field.name, (field.metadata or {}).get(b"unit", b"").decode()) for field in table.schema]


def _lines(table: pa.Table, rows: int) -> tuple[list[list[str]], list[int]]:
    import pyarrow.types as types

    values = [column.to_pylist() for column in table.slice(0, rows).columns]
    kinds = [field.type for field in table.schema]
    numeric = [
        at for at, kind in enumerate(kinds) if types.is_decimal(kind) or (types.is_primitive(kind) and not types.is_temporal(kind))
    ]
    return [[cell(value) for value in line] for line in zip(*values, strict=True)], numeric


def _more(table: pa.Table, rows: int) -> str:
    return f"\n… {len(table) - rows:,} more rows" if len(table) > rows else ""


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
