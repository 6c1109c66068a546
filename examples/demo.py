"""The main job, end to end: a year of weather and a day of radiation through a stage that is really deployed, to this laptop.

    python examples/demo.py [AIRPORT…]        only JFK and these, which takes less time; KEEP=1 leaves the stack up

Exit code 0 only if every row and every aggregate that comes out equals the files, whichever tier it lies in.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import checks
import laptop
import surfrad
from rich.console import Console
from rich.table import Table

import tesseract
from tesseract.cli import run
from tesseract.errors import TesseractError
from tesseract.query.results import Stats

console = Console(highlight=False)
YEAR = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
JANUARY = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC))
DAY = (datetime(2016, 1, 1, tzinfo=UTC), datetime(2016, 1, 2, tzinfo=UTC))
HERE = Path(__file__).parent
SCHEMAS = HERE.parent / "schemas"
QUESTION = """
select origin, month(valid_time) as month, count(*) as hours, round(avg(temp), 1) as temp, max(wind_gust) as gust
from weather where month(valid_time) in (1, 7, 12) group by all order by origin, month
"""


STARTED = time.monotonic()


def title(text: str) -> None:
    """A step of the story, and when it began."""
    console.print(f"\n[bold]{text}[/bold] [dim]({time.monotonic() - STARTED:.0f} s)[/dim]")


def command(*arguments: str) -> None:
    """Run a command of `tesseract` as a user would; the demo ends where it fails."""
    console.print(f"[dim]$ tesseract {' '.join(arguments)}[/dim]")
    code = run(list(arguments))
    if code:
        raise SystemExit(f"the command ended with exit code {code}")


def write_csv(path: Path, rows: list[checks.Row]) -> str:
    """Rows as a csv file with the columns of the original."""
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def month_of(row: checks.Row) -> int:
    """The UTC month that a row falls into, by its valid time."""
    return int(row["time_hour"][5:7])


def ingest(folder: Path, weather: list[checks.Row]) -> dict[str, str]:
    """January to November by HTTP, the radiation day by Kinesis; exported, archived and compacted on the way."""
    half = "2013-12-16"
    parts = {
        "january": [row for row in weather if month_of(row) == 1],
        "february-november": [row for row in weather if 1 < month_of(row) < 12],
        "december": [row for row in weather if month_of(row) == 12 and row["time_hour"] < half],
        "rest": [row for row in weather if row["time_hour"] >= half],
    }
    files = {name: write_csv(folder / f"weather-{name}.csv", rows) for name, rows in parts.items()}
    files["radiation"] = str(folder / "surfrad.ndjson")
    Path(files["radiation"]).write_text("\n".join(surfrad.ndjson(surfrad.SAMPLE)) + "\n")
    title("Records come in: January by HTTP, a day of radiation by Kinesis")
    command("ingest", "weather", files["january"])
    command("ingest", "surfrad", files["radiation"], "--via", "kinesis")
    return files


def show_live(store: tesseract.Store) -> None:
    """Latest values, and live aggregates straight from DynamoDB with plain boto3."""
    title("Latest values and live aggregates, seconds after they came in")
    command("latest", "weather", "JFK")
    table = Table("item of the live table", "rows", "temp avg", "min", "max", "count", "std", title_justify="left")
    for level, low in (("hourly", "2013-01-15T12"), ("daily", "2013-01-15")):
        for item in laptop.plain_items(f"weather#JFK#{level}", low, 3):
            temp = item["fields"]["temp"]
            numbers = [str(temp.get(stat, "")) for stat in ("avg", "min", "max", "count", "std")]
            table.add_row(f"{item['pk']} {item['sk']}", str(item["rows"]), *numbers)
    console.print(table)


def verdict(store: tesseract.Store, name: str, weather: list[checks.Row]) -> tuple[bool, Stats]:
    """Every row and every period against the files, a line for each check; and where the rows of the weather lay."""
    table = Table("check", "compared", "differences", title=f"verdict: {name}", title_justify="left")
    good, sources = True, None
    for dataset, group, moment, rows, span in (
        ("weather", "origin", "time_hour", weather, YEAR),
        ("surfrad", "station", "time", checks.radiation_rows(), DAY),
    ):
        for level in ("raw", "hourly", "daily"):
            result = store.read(dataset, None, *span, level=level)
            if level == "raw":
                differences = checks.compare_raw(result.table, dataset, group, moment, rows)
                sources = sources or result.stats
            else:
                differences = checks.compare_level(result.table, dataset, level, group, moment, rows)
            good &= not differences
            table.add_row(
                f"{dataset} {level}", f"{len(result.table):,}", f"[{'red' if differences else 'green'}]{len(differences)}[/]"
            )
            for line in differences[:5]:
                console.print(f"[red]{line}[/red]")
    console.print(table)
    assert sources is not None
    return good, sources


def resend(store: tesseract.Store, files: dict[str, str], january: list[checks.Row]) -> bool:
    """The same file again: nothing may be there twice, neither a record nor in an aggregate."""
    command("ingest", "weather", files["january"])
    laptop.wait_for_stale(store, "weather", january)
    differences = checks.compare_raw(store.query("weather", None, *JANUARY), "weather", "origin", "time_hour", january)
    for level in ("hourly", "daily"):
        found = store.query("weather", None, *JANUARY, level=level)
        differences += checks.compare_level(found, "weather", level, "origin", "time_hour", january)
    console.print(f"rows and aggregates of January that differ after sending it again: {len(differences)}")
    return not differences


def story(folder: Path, weather: list[checks.Row]) -> bool:
    """Everything between up and down; whether every check held."""
    title("A stage on this laptop")
    command("local", "up")
    for schema in ("weather", "surfrad"):
        command("config", "apply", str(SCHEMAS / f"{schema}.yaml"))
    store = laptop.direct_store()
    files = ingest(folder, weather)
    laptop.wait_for_streams(store, "weather", [row for row in weather if month_of(row) == 1])
    show_live(store)

    title("January is exported and archived, then compacted: daily → monthly → yearly")
    command("archive", "export", "weather")
    laptop.show_bucket(store, console)
    command("archive", "compact")
    laptop.show_bucket(store, console)

    title("February to November: ingested, exported, archived, compacted")
    command("ingest", "weather", files["february-november"])
    laptop.wait_for_streams(store, "weather", [row for row in weather if month_of(row) < 12])
    command("archive", "export", "weather")
    command("archive", "compact")

    title("TTL removes what is archived from the buffer, and January's file is sent again")
    console.print(f"{laptop.expire(store, 'weather'):,} raw items removed")
    good = resend(store, files, [row for row in weather if month_of(row) == 1])

    title("December: one half is exported, the other is only in the buffer")
    command("ingest", "weather", files["december"])
    command("archive", "export", "weather")
    console.print(f"{laptop.expire(store, 'weather', before='2013-12'):,} raw items of January removed again")
    command("ingest", "weather", files["rest"])
    laptop.wait_for_streams(store, "weather", [row for row in weather if month_of(row) == 12])

    title("The closing queries: what lies where is nobody's business but ours")
    night = ("--start", "2013-12-15T22:00Z", "--end", "2013-12-16T02:00Z")
    command("query", "weather", "JFK", *night, "--fields", "temp,wind_speed", "--explain")
    command("query", "weather", "JFK", *night, "--level", "hourly", "--fields", "temp_avg,temp_max,temp_count")
    command("sql", QUESTION)
    laptop.show_bucket(store, console)
    good_now, stats = verdict(store, "archive and buffer together", weather)
    sources = {"only in the archive": stats.only_archive, "only in the buffer": stats.only_buffer, "in both": stats.both}
    for source, count in sources.items():
        console.print(f"  {count:7,} rows {source}")
    good &= good_now and all(sources.values()) and sum(sources.values()) == len(weather)

    title("Once more with the buffer empty")
    command("archive", "export")
    command("archive", "compact")
    console.print(f"{laptop.expire(store, 'weather') + laptop.expire(store, 'surfrad'):,} raw items removed")
    good_now, stats = verdict(store, "archive alone", weather)
    good &= good_now and stats.only_archive == len(weather)
    laptop.show_bucket(store, console)
    console.print(f"\n{len(weather):,} weather and 1,440 radiation rows in, all out; {time.monotonic() - STARTED:.0f} s")
    return good


def main(airports: list[str]) -> int:
    """Run the story, of JFK and `airports`, or of all where none is named; stop what it started unless KEEP is set."""
    weather = checks.weather_rows()
    known = sorted({row["origin"] for row in weather})
    unknown = [name for name in airports if name not in known]
    if unknown:
        console.print(f"[red]no airport {unknown[0]!r} in the example's data: it has {', '.join(known)}[/red]")
        return 2
    weather = [row for row in weather if not airports or row["origin"] in ("JFK", *airports)]
    good = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            good = story(Path(folder), weather)
    except TesseractError as error:
        console.print(f"[red]{error}[/red]")
    finally:
        if os.environ.get("KEEP"):
            keep()
        else:
            title("Down")
            run(["local", "down"])
    console.print("[green]every check held[/green]" if good else "[red]the checks did not hold[/red]")
    return 0 if good else 1


def keep() -> None:
    """What to try on the stack that stays."""
    console.print("\nThe stack stays up. Try:")
    for line in (
        "query weather JFK --start 2013-07-01 --end 2013-07-02 --level hourly --explain",
        'sql "select * from weather_daily order by temp_max desc limit 5"',
        "archive status",
        "local down",
    ):
        console.print(f"  .venv/bin/tesseract {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
