"""The report as one CSV table: a row a design, full precision, columns a program can read."""

from __future__ import annotations

import csv
import io

from ommatidia.lab.report.model import DesignRow, Interval, Report
from ommatidia.lab.report.ranking import ranked

_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins, the wide forms of East Asian keyboards among them."""


def render_csv(report: Report) -> str:
    """Fractions, FLOPs and seconds as Python writes them (they read back exactly); an unknown value is an empty cell.

    Each benchmark has the columns ``name``, ``name:low``, ``name:high`` and ``name:blind``. Lists are joined by "|".
    A text that a spreadsheet would take for a formula (it begins with =, +, -, @, a tab or a line end) gets an
    apostrophe in front, in headings too; line ends become line feeds; numbers are written as they are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    rows = [_row(rank, design, report) for rank, design in enumerate(ranked(report.designs), start=1)]
    writer.writerow([_cell(name) for name in (rows[0] if rows else ("rank", "key", "name"))])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    """A value as no spreadsheet computes it."""
    if isinstance(value, str):
        # Python's writer leaves a lone carriage return unquoted, and readers end the row there.
        text = value.replace("\r\n", "\n").replace("\r", "\n")
        return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
    return "" if value is None else value


def _row(rank: int, design: DesignRow, report: Report) -> dict[str, object]:
    verdict = design.versus_best
    row: dict[str, object] = {
        "rank": rank,
        "key": design.key,
        "name": design.name,
        "encoders": "|".join(design.encoders),
        "fusion": design.fusion,
        "final": int(design.final),
        "text_only": int(design.is_blind_model),
        "failed": design.failed,
        "seeds": "|".join(map(str, design.seeds)),
        **_columns("average", design.average),
        "average:blind": design.blind_average(report.benchmarks),
        "versus_best": verdict.words if verdict else None,
        **_columns("difference", verdict.difference if verdict else None),
        "p": verdict.p if verdict else None,
        "equal_within": verdict.equal_within if verdict else None,
        "visual_tokens": design.visual_tokens,
        "parameters": design.parameters,
        "trained_parameters": design.trained_parameters,
        "train_flops": design.train_flops,
        "flops_per_sample": design.flops_per_sample,
        "train_seconds": design.train_seconds,
        "checkpoint": design.checkpoint,
        "command": design.command,
    }
    for benchmark in report.benchmarks:
        row |= _columns(benchmark.name, design.scores.get(benchmark.name))
        row[f"{benchmark.name}:blind"] = design.blind.get(benchmark.name)
    return row


def _columns(name: str, interval: Interval | None) -> dict[str, object]:
    return {
        name: interval.mean if interval else None,
        f"{name}:low": interval.low if interval else None,
        f"{name}:high": interval.high if interval else None,
    }
