"""A SURFRAD station's file (fixed columns, one row a minute) as NDJSON for the dataset of schemas/surfrad.yaml.

    python examples/surfrad.py [FILE.dat[.gz]] > day.ndjson

Every value is kept as the file spells it; -9999.9, the file's sign for missing, is left to the configuration.
"""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

# fmt: off
VALUES = (
    "dw_solar", "uw_solar", "direct_n", "diffuse", "dw_ir", "dw_casetemp", "dw_dometemp", "uw_ir", "uw_casetemp", "uw_dometemp",
    "uvb", "par", "netsolar", "netir", "totalnet", "temp", "rh", "windspd", "winddir", "pressure",
)
# fmt: on
SAMPLE = Path(__file__).parent / "data" / "surfrad_alamosa_2016-01-01.dat.gz"


def readings(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a file: `station`, `time`, `zenith`, then each value and its `…_flag`, all as the file's own text."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as lines:
        station = next(lines).strip()
        next(lines)  # latitude, longitude, elevation
        for line in lines:
            year, _, month, day, hour, minute, _, zenith, *pairs = line.split()
            row = {"station": station, "time": f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}:00Z", "zenith": zenith}
            for name, value, flag in zip(VALUES, pairs[::2], pairs[1::2], strict=True):
                row |= {name: value, f"{name}_flag": flag}
            yield row


def ndjson(path: Path) -> Iterator[str]:
    """The rows as JSON objects; numbers keep the file's digits."""
    for row in readings(path):
        yield "{" + ", ".join(f'"{k}": "{v}"' if k in ("station", "time") else f'"{k}": {v}' for k, v in row.items()) + "}"


if __name__ == "__main__":
    for text in ndjson(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE):
        print(text)
