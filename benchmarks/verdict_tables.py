"""Simulated verdicts as a page shows them: how far each claim holds over all cells, and tables of its rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Bound = float | Callable[[dict[str, Any]], float]
Limits = Mapping[str, tuple[Bound, Bound]]
"""Between which values each rate must lie; a bound may depend on the cell."""

ALLOWED = 2.0
"""Monte-Carlo errors by which a rate may lie outside before it is counted: chance alone puts one cell in twenty there,
on either side."""

_NO_RATES = ("width", "points", "runs", "index", "stability", "too_high")


def monte_carlo_error(name: str, value: float, simulations: int) -> float:
    """Standard error of a simulated rate; of a width, that of the standard deviation it is divided by; else 0."""
    if "width" in name:
        return value / float(np.sqrt(2 * simulations))
    if any(word in name for word in _NO_RATES):
        return 0.0
    near = (value * simulations + 1) / (simulations + 2)  # none in a few is not never
    return float(np.sqrt(near * (1 - near) / simulations))


def summarise(rows: Sequence[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """Of each limited rate: the cells, the lowest, mean and highest value, and how many cells lie outside."""
    found = {}
    for name, (low, high) in limits.items():
        values = [row[name] for row in rows]
        outside = sum(not _within(row, name, low, high) for row in rows)
        found[name] = {
            "cells": len(rows),
            "lowest": min(values),
            "mean": round(float(np.mean(values)), 4),
            "highest": max(values),
            "outside": outside,
        }
    return found


def _within(row: dict[str, Any], name: str, low: Bound, high: Bound) -> bool:
    bounds = [bound(row) if callable(bound) else bound for bound in (low, high)]
    allowed = ALLOWED * float(row["errors"][name])
    return bool(bounds[0] - allowed <= row[name] <= bounds[1] + allowed)


def tables(document: Mapping[str, Any]) -> str:
    """Markdown: for each claim its summary, then each rate by seeds and deviation (rows) and questions (columns)."""
    parts = []
    for name, claim in document.items():
        must_hold = claim["must_hold"]
        parts.append(f"### {name}\n\n{must_hold[0].upper()}{must_hold[1:]}. {claim['simulations']} simulations a cell.")
        if claim["summary"]:
            parts.append(_summary(claim["summary"]))
        rates = [key for key in claim["cells"][-1] if key in claim["cells"][-1]["errors"]]
        if "truth" in claim["cells"][0]:
            parts.append(_group_table(claim["cells"], rates))
        else:
            parts += [_rate_table(claim["cells"], rate) for rate in rates]
    return "\n\n".join(parts) + "\n"


def _summary(summary: Mapping[str, Mapping[str, float]]) -> str:
    head = "| | cells | lowest | mean | highest | outside by two errors |\n|---|---:|---:|---:|---:|---:|"
    rows = [
        f"| {_words(name)} | {one['cells']:.0f} | {_shown(name, one['lowest'])} | {_shown(name, one['mean'])} "
        f"| {_shown(name, one['highest'])} | {one['outside']:.0f} |"
        for name, one in summary.items()
    ]
    return "\n".join([head, *rows])


def _rate_table(rows: Sequence[dict[str, Any]], rate: str) -> str:
    """The mean over the kinds of images, and in brackets the lowest and highest of them."""
    columns = sorted({row["questions"] for row in rows})
    lines = [
        f"| {_words(rate)}: seeds, deviation | " + " | ".join(f"{count:,} questions" for count in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for seeds, deviation in sorted({(row["seeds"], row["deviation"]) for row in rows}):
        cells = []
        for count in columns:
            key = (seeds, deviation, count)
            values = [row[rate] for row in rows if (row["seeds"], row["deviation"], row["questions"]) == key]
            mean, low, high = (_shown(rate, value) for value in (float(np.mean(values)), min(values), max(values)))
            cells.append(mean if low == high else f"{mean} ({low} to {high})")
        lines.append(f"| {seeds}, {100 * deviation:g} points | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _group_table(rows: Sequence[dict[str, Any]], rates: Sequence[str]) -> str:
    lines = ["| truth | models | " + " | ".join(map(_words, rates)) + " |", "|---|---:|" + "---:|" * len(rates)]
    for row in rows:
        shown = (_shown(rate, row[rate]) if rate in row else "–" for rate in rates)
        lines.append(f"| {row['truth']} | {row['models']} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(name: str, value: float) -> str:
    """Rates in percent, differences in points, the rest as it is."""
    if "too_high" in name:
        return f"{100 * value:.1f}"
    if any(word in name for word in _NO_RATES):
        return f"{value:.2f}" if value < 4 else f"{value:.1f}"
    return f"{100 * value:.1f}"
