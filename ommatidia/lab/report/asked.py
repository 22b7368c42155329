"""From scores under other images, and without some experts, to the values a report shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Attribution
from ommatidia.eval.statistics import Interval as Estimate
from ommatidia.eval.statistics.grouping import components, correlations
from ommatidia.eval.statistics.stability import find_groups
from ommatidia.eval.suites import attribute
from ommatidia.lab.nodes.treatment import AblatedSet, AblationMode
from ommatidia.lab.report.figures.asked import CONDITIONS
from ommatidia.lab.report.model import Ablation, AblationRow, AblationSuite, Audit, AuditRow, Interval, Likeness
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.run.followup import ANALYSES, Analysis, treatment_of
from ommatidia.lab.run.record import AnalysisEntry
from ommatidia.lab.run.trial import Trial, by_design

AVERAGE = "average"
FEWEST = 3
"""Designs, and benchmarks, that a correlation needs."""


def estimate(interval: Estimate) -> Interval:
    """The statistics' interval as the report's."""
    return Interval(interval.mean, interval.low, interval.high)


def audit_row(benchmark: str, found: Attribution, guess: float | None) -> AuditRow:
    """From the scores with images and, as ablations, those in the other conditions."""
    scores = {mode: estimate(found.left.get(mode, found.full)) for mode in CONDITIONS}
    return AuditRow(benchmark, scores, estimate(found.lost["blind"]), guess)


def suites_of(names: Sequence[str]) -> dict[str, list[str]]:
    """What is averaged: each benchmark alone, and all of them where there are several."""
    return {name: [name] for name in names} | ({AVERAGE: list(names)} if len(names) > 1 else {})


def ablation_suite(name: str, found: Attribution, sets: Sequence[AblatedSet]) -> AblationSuite:
    """From the scores of the whole and, as ablations by ``AblatedSet.name``, those without some experts."""
    rows = []
    for one in sets:
        share = found.utilisation[one.name]
        left, lost = estimate(found.left[one.name]), estimate(found.lost[one.name])
        rows.append(AblationRow(one.experts, left, lost, None if share is None else estimate(share)))
    return AblationSuite(name, estimate(found.full), tuple(rows), None if found.gap is None else estimate(found.gap))


def audit_of(trials: Sequence[Trial], reader: NodeReader, names: Mapping[str, str]) -> tuple[Audit | None, str]:
    """The recorded audit of the benchmarks of which the store has all answers, and a warning where some are missing."""
    entry, trial = _recorded(trials, reader, "audit")
    if entry is None or trial is None:
        return None, ""
    read = {(one.benchmark, one.mode): reader.scores(one.node.kind, one.key) for one in entry.answers}
    found = {which: one for which, one in read.items() if one is not None}
    rows = []
    for benchmark, key in trial.entry.galleries.items() if trial.entry else ():
        scored = {mode: [found[benchmark, mode]] for mode in CONDITIONS if (benchmark, mode) in found}
        if len(scored) == len(CONDITIONS):
            rows.append(audit_row(benchmark, attribute(scored.pop("full"), scored, experts=()), guess_of(key, reader)))
    # As Cambrian-1 sorts them: what needs its images least comes first.
    rows.sort(key=lambda row: row.gain.mean)
    audit = Audit(names[trial.design], trial.recipe.seed, tuple(rows)) if rows else None
    return audit, _unfinished("audit", len(read) - len(found), len(read))


def guess_of(gallery: str, reader: NodeReader) -> float | None:
    """What a random guess scores, as the gallery with this key says."""
    node = reader.node("gallery", gallery)
    return None if node is None else node["notes"].get("guess")


def _recorded(
    trials: Sequence[Trial], reader: NodeReader, analysis: Analysis
) -> tuple[AnalysisEntry | None, Trial | None]:
    """What was recorded of an analysis, and the finished trial that it is about."""
    entry = reader.record.analyses.get(analysis)
    asked = (trial for trial in trials if entry is not None and trial.address == entry.trial)
    return entry, next((trial for trial in asked if not trial.error), None)


def ablations_of(
    trials: Sequence[Trial], reader: NodeReader, names: Mapping[str, str]
) -> tuple[tuple[Ablation, ...], tuple[str, ...]]:
    """The recorded ablations of the benchmarks of which the store has all answers, and a warning for each in part."""
    found, warnings = list[Ablation](), list[str]()
    for analysis in ANALYSES:
        entry, trial = _recorded(trials, reader, analysis)
        if analysis == "audit" or entry is None or trial is None:
            continue
        read = {(one.benchmark, one.experts): reader.scores(one.node.kind, one.key) for one in entry.answers}
        scored = {which: one for which, one in read.items() if one is not None}
        warnings.append(_unfinished(analysis, len(read) - len(scored), len(read)))
        whole = _whole_benchmarks(read, scored)
        if whole:
            found.append(_ablation(trial, names, treatment_of(analysis), scored, whole))
    return tuple(found), tuple(filter(None, warnings))


def _whole_benchmarks(asked: Collection[tuple[str, object]], found: Collection[tuple[str, object]]) -> list[str]:
    """The benchmarks of which everything that was asked has been found, in order."""
    torn = {benchmark for benchmark, which in asked if (benchmark, which) not in found}
    return [name for name in dict.fromkeys(benchmark for benchmark, _ in asked) if name not in torn]


def _ablation(
    trial: Trial,
    names: Mapping[str, str],
    treatment: AblationMode,
    scored: Mapping[tuple[str, tuple[str, ...]], Scored],
    shown: Collection[str],
) -> Ablation:
    """Of the benchmarks ``shown``; their average only where they are all of the trial's."""
    whole = {one.benchmark: one for one in trial.full}
    sets = [AblatedSet(treatment, experts) for experts in dict.fromkeys(experts for _, experts in scored)]
    suites = []
    for suite, inside in suites_of(list(whole)).items():
        if not set(inside) <= set(shown):
            continue
        without = {one.name: [scored[name, one.experts] for name in inside] for one in sets}
        single = [one.name for one in sets if len(one.experts) == 1]
        found = attribute([whole[name] for name in inside], without, experts=single)
        suites.append(ablation_suite(suite, found, sets))
    experts = tuple(trial.recipe.model.encoders)
    return Ablation(names[trial.design], trial.recipe.seed, treatment, experts, tuple(suites))


def _unfinished(analysis: str, missing: int, total: int) -> str:
    if not missing:
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
        find_groups(scores_MB).words(f"{len(groups)} designs"),
    )
