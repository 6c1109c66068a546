"""`make simulate SEEDS=n` or `SEEDS=a..b`, in pieces that a journal remembers, so that it goes on where it was.

A seed that fails is shrunk: its history is printed, one line an event, with the command that replays it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.simulation import archive_mutations, faults, mutations, patches  # noqa: F401
from tests.simulation.runs import Outcome, run, shrunk
from tests.simulation.themes import OF_ARCHIVE

ROOT = Path(__file__).parents[2]
JOURNAL = ROOT / ".simulate"
PIECE = 500
ARCHIVE_EVERY = 3  # seeds
HELP = "SEEDS is a number of seeds, or a..b: seed a up to, but not including, seed b"


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 where a seed fails."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a history
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], {**os.environ, "PYTHONHASHSEED": "0"})
    options = {a.partition("=")[0]: a.partition("=")[2] for a in arguments if a.startswith("--")}
    (seeds,) = [a for a in arguments if not a.startswith("--")] or ["1000"]
    try:
        first, _, last = seeds.rpartition("..")
        begin, end = int(first or 0), int(last)
    except ValueError:
        print(HELP, file=sys.stderr)
        return 2
    if "--mutations" in options:
        return _mutations()
    mutation, theme = options.get("--mutation", ""), options.get("--theme", "")
    if end - begin == 1 or mutation or theme:
        return _one_by_one(begin, end, mutation, theme)
    return _pieces(begin, end, int(options.get("--processes", "2")), options.get("--journal") != "no")


def _one_by_one(begin: int, end: int, mutation: str, theme: str) -> int:
    seen: Counter[str] = Counter()
    with patches.simulated(), faults.applied(mutation):
        for seed in range(begin, end):
            outcome = run(seed, theme=theme)
            seen.update(outcome.seen)
            if outcome.wrong:
                print(report(seed, outcome, mutation, theme))
                return 1
    print(f"seeds {begin}..{end}: nothing is wrong")
    print(shown(seen))
    return 0


def _mutations() -> int:
    """Every deliberate fault, and the seed that catches it."""
    with patches.simulated():
        found = {name: faults.caught(name) for name in faults.MUTATIONS}
    print(json.dumps(found))
    return int(None in found.values())


def report(seed: int, outcome: Outcome, mutation: str = "", theme: str = "", seconds: float = 60) -> str:
    """The shortest history that goes wrong like this, and how to see it again. To be called while simulated."""
    steps = shrunk(seed, outcome.kind, seconds, theme)
    again = run(seed, steps, tracing=True, theme=theme)
    replay = (
        f"make simulate SEEDS={seed}..{seed + 1}"
        + (f" THEME={theme}" if theme else "")
        + (f" MUTATION={mutation}" if mutation else "")
    )
    return "\n".join([*again.history, "", f"seed {seed}, {len(steps)} steps: {again.wrong}", f"again: {replay}"])


def histories(seed: int) -> list[str]:
    """The themes that a seed is run with: one of the streams, as the seed draws; every third seed one of the archive, too."""
    return [""] if seed % ARCHIVE_EVERY else ["", OF_ARCHIVE[seed // ARCHIVE_EVERY % len(OF_ARCHIVE)]]


def piece(begin: int, end: int) -> dict[str, Any]:
    """One piece, up to its first failure."""
    seen: Counter[str] = Counter()
    began = time.process_time()
    with patches.simulated():
        for seed in range(begin, end):
            for theme in histories(seed):
                outcome = run(seed, theme=theme)
                seen.update(outcome.seen)
                if outcome.wrong:
                    told = report(seed, outcome, theme=theme)
                    return {"begin": begin, "end": end, "seed": seed, "wrong": outcome.wrong, "report": told}
    return {"begin": begin, "end": end, "seconds": round(time.process_time() - began, 1), "seen": seen}


def _pieces(begin: int, end: int, processes: int, journaled: bool) -> int:
    """Pieces that passed with the code as it is are in the journal, and are not run again."""
    journal, code = JOURNAL / "pieces.ndjson", fingerprint()
    lines = map(json.loads, journal.open()) if journaled and journal.exists() else ()
    done = {(entry["begin"], entry["end"]): entry for entry in lines if entry["code"] == code}
    wanted = [(at, min(at + PIECE, end)) for at in range(begin, end, PIECE)]
    left = [part for part in wanted if part not in done]
    started = time.monotonic()
    with ProcessPoolExecutor(processes) as pool:
        futures = [pool.submit(piece, *part) for part in left]
        for count, future in enumerate(as_completed(futures), 1):
            found = future.result()
            if "wrong" in found:
                pool.shutdown(cancel_futures=True)
                print(found["report"])
                return 1
            done[found["begin"], found["end"]] = found
            if journaled:
                JOURNAL.mkdir(exist_ok=True)
                with journal.open("a") as file:
                    file.write(json.dumps({**found, "code": code}) + "\n")
            print(
                f"seeds {found['begin']}..{found['end']}: {count} of {len(left)} pieces, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    total: Counter[str] = sum((Counter(done[part]["seen"]) for part in wanted), Counter())
    seconds = sum(done[part]["seconds"] for part in wanted)
    print(f"seeds {begin}..{end}: nothing is wrong; {1000 * seconds / max(1, end - begin):.0f} ms of processor a seed")
    print(shown(total))
    return 0


def shown(seen: Counter[str]) -> str:
    """How much happened, in one line."""
    return ", ".join(f"{name}: {number:,}" for name, number in sorted(seen.items()))


def fingerprint() -> str:
    """Of the code that runs: a piece that passed with other code says nothing."""
    files = sorted(
        [*(ROOT / "tesseract").rglob("*.py"), *Path(__file__).parent.glob("*.py"), *(ROOT / "tests/support").glob("driver*.py")]
    )
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
