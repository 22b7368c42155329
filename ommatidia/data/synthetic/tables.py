"""Real tables for charts, read from the files of the package vega_datasets: labelled values, cut into small panels.

A panel is one row or window of a table: labels of at most three characters and values scaled by a power of ten to at
most two digits. Nothing is made up but the rounding.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError

FILES = (
    "barley.json", "cars.json", "driving.json", "seattle-weather.csv", "stocks.csv", "us-employment.csv", "wheat.json",
)  # fmt: skip

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SECTORS = {
    "construction": "BLD", "manufacturing": "MFG", "wholesale_trade": "WHO", "retail_trade": "RET",
    "transportation_and_warehousing": "TRA", "information": "INF", "financial_activities": "FIN",
    "professional_and_business_services": "PRO", "education_and_health_services": "EDU",
    "leisure_and_hospitality": "LEI", "other_services": "OTH", "government": "GOV",
}  # fmt: skip
_COMPANIES = {"MSFT": "MIC", "AMZN": "AMA", "IBM": "IBM", "GOOG": "GOO", "AAPL": "APP"}
_FEWEST = 5

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """Values of one kind that may stand side by side in a chart."""

    table: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    """From 1 to 99."""


def data_folder() -> Path:
    """Where vega_datasets keeps its files. Raises ConfigError when it is not installed."""
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("drawn_charts needs the package vega_datasets: pip install 'ommatidia[quickstart]'")
    return Path(spec.submodule_search_locations[0]) / "_data"


def contents() -> Contents:
    """The tables' files. Raises ConfigError, DataError."""
    return Contents.of_needed({name: data_folder() / name for name in FILES})


@lru_cache(maxsize=1)
def panels() -> dict[str, tuple[Panel, ...]]:
    """All panels by table. Raises ConfigError when vega_datasets is missing or lacks a table."""
    readers: dict[str, Callable[[list[Record]], Iterable[tuple[str, list[tuple[str, float]]]]]] = {
        "barley.json": _barley,
        "cars.json": _cars,
        "driving.json": lambda rows: _by_year(rows, "driving", ("miles", "gas")),
        "seattle-weather.csv": _weather,
        "stocks.csv": _stocks,
        "us-employment.csv": _employment,
        "wheat.json": lambda rows: _by_year(rows, "wheat", ("wheat", "wages")),
    }
    found: dict[str, list[Panel]] = defaultdict(list)
    for name in FILES:
        for table, entries in readers[name](_read(data_folder() / name)):
            panel = _panel(table, entries)
            if len(panel.labels) >= _FEWEST:
                found[table].append(panel)
    return {table: tuple(of_table) for table, of_table in found.items()}


def _read(path: Path) -> list[Record]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError:
        raise ConfigError(f"{path}: missing; drawn_charts needs the tables of vega_datasets 0.9 or later") from None
    return json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))


def _panel(table: str, entries: list[tuple[str, float]]) -> Panel:
    """Scaled to two digits by a power of ten that all values share."""
    scale, highest = 1.0, max((value for _, value in entries), default=0.0)
    while highest * scale >= 99.5:
        scale /= 10
    while 0 < highest * scale < 9.95:
        scale *= 10
    kept = {label: round(value * scale) for label, value in entries if round(value * scale) >= 1}
    return Panel(table, tuple(kept), tuple(kept.values()))


def _means(
    rows: Iterable[Record], panel: str, label: Callable[[Record], str], value: str
) -> dict[str, dict[str, float]]:
    """Mean of ``value`` by the column ``panel`` and by label."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row[value] is not None:
            groups[str(row[panel])][label(row)].append(float(row[value]))
    return {key: {name: sum(v) / len(v) for name, v in named.items()} for key, named in groups.items()}


def _barley(rows: list[Record]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    for means in _means([{**r, "key": f"{r['variety']}{r['year']}"} for r in rows], "key", _site, "yield").values():
        yield "barley", list(means.items())


def _site(row: Record) -> str:
    return str(row["site"])[:3].upper()


def _cars(rows: list[Record]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    def maker(row: Record) -> str:
        return str(row["Name"])[:3].upper()

    # Three letters that two makers share would be no label.
    named = [row for row in rows if maker(row).isalpha() and maker(row) not in ("MER", "VOL")]
    for value in ("Miles_per_Gallon", "Horsepower", "Weight_in_lbs", "Displacement"):
        for means in _means(named, "Year", maker, value).values():
            yield "cars", list(means.items())


def _weather(rows: list[Record]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    dated = [{**row, "year": row["date"][:4]} for row in rows]
    for value in ("precipitation", "temp_max", "temp_min", "wind"):
        for means in _means(dated, "year", lambda row: _MONTHS[int(row["date"][5:7]) - 1], value).values():
            yield "weather", list(means.items())


def _stocks(rows: list[Record]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    for means in _means(rows, "date", lambda row: _COMPANIES[row["symbol"]], "price").values():
        yield "stocks", list(means.items())
    by_month = [{**row, "key": row["symbol"] + row["date"][-4:]} for row in rows]
    for means in _means(by_month, "key", lambda row: str(row["date"])[:3].upper(), "price").values():
        yield "stock months", list(means.items())


def _employment(rows: list[Record]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    for row in rows:
        yield "employment", [(label, float(row[column])) for column, label in _SECTORS.items()]


def _by_year(rows: list[Record], table: str, columns: tuple[str, ...]) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    """Windows of ten rows; a year is labelled by its last two digits, which no window repeats."""
    for column in columns:
        entries = [(str(row["year"])[-2:], float(row[column])) for row in rows if row.get(column) is not None]
        for start in range(0, len(entries) - _FEWEST, 5):
            yield table, entries[start : start + 10]
