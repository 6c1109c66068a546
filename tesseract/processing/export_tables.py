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
from tesseract.processing.export_read import read
from tesseract.storage.columns import RawRow, raw_table
from tesseract.storage.keys import HISTORY
from tesseract.storage.wire_rows import OtherLines, Run, WireRows, tables

CHUNK = 8 << 20  # bytes of text
DECODERS = 2
MAX_CELLS = 8_000_000  # of a chunk's lines × fields, hundreds of MB as columns; what has more goes line by line


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
        rows = _read(chunk, known, write_time)
    except (OtherLines, pa.ArrowException, ValueError):
        return plain(chunk, known, write_time)
    found = None if rows is None else _tables(rows, known)
    return plain(chunk, known, write_time) if found is None else Decoded(chunk.lines, found)


def plain(chunk: Chunk, known: Known, write_time: datetime | None) -> Decoded:
    """`decode` line by line."""
    groups: dict[Name, list[RawRow]] = {}
    lines = 0
    for found in rows_of(chunk, write_time):
        lines += 1
        if found is not None:
            groups.setdefault(Name(found.dataset, found.group, found.history), []).append(found.row)
    return Decoded(lines, {name: raw_table(known.dataset(name.dataset), name.group, rows) for name, rows in groups.items()})


def _read(chunk: Chunk, known: Known, write_time: datetime | None) -> WireRows | None:
    """The chunk with all its fields; None where it has more than columns are good for. Raises what `read` raises."""
    if not known.datasets:  # the first row tells a dataset: most files have no other
        first = line_of(chunk.body[: chunk.body.find(b"\n")], write_time)
        if first is not None:
            known.dataset(first.dataset)
    if known.alike:
        try:
            return read_alike(chunk, write_time)
        except (OtherLines, pa.ArrowException, ValueError):
            known.alike = False
    while len(kinds := known.kinds()) * chunk.lines <= MAX_CELLS:
        try:
            return read(chunk, kinds, write_time)
        except OtherLines as other:
            found = fields_of(chunk) - set(kinds) if other.left_out else {name for name in other.odd if kinds[name]}
            if not found:
                raise
            known.learn(found)
    return None


def _tables(rows: WireRows, known: Known) -> dict[Name, pa.Table] | None:
    """A table a group; None where a key is not as we write them."""
    pks = rows.pk.dictionary_encode()
    history = pc.starts_with(rows.sk, HISTORY)
    keys = [partition_of(pk) for pk in pks.dictionary.to_pylist()]
    groups = sorted(set(keys))
    places = {key: place for place, key in enumerate(groups)}
    place = pa.array([2 * places[key] for key in keys], pa.int32()).take(pks.indices)
    codes = pc.add(place, history.cast(pa.int32()))
    if len(codes.unique()) > 1:
        order = pc.array_sort_indices(codes)  # stable
        codes, rows = codes.take(order), rows.take(order)
    runs = [(Name(*groups[code // 2], bool(code % 2)), start, length) for code, start, length in _runs(codes)]
    found: dict[Name, pa.Table] = {}
    for dataset, own in groupby(runs, lambda run: run[0].dataset):
        names, parts = [], []
        for name, start, length in own:
            names.append(name)
            parts.append(Run(name.group, start, length))
        made = tables(known.dataset(dataset), parts, rows)
        if made is None:
            return None
        found.update(zip(names, made, strict=True))
    return found


def _runs(codes: pa.Array) -> Iterator[tuple[int, int, int]]:
    """(code, first row, rows) of each run of equal codes."""
    runs = pc.run_end_encode(codes)
    start = 0
    for code, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield code, start, end - start
        start = end
