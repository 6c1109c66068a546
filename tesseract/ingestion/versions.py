"""Which version of a configuration a record was made for, where a change is under way. Pure: versions and time are given.

A verdict is one record under one version. A later version's rejection replaces an earlier one's, since it says what is wanted now;
whoever accepts a record has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from msgspec.structs import replace

from tesseract.config.dataset import Dataset
from tesseract.ingestion.bodies import Line
from tesseract.ingestion.records_path import Expanded, expand
from tesseract.ingestion.rejections import Rejection
from tesseract.ingestion.validators import Decoded
from tesseract.model import Record

Judge = Callable[[Dataset, Expanded], Decoded]
Lot = tuple[Dataset, list[tuple[int, Record]]]  # records of one version, with their places in the body


@dataclass
class Verdict:
    """One record of the line at `source` under one version: a record, or a rejection."""

    dataset: Dataset
    source: int
    line: Line
    faulty: bool  # the line holds no records at the version's records_path
    record: Record | None = None
    rejection: Rejection | None = None
    warnings: list[Rejection] = field(default_factory=list)


def verdicts(dataset: Dataset, expanded: Expanded, decoded: Decoded, sources: Sequence[int] | None = None) -> list[Verdict]:
    """What was decoded, record by record. `sources` are the places of the expanded lines, by default theirs among themselves."""
    places = expanded.sources if sources is None else [sources[source] for source in expanded.sources]
    found = [
        Verdict(dataset, place, line, index in expanded.faults)
        for index, (place, line) in enumerate(zip(places, expanded.lines, strict=True))
    ]
    for index, record in decoded.records:
        found[index].record = record
    for rejection in decoded.rejected:
        found[rejection.index].rejection = rejection
    for warning in decoded.warnings:
        found[warning.index].warnings.append(warning)
    return found


def again(before: list[Verdict], dataset: Dataset, lines: Sequence[Line], judge: Judge) -> list[Verdict]:
    """The verdicts, after another version has looked at what is rejected.

    Where it finds the records of an envelope at the same place, it looks at each; else at lines of which no record was accepted.
    """
    found = list(before)
    same = dataset.records_path
    alike = [i for i, old in enumerate(found) if old.rejection and not old.faulty and old.dataset.records_path == same]
    expanded = Expanded([found[i].line for i in alike], [found[i].source for i in alike], {})
    for i, new in zip(alike, verdicts(dataset, expanded, judge(dataset, expanded)), strict=True):
        if new.record or dataset.version > found[i].dataset.version:
            found[i] = new
    by_source = {source: list(group) for source, group in groupby(found, lambda verdict: verdict.source)}
    others = [
        source
        for source, group in by_source.items()
        if group[0].dataset.records_path != same and all(old.rejection for old in group)
    ]
    if not others:
        return found
    expanded = expand(dataset, [lines[source] for source in others])
    fresh = verdicts(dataset, expanded, judge(dataset, expanded), others)
    by_fresh = {source: list(group) for source, group in groupby(fresh, lambda verdict: verdict.source)}
    for source in others:
        news = by_fresh.get(source, [])
        if any(new.record for new in news) or dataset.version > by_source[source][0].dataset.version:
            by_source[source] = news
    return [verdict for group in by_source.values() for verdict in group]


def renumbered(found: list[Verdict]) -> tuple[list[Rejection], list[Rejection]]:
    """(rejections, warnings), by the records' places in the body as it was understood in the end."""
    rejected = [replace(verdict.rejection, index=index) for index, verdict in enumerate(found) if verdict.rejection]
    warnings = [replace(warning, index=index) for index, verdict in enumerate(found) for warning in verdict.warnings]
    return rejected, warnings


def lots(found: list[Verdict]) -> list[Lot]:
    """What to write, in this order: one lot a version, or, where a key is in two of them, as many as keep the order of the body."""
    accepted = [(index, verdict.dataset, verdict.record) for index, verdict in enumerate(found) if verdict.record]
    version_of: dict[object, int] = {}
    mixed = any(
        version_of.setdefault((record.group, record.valid_time), dataset.version) != dataset.version
        for _, dataset, record in accepted
    )
    if not mixed:
        accepted.sort(key=lambda entry: entry[1].version)
    runs = groupby(accepted, lambda entry: entry[1].version)
    return [(run[0][1], [(index, record) for index, _, record in run]) for run in (list(run) for _, run in runs)]
