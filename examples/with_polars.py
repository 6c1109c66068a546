"""Polars: raw rows as a stream, and the strongest wind of every six hours."""

from __future__ import annotations

import polars as pl
from sample import open_store

import tesseract


def main(store: tesseract.Store) -> pl.DataFrame:
    """The five windiest stretches of six hours: origin, valid_time, wind_speed, in mph."""
    # a stream of record batches that Polars takes as it is; `fields` and `where` are applied where the rows lie
    rows = store.scan("weather", None, "2013-01-01", "2013-02-01", fields=["wind_speed"], where="wind_speed > 10")
    return (
        pl.DataFrame(rows)
        .sort("valid_time")
        .group_by_dynamic("valid_time", every="6h", group_by="origin")
        .agg(pl.col("wind_speed").max())
        .sort(["wind_speed", "origin", "valid_time"], descending=[True, False, False])
        .head(5)
    )


if __name__ == "__main__":
    print(main(open_store()))
