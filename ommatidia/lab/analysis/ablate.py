"""Ablation of experts: what each encoder of a mixture, and each set of them, is worth to every benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Attribution
from ommatidia.eval.suites import attribute
from ommatidia.lab.analysis.asking import as_json, ask, shown, written
from ommatidia.lab.nodes.treatment import AblatedModel, AblatedSet, AblationMode, ablated_sets
from ommatidia.lab.report.asked import ablation_suite, suites_of
from ommatidia.lab.report.figures.asked import ablation_bars
from ommatidia.lab.report.model import Ablation
from ommatidia.lab.saved.evaluation import model_digest
from ommatidia.models.ablation import without
from ommatidia.models.pretrained import load
from ommatidia.models.sharing import SharedFeatures


def ablate_checkpoint(
    checkpoint: Path,
    benchmarks: Sequence[BenchmarkConfig],
    *,
    out: Path,
    treatments: Sequence[AblationMode] = ("zero",),
    most: int | None = None,
    batch: int = 64,
    device: str = "cpu",
) -> CommandResult:
    """Ask a mixture every benchmark with all its experts and with each set of up to ``most`` of them taken away.

    Answers are kept under ``out``, so that a stopped run goes on; beside them ablation.json and an image for each
    treatment. Raises ConfigError for a model that is no mixture, or whose fusion cannot do without an expert.
    """
    model, processor = load(checkpoint, device=device)
    experts = tuple(processor.config.encoders)
    if len(experts) < 2:
        raise ConfigError(
            f"{checkpoint}: {len(experts)} encoder{'s' * (len(experts) != 1)}; only experts inside a mixture can be "
            "taken away. Whether the image is needed at all: omma audit"
        )
    taken = [one for treatment in treatments for one in ablated_sets(experts, treatment, most=most)]
    for one in taken:
        if one.treatment == "remove":
            without(model, processor.config, one.experts)  # refused before hours of asking
    who, scores = model_digest(checkpoint), dict[tuple[str, str], Scored]()
    whole = SharedFeatures(model, processor, batch=batch)
    for config in benchmarks:
        benchmark = config.open()
        treated = AblatedModel(benchmark, whole)
        scores[config.name, ""] = ask(benchmark, whole, out / f"{config.name}.full.jsonl", who=who)
        for one in taken:
            with treated.under(one) as asked:
                path = out / f"{config.name}.{one.stem}.jsonl"
                scores[config.name, one.stem] = ask(benchmark, asked, path, who=f"{who}/{one.stem}")
    names = [config.name for config in benchmarks]
    return _told(names, experts, taken, scores, out, checkpoint)


def _told(
    names: Sequence[str],
    experts: Sequence[str],
    taken: Sequence[AblatedSet],
    scores: Mapping[tuple[str, str], Scored],
    out: Path,
    checkpoint: Path,
) -> CommandResult:
    """Tables, data and images, a treatment at a time."""
    told = CommandResult(data={"model": str(checkpoint), "experts": list(experts), "treatments": {}})
    pictures: dict[str, str] = {}
    for treatment in dict.fromkeys(one.treatment for one in taken):
        sets = [one for one in taken if one.treatment == treatment]
        found = {
            suite: attribute(
                [scores[name, ""] for name in inside],
                {one.name: [scores[name, one.stem] for name in inside] for one in sets},
                experts=[one.name for one in sets if len(one.experts) == 1],
            )
            for suite, inside in suites_of(names).items()
        }
        told.tables.append((f"experts taken away by {treatment}", *_table(found, sets)))
        told.data["treatments"][treatment] = {suite: each.to_dict() for suite, each in found.items()}
        pictures[f"ablation-{treatment}.svg"] = ablation_bars(
            Ablation(
                str(checkpoint), 0, treatment, tuple(experts),
                tuple(ablation_suite(suite, each, sets) for suite, each in found.items()),
            )
        )  # fmt: skip
    paths = written(out, {"ablation.json": as_json(told.data), **pictures})
    told.lines = [f"written: {path}" for path in paths]
    return told


def _table(found: Mapping[str, Attribution], sets: Sequence[AblatedSet]) -> tuple[Sequence[str], list[list[Any]]]:
    rows: list[list[Any]] = []
    for suite, each in found.items():
        rows.append([suite, "nothing", shown(each.full), "", "", shown(each.gap)])
        for one in sets:
            row = [suite, one.name, shown(each.left[one.name]), shown(each.lost[one.name])]
            rows.append([*row, shown(each.utilisation[one.name]), ""])
    columns = ("benchmark", "taken away", "score %", "lost, points", "utilisation %", "information gap %")
    return columns, rows
