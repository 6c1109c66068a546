"""A chunk of an export file's lines as one Arrow table per group: vectorised, or line by line where it has what others wrote.

`plain` is the definition; `decode` is equal to it, type for type, and many times as fast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from threading import Lock
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tesseract.config.dataset import Dataset
from tesseract.errors import DamagedError
from tesseract.processing.export_alike import read_alike
from tesseract.processing.export_lines import Chunk, chunks, fields_of, line_of, partition_of, rows_of
from tesseract.processing.export_read import Columns, OtherLines, read
from tesseract.storage.arrow_types import arrow_type
from tesseract.storage.columns import CONFIG_VERSION, DELETED, WRITE_TIME, RawRow, raw_table
from tesseract.storage.keys import HISTORY, split_group
from tesseract.storage.wire_columns import Values, exact, quick, times

CHUNK = 8 << 20  # bytes of text
DECODERS = 2
MAX_CELLS = 8_000_000  # of a chunk's lines × fields, hundreds of MB as columns; what has more goes line by line
_HISTORY_KEY = f"{HISTORY}____-__-__T__:__:__.______Z#%"  # as `history_key` writes it
_TIME_CHARS = 27  # of what `iso_micros` writes


class Name(NamedTuple):
    """Whose rows they are. `history`: revisions kept, not the current rows of their keys."""

    dataset: str
    group: str
    history: bool


class Decoded(NamedTuple):
    """The rows of a chunk, a table a group, and how many lines it had."""

    lines: int
    tables: dict[Name, pa.Table]


@dataclass
class Known:
    """What an export file has shown so far: configurations, and fields that came undeclared or otherwise than declared (`extra`).

    `alike`: no chunk had lines that differ in more than their values. Threads share it.
    """

    load: Callable[[str], Dataset]
    datasets: dict[str, Dataset] = field(default_factory=dict)
    extra: set[str] = field(default_factory=set)
    alike: bool = True
    _lock: Lock = field(default_factory=Lock)

    def dataset(self, name: str) -> Dataset:
        """A configuration, loaded once."""
        with self._lock:
            if name not in self.datasets:
                self.datasets[name] = self.load(name)
            return self.datasets[name]

    def kinds(self) -> dict[str, str]:
        """All fields to look for, and the kind of their values: the declared one as long as no other has come, else ""."""
        with self._lock:
            found = dict.fromkeys(self.extra, "")
            for dataset in self.datasets.values():
                for name, declared in dataset.fields.items():
                    kind = "N" if declared.numeric else "BOOL" if declared.type == "bool" else "S"
                    found[name] = kind if found.get(name, kind) == kind else ""
            return dict(sorted(found.items()))

    def learn(self, names: Iterable[str]) -> None:
        """Look for these fields, too, with values of any kind."""
        with self._lock:
            self.extra |= set(names)


def decode_file(
    stream: BinaryIO, key: str, md5: str, items: int, known: Known, write_time: datetime | None
) -> Iterator[dict[Name, tuple[Dataset, pa.Table]]]:
    """The rows of a data file, chunk by chunk, with the configuration of each group. `write_time` is that of a full export.

    Raises DamagedError where a line does not decode, and at the end where the object's MD5 (base64) or the number of its lines
    is not what the manifest says: commit nothing before the iterator is exhausted.
    """
    lines = 0
    for decoded in _ahead(chunks(stream, key, md5, CHUNK), lambda chunk: decode(chunk, known, write_time)):
        lines += decoded.lines
        yield {name: (known.dataset(name.dataset), table) for name, table in decoded.tables.items()}
        del decoded  # else it is held while the next one is waited for
    if lines != items:
        raise DamagedError(f"the file has {lines} lines, its manifest says {items}", key=key)


def _ahead(chunks: Iterator[Chunk], work: Callable[[Chunk], Decoded]) -> Iterator[Decoded]:
    """What `work` makes of each chunk, in order, several at once; of a single one without any thread."""
    first, second = next(chunks, None), next(chunks, None)
    if first is None or second is None:
        yield from map(work, [first] if first else [])
        return
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting = deque([pool.submit(work, first), pool.submit(work, second)])
        del first, second
        for chunk in chunks:
            if len(waiting) > DECODERS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, chunk))
        while waiting:
            yield waiting.popleft().result()


def decode(chunk: Chunk, known: Known, write_time: datetime | None) -> Decoded:
    """The rows of a chunk; `write_time` is that of a full export. Raises DamagedError where a line does not decode."""
    try:
        columns = _columns(chunk, known, write_time)
    except (OtherLines, pa.ArrowException, ValueError):
        return plain(chunk, known, write_time)
    tables = None if columns is None else _tables(columns, known)
    return plain(chunk, known, write_time) if tables is None else Decoded(chunk.lines, tables)


def plain(chunk: Chunk, known: Known, write_time: datetime | None) -> Decoded:
    """`decode` line by line."""
    groups: dict[Name, list[RawRow]] = {}
    lines = 0
    for found in rows_of(chunk, write_time):
        lines += 1
        if found is not None:
            groups.setdefault(Name(found.dataset, found.group, found.history), []).append(found.row)
    return Decoded(lines, {name: raw_table(known.dataset(name.dataset), name.group, rows) for name, rows in groups.items()})


def _columns(chunk: Chunk, known: Known, write_time: datetime | None) -> Columns | None:
    """The chunk with all its fields; None where it has more than columns are good for. Raises what `read` raises."""
    if not known.datasets:  # the first row tells a dataset: most files have no other
        first = line_of(chunk.body[: chunk.body.find(b"\n")], write_time)
        if first is not None:
            known.dataset(first.dataset)
    if known.alike:
        try:
            return _known(read_alike(chunk, write_time), known)
        except (OtherLines, pa.ArrowException, ValueError):
            known.alike = False
    while len(kinds := known.kinds()) * chunk.lines <= MAX_CELLS:
        try:
            columns = read(chunk, kinds, write_time)
        except OtherLines as other:
            found = fields_of(chunk) - set(kinds) if other.left_out else {name for name in other.odd if kinds[name]}
            if not found:
                raise
            known.learn(found)
        else:
            return _known(columns, known)
    return None


def _known(columns: Columns, known: Known) -> Columns:
    """The same, with all its datasets known."""
    for pk in columns.pks:
        known.dataset(partition_of(pk)[0])
    return columns


def _tables(columns: Columns, known: Known) -> dict[Name, pa.Table] | None:
    """A table a group; None where a key is not as we write them."""
    history = pc.starts_with(columns.sk, HISTORY)
    valid_time = _valid_times(columns.sk, history)
    if valid_time is None:
        return None
    keys = [partition_of(pk) for pk in columns.pks]
    groups = sorted(set(keys))
    places = {key: place for place, key in enumerate(groups)}
    place = pa.array([2 * places[key] for key in keys], pa.int32()).take(columns.pk)
    codes = pc.add(place, history.cast(pa.int32()))
    system = {
        "valid_time": valid_time,
        "ref_time": columns.ref_time,
        WRITE_TIME: columns.write_time,
        DELETED: columns.deleted,
        CONFIG_VERSION: columns.version,
    }
    values = {name: found for name, found in columns.values.items() if found.present}
    if len(codes.unique()) > 1:
        order = pc.array_sort_indices(codes)  # stable
        codes = codes.take(order)
        system = {name: part.take(order) for name, part in system.items()}
        values = {name: found.take(order) for name, found in values.items()}
    runs = [(Name(*groups[code // 2], bool(code % 2)), start, length) for code, start, length in _runs(codes)]
    tables: dict[Name, pa.Table] = {}
    for dataset, own in groupby(runs, lambda run: run[0].dataset):
        tables.update(_of_dataset(known.dataset(dataset), list(own), system, values))
    return tables


def _of_dataset(
    dataset: Dataset, runs: list[tuple[Name, int, int]], system: dict[str, pa.Array], values: dict[str, Values]
) -> Iterator[tuple[Name, pa.Table]]:
    """The tables of a dataset's groups, whose rows lie one behind the other. What all is as declared is cast at once."""
    start = runs[0][1]
    length = sum(run[2] for run in runs)
    own = {name: found.slice(start, length) for name, found in values.items()}
    system = {name: part.slice(start, length) for name, part in system.items()}
    clean: dict[str, pa.Array] = {}
    for name, declared in dataset.fields.items():
        found = quick(own[name], declared) if name in own else pa.nulls(length, arrow_type(declared))
        if found is not None:
            clean[name] = found
    odd = {name: found for name, found in own.items() if name not in clean and found.present}
    for own_name, begin, count in runs:
        yield own_name, _table(dataset, own_name.group, system, clean, odd, begin - start, count)


