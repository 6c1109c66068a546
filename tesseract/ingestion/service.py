"""Records of one dataset: validated under the version of the configuration that they were made for, and written.

A change of a configuration reaches producers and caches at different times. So a record that the cached version refuses is tried
under the newest one, and one received within a minute of a change also under the version before it: nobody's record is refused
because of the change. It is written with the version that accepted it. What a process is about to write first of a dataset it
decides again where the configuration, read after the dataset was marked as used, is another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from tesseract.config.cache import CACHE, Configs
from tesseract.config.dataset import Dataset
from tesseract.errors import BackendError, DamagedError, NotFoundError, RetryError, TesseractError, Throttled
from tesseract.ingestion import versions
from tesseract.ingestion.bodies import Line
from tesseract.ingestion.records_path import Expanded, alone, expand
from tesseract.ingestion.rejections import Rejection
from tesseract.ingestion.validators import Decoded, Validator
from tesseract.ingestion.writer import Writer
from tesseract.utils.time_utils import to_micros

STAGE_TROUBLE = (RetryError, NotFoundError, BackendError, DamagedError)  # of the stage, not of what was sent
LIST_HINT = "an envelope is an object with its records in a list there, and what they share beside it"


@dataclass
class Outcome:
    """What became of the records of a body, by their places in it. What is neither rejected nor unwritten is in the table.

    `trouble` is why records are unwritten, where it is not the table's throttling up to the deadline.
    """

    dataset: Dataset  # the newest version that looked at them
    expanded: Expanded
    rejected: list[Rejection]
    warnings: list[Rejection]
    unwritten: list[int] = field(default_factory=list)
    late: bool = False  # whether the time was up before anything was sent to the table
    trouble: TesseractError | None = None
    writes: Counter[str] = field(default_factory=Counter)  # what the writer counted meanwhile

    @property
    def accepted(self) -> int:
        """How many records are in the table."""
        return len(self.expanded.lines) - len(self.rejected) - len(self.unwritten)

    @property
    def throttled(self) -> bool:
        """Whether throttling is why records are unwritten."""
        return isinstance(self.trouble, Throttled) or (self.trouble is None and not self.late)

    def sent(self, index: int) -> bytes:
        """A record as it can be sent again, alone."""
        line = self.expanded.lines[index]
        return bytes(line) if index in self.expanded.faults else alone(self.dataset, line)


class Ingestion:
    """Validates and writes. Share one per process: it keeps the validators, and the writer its marks."""

    def __init__(self, configs: Configs, writer: Writer, clock: Callable[[], datetime]) -> None:
        self._configs, self._writer, self._clock = configs, writer, clock
        self._validators: dict[tuple[str, int], Validator] = {}

    def run(self, name: str, lines: Sequence[Line], deadline: datetime, received: datetime | None = None) -> Outcome:
        """Validate and write lines, each one record or an envelope of several, received at `received`, by default now.

        Raises UnknownDataset and TooLarge, and what the catalog raises, before anything is written. What keeps valid records from
        the table is in the outcome.
        """
        now = self._clock()
        cached = self._configs.get(name)
        outcome, lots = self._decide(cached, lines, received or now, now)
        if any(records for _, records in lots):
            used = self._configs.use(name)
            if used.version > outcome.dataset.version:
                outcome, lots = self._decide(used, lines, received or now, now)
        self._write(outcome, lots, deadline)
        return outcome

    def _decide(
        self, cached: Dataset, lines: Sequence[Line], received: datetime, now: datetime
    ) -> tuple[Outcome, list[versions.Lot]]:
        """What is wrong with lines, and what to write of them, version by version. Raises TooLarge."""
        expanded = expand(cached, lines)
        decoded = self._judge(cached, expanded, now)
        outcome = Outcome(cached, expanded, decoded.rejected, decoded.warnings)
        lots: list[versions.Lot] = [(cached, decoded.records)]
        others = self._others(cached, received) if decoded.rejected else []
        if others:
            found = versions.verdicts(cached, expanded, decoded)
            for dataset in others:
                found = versions.again(found, dataset, lines, lambda dataset, expanded: self._judge(dataset, expanded, now))
            faults = {index: "" for index, verdict in enumerate(found) if verdict.faulty}
            expanded = Expanded([verdict.line for verdict in found], [verdict.source for verdict in found], faults)
            newest = max([cached, *others], key=lambda dataset: dataset.version)
            outcome, lots = Outcome(newest, expanded, *versions.renumbered(found)), versions.lots(found)
        return outcome, lots

    def _others(self, cached: Dataset, received: datetime) -> list[Dataset]:
        """The versions that rejected records may have been made for: the newest, then those that were in force a minute before."""
        version: Dataset | None = self._configs.refresh(cached.name)
        found = []
        while version is not None:
            if version.version != cached.version:
                found.append(version)
            just_changed = to_micros(received - CACHE) < version.applied_at
            version = self._configs.before(version) if just_changed else None
        return found

    def _judge(self, dataset: Dataset, expanded: Expanded, now: datetime) -> Decoded:
        """What a version says of expanded lines, each by its place among them."""
        key = (dataset.name, dataset.version)
        if key not in self._validators:
            self._validators[key] = Validator(dataset)
        decode, faults = self._validators[key].decode, expanded.faults
        if not faults:
            return decode(expanded.lines, now)
        places = [place for place in range(len(expanded.lines)) if place not in faults]
        decoded = decode([expanded.lines[place] for place in places], now)
        rejected = [replace(entry, index=places[entry.index]) for entry in decoded.rejected]
        rejected += [Rejection(place, dataset.records_path, "", fault, LIST_HINT) for place, fault in faults.items()]
        return Decoded(
            [(places[index], record) for index, record in decoded.records],
            sorted(rejected, key=lambda entry: entry.index),
            [replace(entry, index=places[entry.index]) for entry in decoded.warnings],
        )

    def _write(self, outcome: Outcome, lots: list[versions.Lot], deadline: datetime) -> None:
        """Write lot by lot. After one that is not written whole none is begun: a key's later record must not come first."""
        before = self._writer.counts
        outcome.late = self._clock() >= deadline
        outcome.unwritten = self._unwritten(outcome, lots, deadline)
        outcome.writes = self._writer.counts - before

    def _unwritten(self, outcome: Outcome, lots: list[versions.Lot], deadline: datetime) -> list[int]:
        for place, (dataset, records) in enumerate(lots):
            try:
                unwritten = self._writer.write(dataset, records, deadline)
            except STAGE_TROUBLE as error:
                outcome.trouble, unwritten = error, [index for index, _ in records]
            if unwritten:
                behind = [index for _, later in lots[place + 1 :] for index, _ in later]
                return sorted([*unwritten, *behind])
        return []
