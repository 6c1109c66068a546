"""The invariants: what is stored and what queries answer, held against the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tesseract.storage.keys import latest_key, level_partition, split_live_key, split_worklist_name
from tesseract.utils.time_utils import from_micros, iso_micros, to_micros
from tests.simulation.compare import Result, brief, brief_result, column_of, number_of, row_of, same, usable
from tests.simulation.oracle import DAY, LENGTHS, MICRO, Entry, Row, moment
from tests.simulation.scheduler import Violation

if TYPE_CHECKING:
    from tests.simulation.stage import Stage

NAME = "weather"
BAND = 10 * MICRO  # clocks differ, and creation times are cut


class Checks:
    """The invariants of one stage. Each raises Violation."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: Counter[str] = Counter()
        self.outages: list[tuple[int, int]] = []  # every outage that was declared, from, to (µs)
        self.last_active = {"aggregates": 0, "latest": 0}  # when an invocation of the function last ended (µs)

    def fail(self, kind: str, *parts: object) -> None:
        self.stage.sim.say("WRONG:", *parts)
        raise Violation(f"{kind}: {' '.join(map(str, parts))}")

    # aggregate items ----------------------------------------------------------------------------------------------------

    def live_written(self, item: dict[str, Any]) -> None:
        """At every write: no plain numbers where none may be, and sums that are those of the changes up to the watermark."""
        level = item["pk"].rpartition("#")[2]
        if level not in LENGTHS:
            if item["pk"].startswith("worklist"):
                self.stage.sim.say("worklist entry:", item["sk"])
            elif "#latest#" in item["pk"]:
                self.stage.sim.say(
                    "latest:",
                    item["sk"],
                    f"{item['valid_time'][5:16]} {item.get('fields')} {item.get('stale_at', '')} v{item['version']}",
                )
            elif item["pk"].endswith("#days"):
                self.stage.sim.say("day mark:", item["pk"].split("#")[1], item["sk"])
            return
        self.stage.sim.say("live item:", self.shown(item))
        if not usable(item):
            self.seen["stale items written" if item.get("stale_at") is not None else "pending items written"] += 1
            if "fields" in item or "rows" in item:
                self.fail("plain numbers", "of an item that is stale or pending:", item["pk"], item["sk"])
            return
        self.seen["aggregate items written"] += 1
        self.seen["repaired"] += item.get("repaired_through") is not None
        self._sums(item)

    def shown(self, item: dict[str, Any]) -> str:
        """An aggregate item in one line."""
        text = f"{item['pk'].split('#', 1)[1]} {item['sk'][5:16]} v{item['version']} applied {item['applied'][-12:]}"
        for name in ("stale_at", "pending", "repaired_through", "live_from", "fields_from"):
            text += f" {name} {item[name]}" if item.get(name) is not None else ""
        if usable(item):
            text += f" safe until {item['safe_until']} rows {item['rows']} " + " ".join(
                f"{n}({', '.join(f'{s} {v[s]}' for s in ('count', 'sum', 'min', 'max') if s in v)})"
                for n, v in item["fields"].items()
            )
        return text

    def _sums(self, item: dict[str, Any]) -> None:
        _, group, level, start = split_live_key(item["pk"], item["sk"])
        if self._of_former_life(item, level):
            return
        at = to_micros(start)
        entries = self.stage.oracle.entries(group, at, at + LENGTHS[level])
        through = int(item.get("repaired_through") or 0) * 1_000_000
        label, _, number = item["applied"].rpartition("/")
        held = [e for e in entries if e.at < through or (e.label == label and e.number <= int(number or 0))]
        want, have = self._comparable(item, level, at, held)
        if have.sums != want.sums and not self._lost(e for e in held if e.at >= through):
            self.fail(
                "live item", f"{group} {level} {moment(at)} has {brief(have)}, its changes give {brief(want)}: {self._told(held)}"
            )
        self._plain(item)

    def _comparable(self, item: dict[str, Any], level: str, start: int, entries: Sequence[Entry]) -> tuple[Row, Row]:
        """What the writes of a period give, and what its item holds, of the fields that readers take from the item today."""
        covered, lacking = self.covered(level), self.lacking(item, level, start)
        want, have = self.stage.oracle.row(entries, covered), row_of(item)
        extra = set() if covered is None else have.fields.keys() - covered
        return want.without(lacking), have.without(lacking | extra)

    def _plain(self, item: dict[str, Any]) -> None:
        """The numbers that a dashboard reads are those of the state beside them."""
        row = row_of(item)
        if item["rows"] != row.rows:
            self.fail("plain numbers", f"{item['pk']} {item['sk']} shows {item['rows']} rows, not {row.rows}")
        for name, numbers in item["fields"].items():
            for stat, value in numbers.items():
                if not same(value, number_of(row.fields.get(name), stat), stat):
                    self.fail("plain numbers", f"{item['pk']} {item['sk']} {name} {stat} is {value}")

    def _of_former_life(self, item: dict[str, Any], level: str) -> bool:
        config = self.stage.newest.level(level)
        return config is None or item.get("live_from") != config.live_from

    def covered(self, level: str) -> frozenset[str] | None:
        config = self.stage.newest.level(level)
        return None if config is None else config.covered()

    def lacking(self, item: dict[str, Any], level: str, start: int) -> frozenset[str]:
        """The fields that an item of the present configuration does not have: a writer may know an older one, so what it shows
        decides, as long as it is what it says."""
        config = self.stage.newest.level(level)
        if config is None or not config.since:
            return frozenset()
        return config.lacks(start, item.get("fields_from"))

    def _lost(self, entries: Iterable[Entry], function: str = "aggregates") -> bool:
        """Whether a stream function has lost one of these writes, and only comparison can find it.

        So it is where one shard is silent while others are not: until the snapshots have compared, items are wrong.
        """
        gone = to_micros(self.stage.sim.now) - DAY
        lost = [entry for entry in entries if entry.at < gone and not entry.done[function] and function not in entry.told]
        return any(not any(start <= entry.at <= end for start, end in self.outages) for entry in lost) and (
            self.stage.catalog.outage() is None
        )

    def declared(self, start: int, end: int) -> None:
        """An outage is declared, from `start` to `end` (s): from now on all that was lost in it is known to be."""
        self.outages.append((start * MICRO, end * MICRO))

    def called(self, function: str) -> None:
        """A function is called. If it was not for as long as a stream keeps records, it must notice what it has lost.

        As long as it was written after the function's last invocation, and archived since: where both are silent nobody can tell.
        """
        now, through = to_micros(self.stage.sim.now), self.stage.through()
        for entry in self.stage.oracle.log:
            if self.last_active[function] + BAND < entry.at < min(now - DAY, through) and not entry.done[function]:
                entry.told[function] = True

    def _told(self, entries: Iterable[Entry]) -> str:
        return "; ".join(f"#{entry.index} {entry}" for entry in entries)

    # queries ------------------------------------------------------------------------------------------------------------

    def raw(self, groups: Iterable[str], result: Result, begun: int) -> None:
        """A raw query: each record is as it stood at some moment since the query began (after `begun` writes)."""
        self.seen["raw queries"] += 1
        oracle = self.stage.oracle
        for group in groups:
            entries = oracle.by_group.get(group, [])
            for time in {entry.time for entry in entries} | {at for g, at in result if g == group}:
                own = [entry for entry in entries if entry.time == time]
                first = sum(entry.index < begun for entry in own)
                got = result.get((group, time))
                allowed = [oracle.visible(own[:end]).get(time) for end in range(first, len(own) + 1)]
                if not any(self.same_record(got, entry) for entry in allowed):
                    self.fail("raw query", f"{group} {moment(time)} is {got}, allowed: {'; '.join(map(str, allowed))}")

    def same_record(self, got: dict[str, Any] | None, entry: Entry | None) -> bool:
        if got is None or entry is None:
            return got is None and entry is None
        ref = got["ref_time"]
        if (None if ref is None else to_micros(ref)) != (
            None if entry.ref is None else to_micros(datetime.fromisoformat(entry.ref))
        ):
            return False
        return all(same(got[name], entry.fields.get(name), "value") for name in self.stage.newest.fields if name in got)

    def level(self, level: str, groups: Iterable[str], result: Result, behind: set[int], exact: bool = False) -> None:
        """A level's query: each period is as it stood at some place of the stream since the query began.

        `behind` holds the writes (by index) that were durably in the live items when it began. With `exact`, as it stands now.
        """
        self.seen["level queries"] += 1
        oracle, length = self.stage.oracle, LENGTHS[level]
        fields = self._shown_fields(level)
        for group in groups:
            starts = {entry.time // length * length for entry in oracle.by_group.get(group, ())} | {
                at for g, at in result if g == group
            }
            for start in sorted(starts):
                entries = oracle.entries(group, start, start + length)
                first = next((n for n, e in enumerate(entries) if e.index not in behind), len(entries))
                states = oracle.states(entries, len(entries) if exact else first)
                got = result.get((group, start))
                if not self._allowed(got, states, fields, exact) and (exact or not self._lost(entries)):
                    what = "; ".join(brief(state) for state in states)
                    self.fail(
                        f"{level} query", f"{group} {moment(start)} is {brief_result(got)}, allowed: {what}: {self._told(entries)}"
                    )

    def _shown_fields(self, level: str) -> list[tuple[str, str]]:
        config = self.stage.newest.level(level)
        assert config is not None
        return [(name, stat) for name in self.stage.newest.fields for stat in config.wanted(name)]

    def _allowed(self, got: dict[str, Any] | None, states: Sequence[Row], fields: Sequence[tuple[str, str]], exact: bool) -> bool:
        if got is None:
            return any(not state.rows for state in states)
        # raw may be ahead of the stream where extremes are looked up: they need not be of the same moment as the sums
        fields = [(n, s) for n, s in fields if exact or f"{n}_{s}" in got]  # the reader may know an older configuration
        extremes = [(n, s) for n, s in fields if s in ("min", "max", "first", "last")]
        sums = [(n, s) for n, s in fields if (n, s) not in extremes]
        fits = lambda state, columns: all(same(got[f"{n}_{s}"], column_of(state, n, s), s) for n, s in columns)
        return any(state.rows == got["rows"] and fits(state, sums) for state in states) and all(
            any(fits(state, [column]) for state in states) for column in extremes
        )

    def latest(self, group: str, got: dict[str, Any] | None, done: set[int], exact: bool = False) -> None:
        """The latest value: visible at some moment since the query began, and nothing later was there all the time."""
        self.seen["latest queries"] += 1
        oracle = self.stage.oracle
        found: list[tuple[int, list[Entry | None]]] = []
        by_time: dict[int, list[Entry]] = {}
        for entry in oracle.by_group.get(group, ()):
            by_time.setdefault(entry.time, []).append(entry)
        for time, own in sorted(by_time.items(), reverse=True):
            first = len(own) if exact else next((n for n, e in enumerate(own) if e.index not in done), len(own))
            states = [oracle.visible(own[:end]).get(time) for end in range(first, len(own) + 1)]
            found.append((time, states))
        at = None if got is None else to_micros(got["valid_time"])
        for time, allowed in found:
            if time == at:
                if any(self.same_record(got, entry) for entry in allowed):
                    return
                break
            if None not in allowed:
                break
        else:
            if got is None:
                return
        if not exact and self._lost(oracle.by_group.get(group, ()), "latest"):
            return
        shown = " | ".join(f"{moment(time)}: {'; '.join(map(str, allowed))}" for time, allowed in found[:4])
        self.fail("latest", f"{group} is {got}, allowed: {shown}")

    # when all is quiet --------------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Whether nothing is left to do."""
        trace, self.stage.sim.trace = self.stage.sim.trace, []
        try:
            self.quiet()
        except Violation:
            return False
        finally:
            self.stage.sim.trace = trace
        return True

    def quiet(self) -> None:
        """Streams drained, windows closed, repairs done: nothing is stale, everything is exact, the worklist is empty."""
        stage = self.stage
        for item in stage.live.items():
            level = item["pk"].rpartition("#")[2]
            if item["pk"].startswith("worklist") and not self._waits(item):
                self.fail("worklist", "an entry is left:", item["sk"])
            if "#latest#" in item["pk"] and item.get("stale"):
                self.fail("latest", "is stale for ever:", item["sk"])
            if level not in LENGTHS or self._of_former_life(item, level):
                continue
            if not usable(item):
                self.fail("stale for ever", self.shown(item))
            _, group, _, start = split_live_key(item["pk"], item["sk"])
            at = to_micros(start)
            entries = stage.oracle.entries(group, at, at + LENGTHS[level])
            want, have = self._comparable(item, level, at, entries)
            if have != want:
                self.fail("live item at the end", f"{self.shown(item)}; right is {brief(want)}: {self._told(entries)}")
        for group in stage.oracle.by_group:
            self.newest(group)
        if stage.catalog.outage() is not None:
            self.fail("outage", "is open for ever")

    def latest_through(self) -> None:
        """While nothing of it is under way, and all of a group's writes are through, its latest item is right, or stale."""
        oracle = self.stage.oracle
        for group, entries in oracle.by_group.items():
            item = self.stage.live.get(latest_key(NAME, group))
            if all(entry.done["latest"] for entry in entries) and not (item is not None and item.get("stale")):
                self.newest(group)

    def newest(self, group: str) -> None:
        """The latest item is of the newest visible record."""
        item = self.stage.live.get(latest_key(NAME, group))
        visible = self.stage.oracle.visible(self.stage.oracle.by_group[group])
        newest = max(visible, default=None)
        at = item["valid_time"] if item is not None and "fields" in item else None
        right = None if newest is None else visible[newest]
        fields = None if item is None else item.get("fields")
        if at != (None if newest is None else iso_micros(from_micros(newest))) or fields != (right and right.fields):
            self.fail("latest item", f"{group} is {at} {fields}, right is {right}")

    def _waits(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is of a level that is not kept any more, and not due yet."""
        pk, sk = split_worklist_name(entry["sk"])
        item, level = self.stage.live.get((pk, sk)), pk.rpartition("#")[2]
        due = 0 if item is None else int(item.get("stale_at", 0)) * 1_000_000
        return level in LENGTHS and self.stage.newest.level(level) is None and due > self.stage.through()

    def snapshots(self) -> None:
        """Every period that ended before `snapshot_through` and has a record has a row in its level's segments."""
        stage = self.stage
        through = stage.catalog.progress().snapshot_through
        for level in stage.newest.levels:
            if level.name not in LENGTHS or level.live_from is not None:
                continue
            for group, entries in stage.oracle.by_group.items():
                manifest = stage.catalog.manifest(NAME, level_partition(level), group)
                for start in {entry.time // LENGTHS[level.name] * LENGTHS[level.name] for entry in entries}:
                    end = start + LENGTHS[level.name]
                    kept = any(segment.first <= start <= segment.last for segment in manifest.segments)
                    if end <= through and not kept and stage.oracle.row(stage.oracle.entries(group, start, end)).rows:
                        self.fail("snapshot", f"{group} {level.name} {moment(start)} has none")
