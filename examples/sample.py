"""The store that the examples read: a stage's, where one is named, else one in memory with the example weather of January 2013.

python examples/with_pandas.py              in memory: nothing needs to run
python examples/with_pandas.py local        a stage that has the weather, such as the laptop cloud after `KEEP=1 make demo`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tesseract
from tesseract.config.manager import apply
from tesseract.config.schema import parse_file
from tesseract.ingestion.backfill import Backfill
from tesseract.ingestion.client import transport_of
from tesseract.ingestion.files import Source, read_lines
from tesseract.ingestion.rejects import Rejects
from tesseract.storage.memory import memory_backend
from tesseract.utils.time_utils import to_micros, utc_now

HERE = Path(__file__).parent
CONFIGURATION = HERE.parent / "schemas" / "weather.yaml"
DATA = HERE / "data" / "nyc_weather_2013.csv.gz"


def open_store() -> tesseract.Store:
    """The store of the stage that the command line names, else the sample."""
    return tesseract.connect(sys.argv[1]) if len(sys.argv) > 1 else sample()


def sample() -> tesseract.Store:
    """2,211 hourly records of three airports in an archive in memory, written by what `tesseract backfill` runs."""
    backend = memory_backend()
    store = tesseract.Store(backend)
    (weather,) = parse_file(CONFIGURATION).values()
    now = utc_now()
    apply(store.catalog, weather, now)
    for step in ("archived", "snapshot"):  # on AWS the archive's timers say this: what is written by now is archived
        store.catalog.advance(step, to_micros(now))
    with tempfile.TemporaryDirectory() as folder:
        rejects, road = Rejects(Path(folder) / "rejects.ndjson"), transport_of("direct", "memory")
        dataset = store.dataset("weather")
        run = Backfill(backend, store.catalog, dataset, road, now, utc_now, Path(folder), rejects, workers=1)
        month = Path(folder) / "january.ndjson"
        month.write_bytes(b"\n".join(line for line in read_lines(str(DATA), dataset) if b'"2013-01-' in line))
        tally = run.run([Source(str(month), dataset)])
    if tally.rejected or tally.buffered:
        raise SystemExit(f"{tally.rejected} records of the sample were rejected, {tally.buffered} are too new for the archive")
    return store


if __name__ == "__main__":
    print(open_store().datasets)
