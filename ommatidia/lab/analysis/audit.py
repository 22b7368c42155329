"""Is the image needed? Every benchmark with its images, without, with blank and with wrong ones, and by guessing.

The protocol of Cambrian-1, section 3.1 (images on, off, random guess), with two conditions between on and off that
tell a model that reads its image from one that merely knows that there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.chance import chance
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Attribution, Interval
from ommatidia.eval.suites import attribute
from ommatidia.lab.analysis.asking import as_json, ask, shown, written
from ommatidia.lab.report.asked import audit_row
from ommatidia.lab.report.figures.asked import CONDITIONS, GUESS, audit_bars
from ommatidia.lab.saved.evaluation import model_digest
from ommatidia.models.pretrained import load
from ommatidia.models.sharing import SharedFeatures


def audit_checkpoint(
    checkpoint: Path, benchmarks: Sequence[BenchmarkConfig], *, out: Path, batch: int = 64, device: str = "cpu"
) -> CommandResult:
    """Ask a model every benchmark in each mode, and compute what guessing would score.

    Answers are kept under ``out``, so that a stopped run goes on; beside them audit.json and audit.svg. Raises
    ConfigError for a model without encoders.
    """
    model, processor = load(checkpoint, device=device)
    if not processor.config.encoders:
        raise ConfigError(f"{checkpoint}: a language model without encoders sees no image in any mode")
    who = model_digest(checkpoint)
    shared = SharedFeatures(model, processor, batch=batch)
    found: dict[str, tuple[Attribution, float]] = {}
    for config in benchmarks:
        benchmark = config.open()
        scored: dict[Mode, Scored] = {}
        for mode in MODES:
            path = out / f"{config.name}.{mode}.jsonl"
            scored[mode] = ask(benchmark, shared, path, who=who, mode=mode)
        others: dict[str, list[Scored]] = {mode: [scored[mode]] for mode in MODES if mode != "full"}
        found[config.name] = attribute([scored["full"]], others, experts=()), chance(benchmark)
    # As Cambrian-1 sorts them: what needs its images least comes first.
    order = sorted(found, key=lambda name: found[name][0].lost["blind"].mean)
    return _told({name: found[name] for name in order}, out, checkpoint)


def _told(found: Mapping[str, tuple[Attribution, float]], out: Path, checkpoint: Path) -> CommandResult:
    data: dict[str, Any] = {"model": str(checkpoint), "benchmarks": {}}
    rows = []
    for name, (each, guess) in found.items():
        scores: dict[str, Interval] = {mode: each.left.get(mode, each.full) for mode in CONDITIONS}
        facts: dict[str, Any] = {mode: asdict(interval) for mode, interval in scores.items()}
        facts |= {"chance": guess, "vision_gain": asdict(each.lost["blind"])}
        facts |= {f"over_{mode}": asdict(lost) for mode, lost in each.lost.items()}
        data["benchmarks"][name] = facts | {"blind_over_chance": each.left["blind"].mean - guess}
        row = [name, *(f"{100 * s.mean:.1f}" for s in scores.values()), f"{100 * guess:.1f}"]
        rows.append([*row, shown(each.lost["blind"]), f"{100 * (each.left['blind'].mean - guess):+.1f}"])
    words = (f"{words} %" for words in (*CONDITIONS.values(), GUESS))
    picture = audit_bars([audit_row(name, each, guess) for name, (each, guess) in found.items()])
    told = CommandResult(data=data)
    told.tables = [("is the image needed", ("benchmark", *words, "vision gain", "blind - guess"), rows)]
    told.lines = [f"written: {path}" for path in written(out, {"audit.json": as_json(data), "audit.svg": picture})]
    return told
