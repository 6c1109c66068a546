"""SQL over every dataset and level: DuckDB over tables that the query engine reads. Read-only, and shut off from files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import duckdb
import pyarrow as pa

from tesseract.config.bases import named_level
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
        return pa.table({"name": pa.array(sorted(_all(tables)), pa.string())})
    errors: list[Exception] = []
    with _database().cursor() as connection:
        try:
            for view in _named(connection, text, tables):
                connection.register(view.name, _relation(view, tables, errors))
            connection.execute("BEGIN TRANSACTION READ ONLY")  # also what hides behind `explain analyze` writes nothing
            return connection.sql(text).to_arrow_table()
        except duckdb.Error as error:
            if errors:
                raise errors[0] from None
            raise InputError(f"SQL: {_sentence(error)}") from error


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for the process, empty for ever: to start one takes longer than most statements. Cursors see nothing of each other."""
    connection = duckdb.connect(":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL lock_configuration = true")
    return connection


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
        words = {*re.findall(r"[\w-]+", text.lower()), *re.findall(r"\w+", text.lower())}
        return [view for word in sorted(words) if (view := _view(word, names, tables)) is not None]
    for name, view in found.items():
        if view is None:
            known = sorted(_all(tables))
            hint = f"{nearest(name, known)}; tables: {', '.join(known) or 'none'}"
            raise InputError(f"SQL: there is no table {name!r}", hint=hint)
    return [view for view in found.values() if view is not None]


def _view(name: str, datasets: list[str], tables: Tables) -> View | None:
    """The view of a name in lower case, also of a level that is not kept. A dataset comes before a level that has its name."""
    near = [dataset for dataset in datasets if name == dataset.lower() or name.startswith(f"{dataset.lower()}_")]
    for dataset in sorted(near, key=len, reverse=True):
        config = tables.dataset(dataset)
        if name == dataset.lower():
            return View(config.name, config, None)
        level = named_level(config, name[len(dataset) + 1 :])
        if level is not None:
            return View(f"{config.name}_{level.name}", config, level)
    return None


def _all(tables: Tables) -> Iterator[str]:
    """The names of the views of datasets and levels that are kept, without datasets whose configuration does not decode."""
    for name in tables.names():
        with suppress(DamagedError):
            yield from (name, *(f"{name}_{level.name}" for level in tables.dataset(name).levels))


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
