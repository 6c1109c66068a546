"""pandas: daily temperatures as a frame, and the days on which two airports were farthest apart."""

from __future__ import annotations

import pandas as pd
from sample import open_store

import tesseract


def main(store: tesseract.Store) -> pd.DataFrame:
    """The five days with the greatest difference: columns EWR, JFK, difference, in °F."""
    table = store.query("weather", ["EWR", "JFK"], "2013-01-01", "2013-02-01", level="daily", fields=["temp_avg"])
    # Arrow's own types: integers stay integers where values are missing, and nothing is copied
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    days = frame.pivot(index="period_start", columns="origin", values="temp_avg")
    days["difference"] = (days["EWR"] - days["JFK"]).abs()
    return days.nlargest(5, "difference")


if __name__ == "__main__":
    print(main(open_store()).round(2))
