"""What a search's report can hold beside its scores: the jobs behind it, of the design that was found best.

Benchmarks by likeness need no job: they come from the scores of all designs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.lab.jobs.ablation import AblationJob
from ommatidia.lab.jobs.prediction import PredictionJob
from ommatidia.lab.plan import Plan, TrialPlan, plan_trial
from ommatidia.lab.treatment import Treatment, takings
from ommatidia.lab.trial import Trial, best_design

Analysis = Literal["audit", "ablation", "ablation:mean", "ablation:shuffle", "ablation:remove"]
"""audit: asked with gray and with wrong pictures too. ablation: without each set of experts, zeroed as published or
treated otherwise."""

ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


def read_analyses(names: str) -> tuple[Analysis, ...]:
    """Analyses by name, comma-separated. Raises ConfigError."""
    given = [name.strip() for name in names.split(",")]
    for name in given:
        if name not in ANALYSES:
            raise ConfigError(f"--with: {unknown('analysis', name, ANALYSES)}")
    return tuple(dict.fromkeys(cast("list[Analysis]", given)))


def audited(trials: Sequence[Trial]) -> TrialPlan | None:
    """The best design, in its first seed, when it sees something."""
    best = best_design(trials)
    return plan_trial(best[0].recipe) if best and best[0].recipe.model.encoders else None


def ablated(trials: Sequence[Trial]) -> TrialPlan | None:
    """The best mixture, in its first seed."""
    best = best_design(trials, mixtures=True)
    return plan_trial(best[0].recipe) if best else None


def audit_jobs(trial: TrialPlan) -> dict[tuple[str, Mode], PredictionJob]:
    """Answers in every mode, by benchmark. Gray pictures are not among those whose features are stored."""
    found: dict[tuple[str, Mode], PredictionJob] = {}
    for benchmark in trial.recipe.benchmarks:
        full = trial.predictions[benchmark.name, "full"]
        bare = replace(full.weights, features=())
        for mode in MODES:
            seen = full.weights if mode in ("full", "shuffled") else bare
            found[benchmark.name, mode] = replace(full, mode=mode, weights=seen)
    return found


def ablation_jobs(trial: TrialPlan, treatment: Treatment) -> dict[tuple[str, str], AblationJob]:
    """Answers without each set of experts, by benchmark and ``Taken.name``."""
    found = {}
    for benchmark in trial.recipe.benchmarks:
        full = trial.predictions[benchmark.name, "full"]
        for taken in takings(tuple(trial.recipe.model.encoders), treatment):
            job = AblationJob(full.weights, benchmark, "full", full.batch, full.device, full.threads, taken)
            found[benchmark.name, taken.name] = job
    return found


def treatment_of(analysis: Analysis) -> Treatment:
    """How an ablation takes experts away."""
    return cast(Treatment, analysis.partition(":")[2] or "zero")


def analysis_plan(trials: Sequence[Trial], analyses: Sequence[Analysis]) -> Plan:
    """The jobs of these analyses, and what they need, merged by key. An analysis without a subject has none."""
    plan = Plan()
    for analysis in analyses:
        jobs: list[PredictionJob] = []
        if analysis == "audit" and (seeing := audited(trials)):
            jobs += audit_jobs(seeing).values()
        elif analysis != "audit" and (mixture := ablated(trials)):
            jobs += ablation_jobs(mixture, treatment_of(analysis)).values()
        for job in jobs:
            plan.add(job)
    return plan
