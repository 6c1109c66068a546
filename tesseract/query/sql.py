"""SQL over every dataset and level: DuckDB over Arrow tables that the query engine reads. Read-only, and shut off from files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import duckdb
import pyarrow as pa

from tesseract.config.dataset import Dataset, Level
from tesseract.errors import InputError
from tesseract.query.catalog import nearest


class View(NamedTuple):
    """A table that SQL may name: a dataset's raw rows (`level` None), or one of its levels."""

    name: str
    dataset: Dataset
    level: Level | None


def views(datasets: Iterable[Dataset]) -> dict[str, View]:
    """Lower-case name → view: `weather`, `weather_hourly`. A dataset comes before a level that would have its name."""
    datasets = list(datasets)
    found = [View(f"{d.name}_{level.name}", d, level) for d in datasets for level in d.levels]
    found += [View(dataset.name, dataset, None) for dataset in datasets]
    return {view.name.lower(): view for view in found}


def run(text: str, known: dict[str, View], load: Callable[[View], pa.Table]) -> pa.Table:
    """The answer to one statement that reads. `load` is called for each view that it names, for no other.

    Raises InputError with DuckDB's own first sentence, or with the tables that there are.
    """
    connection = duckdb.connect(":memory:", config={"enable_external_access": "false"})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        for name in _tables(connection, text, known):
            connection.register(known[name].name, load(known[name]))
        connection.execute("SET lock_configuration = true")
        return connection.sql(text).to_arrow_table()
    except duckdb.Error as error:
        raise InputError(f"SQL: {_sentence(error)}") from error
    finally:
        connection.close()


def _tables(connection: duckdb.DuckDBPyConnection, text: str, known: dict[str, View]) -> list[str]:
    """The views that a statement names. Raises InputError for one that is not a query, or names something else."""
    statements = connection.extract_statements(text)
    if len(statements) != 1 or statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise InputError("SQL: only one statement that reads is run", hint="select … from …")
    names = sorted({name.lower() for name in connection.get_table_names(text)})
    for name in names:
        if name not in known:
            tables = sorted(view.name for view in known.values())
            hint = f"{nearest(name, tables)}; tables: {', '.join(tables) or 'none'}"
            raise InputError(f"SQL: there is no table {name!r}", hint=hint)
    return names


def _sentence(error: duckdb.Error) -> str:
    """What DuckDB says in its first line, without the name of its error class."""
    line = str(error).strip().splitlines()[0]
    kind, _, message = line.partition(": ")
    return message if message and kind.endswith("Error") else line
