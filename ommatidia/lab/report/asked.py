"""From scores under other pictures, and without some experts, to the values a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Attribution, attribution
from ommatidia.eval.statistics import Interval as Estimate
from ommatidia.eval.statistics.grouping import components, correlations
from ommatidia.lab.analyses import ANALYSES, ablated, ablation_jobs, audit_jobs, audited, treatment_of
from ommatidia.lab.jobs.prediction import PredictionJob
from ommatidia.lab.plan import TrialPlan
from ommatidia.lab.report.figures.asked import CONDITIONS
from ommatidia.lab.report.model import Ablation, AblationRow, AblationSuite, Audit, AuditRow, Interval, Likeness
from ommatidia.lab.store import Store
from ommatidia.lab.treatment import Taken
from ommatidia.lab.trial import Trial, by_design

AVERAGE = "average"
FEWEST = 3
"""Designs, and benchmarks, that a correlation needs."""


def estimate(interval: Estimate) -> Interval:
    """The statistics' interval as the report's."""
    return Interval(interval.mean, interval.low, interval.high)


def audit_row(benchmark: str, found: Attribution, guess: float | None) -> AuditRow:
    """From the scores with pictures and, as ablations, those in the other conditions."""
    scores = {mode: estimate(found.left.get(mode, found.full)) for mode in CONDITIONS}
    return AuditRow(benchmark, scores, estimate(found.lost["blind"]), guess)


def suites_of(names: Sequence[str]) -> dict[str, list[str]]:
    """What is averaged: each benchmark alone, and all of them where there are several."""
    return {name: [name] for name in names} | ({AVERAGE: list(names)} if len(names) > 1 else {})


def ablation_suite(name: str, found: Attribution, sets: Sequence[Taken]) -> AblationSuite:
    """From the scores of the whole and, as ablations by ``Taken.name``, those without some experts."""
    rows = []
    for one in sets:
        share = found.utilisation[one.name]
        left, lost = estimate(found.left[one.name]), estimate(found.lost[one.name])
        rows.append(AblationRow(one.experts, left, lost, None if share is None else estimate(share)))
    return AblationSuite(name, estimate(found.full), tuple(rows), None if found.gap is None else estimate(found.gap))


def audit_of(trials: Sequence[Trial], store: Store, names: Mapping[str, str]) -> tuple[Audit | None, str]:
    """The best design's audit where the store has it; else None, and a warning where it has some of it."""
    trial = audited(trials)
    if trial is None:
        return None, ""
    jobs = audit_jobs(trial)
    extra = [job for (_, mode), job in jobs.items() if mode in ("blank", "shuffled")]
    if missing := _missing(extra, store):
        return None, _unfinished("audit", missing, len(extra))
    rows = []
    for gallery in trial.galleries:
        name = gallery.benchmark.name
        scored = {mode: [jobs[name, mode].scored(store)] for mode in CONDITIONS}  # type: ignore[index]
        found = attribution(scored.pop("full"), scored, experts=())
        guess = store.record(gallery.kind, gallery.key)["notes"].get("guess")
        rows.append(audit_row(name, found, guess))
    # As Cambrian-1 sorts them: what needs its pictures least comes first.
    rows.sort(key=lambda row: row.gain.mean)
    return Audit(names[trial.recipe.design()], trial.recipe.seed, tuple(rows)), ""


def ablations_of(
    trials: Sequence[Trial], store: Store, names: Mapping[str, str]
) -> tuple[tuple[Ablation, ...], tuple[str, ...]]:
    """The best mixture's ablations that the store has, and a warning for each that it has in part."""
    trial, found, warnings = ablated(trials), list[Ablation](), list[str]()
    for analysis in ANALYSES if trial else ():
        if analysis == "audit" or trial is None:
            continue
        treatment = treatment_of(analysis)
        jobs = ablation_jobs(trial, treatment)
        if missing := _missing(list(jobs.values()), store):
            warnings.append(_unfinished(analysis, missing, len(jobs)))
            continue
        scored = {which: job.scored(store) for which, job in jobs.items()}
        sets = list(dict.fromkeys(job.taken for job in jobs.values()))
        found.append(_ablation(trial, store, names, treatment, scored, sets))
    return tuple(found), tuple(filter(None, warnings))


def _ablation(
    trial: TrialPlan,
    store: Store,
    names: Mapping[str, str],
    treatment: str,
    scored: Mapping[tuple[str, str], Scored],
    sets: Sequence[Taken],
) -> Ablation:
    whole = {b.name: trial.predictions[b.name, "full"].scored(store) for b in trial.recipe.benchmarks}
    suites = []
    for suite, inside in suites_of(list(whole)).items():
        without = {one.name: [scored[name, one.name] for name in inside] for one in sets}
        single = [one.name for one in sets if len(one.experts) == 1]
        found = attribution([whole[name] for name in inside], without, experts=single)
        suites.append(ablation_suite(suite, found, sets))
    experts = tuple(trial.recipe.model.encoders)
    return Ablation(names[trial.recipe.design()], trial.recipe.seed, treatment, experts, tuple(suites))


def _missing(jobs: Sequence[PredictionJob], store: Store) -> int:
    return sum(not (job.folder(store) / "node.json").is_file() for job in jobs)


def _unfinished(analysis: str, missing: int, total: int) -> str:
    """Empty where nothing was asked at all."""
    if missing == total:
        return ""
    return f"The {analysis} lacks {missing} of its {total} nodes: omma report --with {analysis} makes them."


def likeness_of(trials: Sequence[Trial]) -> Likeness | None:
    """How benchmarks go together over the designs that see, each by the mean of its seeds; None for too few."""
    groups = [g for g in by_design([t for t in trials if not t.error]).values() if g[0].recipe.model.encoders]
    if len(groups) < FEWEST:
        return None
    listed = [scored.benchmark for scored in groups[0][0].full]
    if any([s.benchmark for s in trial.full] != listed for group in groups for trial in group):
        return None
    scores_MB = np.array([np.mean([[s.mean for s in trial.full] for trial in group], axis=0) for group in groups])
    varied_B = np.ptp(scores_MB, axis=0) > 0
    kept = [name for name, varied in zip(listed, varied_B, strict=True) if varied]
    if len(kept) < FEWEST:
        return None
    scores_MB = scores_MB[:, varied_B]
    found = components(scores_MB)
    return Likeness(
        tuple(kept),
        len(groups),
        tuple(tuple(row) for row in correlations(scores_MB).tolist()),
        tuple(tuple(row) for row in found.places_BC.tolist()),
        tuple(found.explained_C.tolist()),
        tuple(name for name in listed if name not in kept),
    )