def _table(
    dataset: Dataset,
    group: str,
    system: dict[str, pa.Array],
    clean: dict[str, pa.Array],
    odd: dict[str, Values],
    start: int,
    length: int,
) -> pa.Table:
    """`raw_table` of the rows [start, start + length)."""
    texts = zip(dataset.group_by, split_group(group), strict=True)
    columns = {name: pa.repeat(pa.scalar(text, pa.string()), length) for name, text in texts}
    for name in ("valid_time", "ref_time"):
        columns[name] = system[name].slice(start, length)
    own = {name: found.slice(start, length) for name, found in odd.items()}
    undeclared = sorted(name for name, found in own.items() if name not in dataset.fields and found.present)
    for name in (*dataset.fields, *undeclared):
        columns[name] = clean[name].slice(start, length) if name in clean else exact(own[name], dataset.fields.get(name))
    for name in (WRITE_TIME, DELETED, CONFIG_VERSION):
        columns[name] = system[name].slice(start, length)
    return pa.table(columns)


def _runs(codes: pa.Array) -> Iterator[tuple[int, int, int]]:
    """(code, first row, rows) of each run of equal codes."""
    runs = pc.run_end_encode(codes)
    start = 0
    for code, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield code, start, end - start
        start = end


def _valid_times(sks: pa.Array, history: pa.Array) -> pa.Array | None:
    """The valid times in sort keys; None where one is not as we write it."""
    if pc.any(history).as_py():
        if not pc.all(pc.equal(history, pc.match_like(sks, _HISTORY_KEY))).as_py():
            return None
        kept = pc.utf8_slice_codeunits(sks, len(HISTORY), len(HISTORY) + _TIME_CHARS)
        sks = pc.if_else(history, kept, sks)
    return times(sks)
