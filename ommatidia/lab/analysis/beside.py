"""Side by side: the samples that one design answers better than another, as a page of images with both answers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import DataError, RunError
from ommatidia.core.types import Sample
from ommatidia.eval.answers import Answered, read_answers
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.evaluate import score_file
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.scorer import references_of
from ommatidia.eval.suites import compare_suites
from ommatidia.lab.analysis.asking import written
from ommatidia.lab.report import html
from ommatidia.lab.report.numbers import p_value, percent, signed
from ommatidia.lab.report.pictures import data_uri


@dataclass(frozen=True, slots=True)
class Card:
    """One sample and what both designs said to it."""

    id: str
    task: str
    question: str
    reference: str
    pictures: tuple[str, ...]
    """Data URIs."""
    said: tuple[str, str]
    right: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Side:
    """The samples that one of the two answers better."""

    title: str
    found: int
    cards: tuple[Card, ...]


def beside(
    benchmark: Benchmark, files: tuple[Path, Path], names: tuple[str, str], *, out: Path, most: int = 40
) -> CommandResult:
    """Write a self-contained page from two answer files of ``omma eval``; ``most`` samples are shown for each side.

    Samples with the largest difference come first, then in the benchmark's order. Raises RunError when the files
    answered unlike samples, or are of another benchmark.
    """
    scored = score_file(benchmark, files[0]), score_file(benchmark, files[1])
    if [s.id for s in scored[0].scores] != [s.id for s in scored[1].scores]:
        raise RunError(f"{files[0]} and {files[1]}: cannot be laid side by side, they answer unlike samples")
    difference = {a.id: a.value - b.value for a, b in zip(scored[0].scores, scored[1].scores, strict=True)}
    better = [sorted((i for i, d in difference.items() if d > 0), key=lambda i: -difference[i])]
    better += [sorted((i for i, d in difference.items() if d < 0), key=lambda i: difference[i])]
    shown = {sample for side in better for sample in side[:most]}
    held = read_answers(files[0]), read_answers(files[1])
    cards = {
        sample.id: _card(sample, (held[0][sample.id], held[1][sample.id]), difference[sample.id], of=len(shown))
        for _, sample in benchmark.readable()
        if isinstance(sample, Sample) and sample.id in shown
    }
    sides = [
        Side(f"{name} is right where {other} is wrong", len(found), tuple(cards[i] for i in found[:most]))
        for name, other, found in zip(names, reversed(names), better, strict=True)
    ]
    data = _compared(scored, names, difference, better)
    facts = [
        *((f"{name}, %", percent(one.mean)) for name, one in zip(names, scored, strict=True)),
        ("equally good", str(data["equal"])),
        *((f"{name} better", str(len(found))) for name, found in zip(names, better, strict=True)),
    ]
    page = (
        _environment()
        .get_template("beside.html.j2")
        .render(
            title=f"{names[0]} beside {names[1]}",
            benchmark=benchmark.name,
            total=len(difference),
            verdict=data["verdict"],
            facts=facts,
            names=names,
            sides=sides,
            style=Markup((html.FOLDER / "report.css").read_text(encoding="utf-8")),
        )
    )
    written(out.parent, {out.name: page})
    return CommandResult(data={**data, "page": str(out)}, lines=[data["verdict"], f"page: {out}"])


def _compared(
    scored: tuple[Scored, Scored],
    names: tuple[str, str],
    difference: dict[str, float],
    better: Sequence[Sequence[str]],
) -> dict[str, Any]:
    found = compare_suites([[scored[0]]], [[scored[1]]])
    words = {"better": "is better than", "worse": "is worse than", "cannot tell apart": "cannot be told apart from"}
    interval, margin = found.interval(), found.equality_margin()
    bounds = f"[{signed(interval.low)}, {signed(interval.high)}]"
    verdict = f"{names[0]} {words[found.verdict()]} {names[1]}: {signed(found.mean)} points {bounds}"
    if found.verdict() == "cannot tell apart":
        verdict += f", equal within {100 * margin:.1f} points"
    return {
        "verdict": f"{verdict}, {p_value(found.p_value)}",
        "difference": found.mean,
        "low": interval.low,
        "high": interval.high,
        "equal_within": margin,
        "p_value": found.p_value,
        "better": {name: list(ids) for name, ids in zip(names, better, strict=True)},
        "equal": sum(d == 0 for d in difference.values()),
    }


def _card(sample: Sample, held: tuple[Answered, Answered], difference: float, *, of: int) -> Card:
    return Card(
        sample.id,
        str(sample.meta.get("task", "")),
        sample.question.strip(),
        " / ".join(dict.fromkeys(references_of(sample))),
        _pictures(sample, of=of * max(len(sample.images), 1)),
        (held[0].answer or "", held[1].answer or ""),
        (difference > 0, difference < 0),
    )


def _pictures(sample: Sample, *, of: int) -> tuple[str, ...]:
    """Raises RunError when an image cannot be read: it was read to be answered."""
    found = []
    for picture in sample.images:
        try:
            image = picture.open()
        except DataError as error:
            raise RunError(f"sample {sample.id!r}: {error}") from None
        image.thumbnail((512, 512))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        found.append(data_uri(buffer.getvalue(), of=of))
    return tuple(found)


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
