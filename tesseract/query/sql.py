"""SQL over every dataset and level: DuckDB over tables that the query engine reads. Read-only, and shut off from files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import duckdb
import pyarrow as pa

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError, InputError
from tesseract.query.catalog import nearest
from tesseract.query.question import Question
from tesseract.query.results import shape
from tesseract.query.sql_scan import Lazy, Tables, View

READS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
PIVOTS = {"pivot", "from", "select", "with"}  # what a statement begins with that DuckDB makes several of, and reads all the same


def run(text: str, tables: Tables) -> pa.Table:
    """The answer to one statement that reads, `show tables` among them. Of the tables that it names is read what it needs.

    Raises InputError with DuckDB's own first sentence, or with the tables that there are; what reading raises.
    """
    if text.strip(" \t\r\n;").lower().split() == ["show", "tables"]:
        return pa.table({"name": pa.array(sorted(view.name for view in _all(tables)), pa.string())})
    errors: list[Exception] = []
    connection = duckdb.connect(":memory:", config={"enable_external_access": "false"})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        for view in _named(connection, text, tables):
            connection.register(view.name, _relation(view, tables, errors))
        connection.execute("SET lock_configuration = true")
        return connection.sql(text).to_arrow_table()
    except duckdb.Error as error:
        if errors:
            raise errors[0] from None
        raise InputError(f"SQL: {_sentence(error)}") from error
    finally:
        connection.close()


def _named(connection: duckdb.DuckDBPyConnection, text: str, tables: Tables) -> list[View]:
    """The views that a statement names. Raises InputError for one that is not a query, or names something else."""
    statements = connection.extract_statements(text)
    kinds = [statement.type for statement in statements]
    pivot = kinds == [duckdb.StatementType.MULTI] and not PIVOTS.isdisjoint(text.lower().split()[:1])
    if len(kinds) != 1 or not (kinds[0] in READS or pivot):
        raise InputError("SQL: only one statement that reads is run", hint="select … from …")
    names = tables.names()
    try:
        found = {name.lower(): _view(name.lower(), names, tables) for name in sorted(connection.get_table_names(text))}
    except duckdb.Error:  # it cannot tell without the tables (of `using`, for one): those then that the text could mean
        words = {word.lower() for word in re.findall(r"[\w-]+", text)}
        return [view for word in sorted(words) if (view := _view(word, names, tables)) is not None]
    for name, view in found.items():
        if view is None:
            known = sorted(view.name for view in _all(tables))
            raise InputError(
                f"SQL: there is no table {name!r}", hint=f"{nearest(name, known)}; tables: {', '.join(known) or 'none'}"
            )
    return [view for view in found.values() if view is not None]


def _view(name: str, datasets: list[str], tables: Tables) -> View | None:
    """The view of a name in lower case. A dataset comes before a level that would have its name."""
    near = [dataset for dataset in datasets if name == dataset.lower() or name.startswith(f"{dataset.lower()}_")]
    for dataset in sorted(near, key=len, reverse=True):
        for view in _views(tables.dataset(dataset)):
            if view.name.lower() == name:
                return view
    return None


def _views(dataset: Dataset) -> Iterator[View]:
    yield View(dataset.name, dataset, None)
    for level in dataset.levels:
        yield View(f"{dataset.name}_{level.name}", dataset, level)


def _all(tables: Tables) -> Iterator[View]:
    """The views of all datasets but those whose configuration does not decode: one must not keep the others from being read."""
    for name in tables.names():
        with suppress(DamagedError):
            yield from _views(tables.dataset(name))


def _relation(view: View, tables: Tables, errors: list[Exception]) -> pa.Table | Lazy:
    """What DuckDB is given for a view. Which columns an open dataset has, only its rows tell: they are read whole."""
    if view.dataset.unknown_fields == "keep":
        return tables.scan(Question(view.dataset, None, level=view.level)).read_all()
    return Lazy(view, shape(view.dataset, view.level, [], None).schema, tables, errors)


def _sentence(error: duckdb.Error) -> str:
    """What DuckDB says in its first line, without the name of its error class."""
    line = str(error).strip().splitlines()[0]
    kind, _, message = line.partition(": ")
    return message if message and kind.endswith("Error") else line
