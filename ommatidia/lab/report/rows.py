"""From the trials of one design to its row of a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import mean

from ommatidia.eval.statistics.ranking import Adjusted
from ommatidia.lab.report.asked import estimate
from ommatidia.lab.report.model import Curve, DesignRow, Outcome, Verdict
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.report.standing import Standing
from ommatidia.lab.run.trial import Trial
from ommatidia.train.metrics import FILE, read_metrics

_OUTCOMES: dict[str, Outcome] = {"better": "ahead", "worse": "behind", "cannot tell apart": "tie"}


def row_of(
    group: Sequence[Trial], reader: NodeReader, *, name: str, standing: Standing, best: Sequence[Trial], final: bool
) -> DesignRow:
    """One design: what it is, what it scored and what it cost; of a failed one, why."""
    first = group[0]
    model, entry = first.recipe.model, first.entry
    row = partial(
        DesignRow,
        key=first.design,
        name=name,
        encoders=tuple(model.encoders),
        fusion=model.fusion.kind_name() if len(model.encoders) > 1 else "none",
        is_blind_model=not model.encoders,
        seeds=tuple(t.recipe.seed for t in group),
        visual_tokens=entry.visual_tokens if entry else None,
        command=f"{reader.record.command}  # row {first.design[:12]}",
    )
    if error := next((t.error for t in group if t.error), None):
        return row(failed=error)
    is_best = first.design == best[0].design
    return row(
        final=final,
        average=estimate(standing.averages[first.design]),
        scores={name: estimate(interval) for name, interval in standing.benchmarks[first.design].items()},
        blind=_blind(group),
        seed_averages={t.recipe.seed: t.average for t in group},
        curves={t.recipe.seed: _curves(t, reader) for t in group},
        versus_best=Verdict("best") if is_best else _verdict(standing.against_best.get(first.design)),
        parameters=entry.parameters if entry else None,
        trained_parameters=_trained(first, reader),
        train_flops=mean(t.price.flops for t in group),
        flops_per_sample=entry.flops_per_sample if entry else None,
        train_seconds=mean(t.seconds for t in group),
        checkpoint="model" if is_best else None,
    )


def _verdict(found: Adjusted | None) -> Verdict:
    """Against the best design; None for a design that was asked other questions."""
    if found is None:
        return Verdict("tie", text="asked other questions")
    outcome = _OUTCOMES[found.verdict]
    margin = found.estimate.equality_margin() if outcome == "tie" else None
    return Verdict(outcome, estimate(found.interval), found.p_value, equal_within=margin)


def _blind(group: Sequence[Trial]) -> dict[str, float]:
    """What the same models score without images; a model that sees nothing is its own blind score."""
    mode = "blind" if group[0].recipe.model.encoders else "full"
    found: dict[str, list[float]] = {}
    for trial in group:
        for (name, which), scored in trial.scored.items():
            if which == mode:
                found.setdefault(name, []).append(scored.mean)
    return {name: mean(values) for name, values in found.items()}


def _curves(trial: Trial, reader: NodeReader) -> tuple[Curve, ...]:
    found = []
    for stage in trial.entry.training if trial.entry else ():
        path = reader.file("training", stage.key, FILE)
        reports = read_metrics(path) if path else []
        found.append(Curve(stage.name, tuple(r.step for r in reports), tuple(r.loss for r in reports)))
    return tuple(found)


def _trained(trial: Trial, reader: NodeReader) -> int | None:
    """Parameters that the last stage trained; None for a design without stages."""
    if trial.entry is None or not trial.entry.training:
        return None
    node = reader.node("training", trial.entry.training[-1].key)
    return None if node is None else int(node["notes"]["trained_parameters"])
