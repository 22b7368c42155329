"""What a search's report can hold beside its scores: the jobs behind it, of the design that was found best.

Benchmarks by likeness need no job: they come from the scores of all designs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, RunError, unknown
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.lab.nodes.ablation import AblationJob
from ommatidia.lab.nodes.job import Finding
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.scores import scores_of_today
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.treatment import AblationMode, ablated_sets
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import RunResult, execute
from ommatidia.lab.run.plan import Plan, TrialPlan, plan_trial
from ommatidia.lab.run.record import ANY_SEEDS, AnalysisEntry, SearchRecord, SearchSeeds, save_record
from ommatidia.lab.run.recorder import record_analysis, record_benchmark
from ommatidia.lab.run.trial import Trial, best_design
from ommatidia.lab.run.workers import Workers
from ommatidia.models.ablation import check_without
from ommatidia.train.ranks import ranks

Analysis = Literal["audit", "ablation", "ablation:mean", "ablation:shuffle", "ablation:remove"]
"""audit: asked with gray and with wrong images too. ablation: without each set of experts, zeroed as published or
treated otherwise."""

ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


def read_analyses(names: str) -> tuple[Analysis, ...]:
    """Analyses by name, comma-separated. Raises ConfigError."""
    given = [name.strip() for name in names.split(",")]
    for name in given:
        if name not in ANALYSES:
            raise ConfigError(f"--with: {unknown('analysis', name, ANALYSES)}")
    return tuple(dict.fromkeys(cast("list[Analysis]", given)))


def subject_of(trials: Sequence[Trial], analysis: Analysis, seeds: SearchSeeds = ANY_SEEDS) -> Trial | None:
    """Whom an analysis asks: the best design that sees, or for an ablation the best mixture, in its first seed."""
    best = best_design(trials, seeds, mixtures=analysis != "audit")
    return best[0] if best and best[0].recipe.model.encoders else None


def audit_jobs(trial: TrialPlan) -> dict[tuple[str, Mode], PredictionJob]:
    """Answers in every mode, by benchmark. Gray images are not among those whose features are stored."""
    found: dict[tuple[str, Mode], PredictionJob] = {}
    for benchmark in trial.recipe.benchmarks:
        full = trial.predictions[benchmark.name, "full"]
        bare = replace(full.weights, features=())
        for mode in MODES:
            seen = full.weights if mode in ("full", "shuffled") else bare
            found[benchmark.name, mode] = replace(full, mode=mode, weights=seen)
    return found


def ablation_jobs(trial: TrialPlan, treatment: AblationMode) -> dict[tuple[str, str], AblationJob]:
    """Answers without each set of experts, by benchmark and ``AblatedSet.name``."""
    found = {}
    for benchmark in trial.recipe.benchmarks:
        full = trial.predictions[benchmark.name, "full"]
        for taken in ablated_sets(tuple(trial.recipe.model.encoders), treatment):
            job = AblationJob(full.weights, benchmark, "full", full.batch, full.device, full.threads, taken)
            found[benchmark.name, taken.name] = job
    return found


def treatment_of(analysis: Analysis) -> AblationMode:
    """How an ablation takes experts away."""
    return cast(AblationMode, analysis.partition(":")[2] or "zero")


def analysis_jobs(trial: TrialPlan, analysis: Analysis) -> list[PredictionJob]:
    """The answers that an analysis of a planned recipe rests on."""
    if analysis == "audit":
        return list(audit_jobs(trial).values())
    return list(ablation_jobs(trial, treatment_of(analysis)).values())


def removal_findings(recipes: Sequence[Recipe], analyses: Sequence[Analysis]) -> Iterator[Finding]:
    """Mixtures that cannot do without one of their experts, where that is to be asked of the best of them.

    An error where it holds for all: whichever is best, the analysis would end so after all trainings.
    """
    if "ablation:remove" not in analyses:
        return
    faults: dict[str, ConfigError] = {}
    mixtures = {recipe.model.digest(): recipe for recipe in recipes if len(recipe.model.encoders) > 1}
    for address, recipe in mixtures.items():
        try:
            for name in recipe.model.encoders:
                check_without(recipe.model, [name])
        except ConfigError as error:
            faults[address] = error
    if faults:
        address, fault = next(iter(faults.items()))
        told = (
            f"analyses: ablation:remove: {len(faults)} of {len(mixtures)} mixtures cannot do without an expert; "
            f"{mixtures[address].label()}: {fault}"
        )
        yield Finding.of(ConfigError(told)) if len(faults) == len(mixtures) else Finding(told)


def possible(trials: Sequence[Trial], analyses: Sequence[Analysis], seeds: SearchSeeds = ANY_SEEDS) -> list[Analysis]:
    """The analyses that the design found best allows; which it does not is said."""
    found = []
    for analysis in analyses:
        subject = subject_of(trials, analysis, seeds)
        refused = [] if subject is None else list(removal_findings([subject.recipe], [analysis]))
        for one in refused:
            console().warn(f"left out: {one.text}")
        if not refused:
            found.append(analysis)
    return found


def is_made(record: SearchRecord, trials: Sequence[Trial], analysis: Analysis, store: Store) -> bool:
    """Whether the record names this analysis of its subject and the store has all its answers."""
    subject, entry = subject_of(trials, analysis, record.seeds), record.analyses.get(analysis)
    if subject is None or entry is None or entry.trial != subject.address:
        return False
    return all(store.has(one.node.kind, one.key) for one in entry.answers)


def make_analyses(
    record: SearchRecord,
    trials: Sequence[Trial],
    analyses: Sequence[Analysis],
    store: Store,
    workers: Workers | None = None,
) -> tuple[SearchRecord, RunResult]:
    """Carry out the analyses that the store lacks, and record which answers they rest on. The caller holds the store.

    An analysis without a subject is left out; one that is recorded and finished is not planned again. What an earlier
    analysis of the same name rests on stays recorded until the new one is done.
    """
    plan, entries = Plan(), dict[str, AnalysisEntry]()
    asked: list[PredictionJob] = []
    for analysis in analyses:
        subject = subject_of(trials, analysis, record.seeds)
        if subject is None or is_made(record, trials, analysis, store):
            continue
        planned = plan_trial(subject.recipe)
        _check_unchanged(analysis, subject, planned)
        jobs = analysis_jobs(planned, analysis)
        entries[analysis] = record_analysis(subject.address, jobs)
        asked += jobs
        for job in jobs:
            plan.add(job)
    if not entries:
        return record, RunResult()
    record = _saved(record.model_copy(update={"analyses": entries | record.analyses}), store)
    made = execute(plan, store, workers)
    done = {name: entry for name, entry in entries.items() if not any(one.key in made.failed for one in entry.answers)}
    record = _saved(record.model_copy(update={"analyses": record.analyses | done}), store)
    if ranks().leads:
        today = scores_of_today(((job.benchmark, job.kind, job.key) for job in asked), store)
        kept = {key: document for key, document in record.scores.items() if key not in {job.key for job in asked}}
        record = _saved(record.model_copy(update={"scores": kept | today}), store)
    return record, made


def _check_unchanged(analysis: Analysis, subject: Trial, planned: TrialPlan) -> None:
    """Raises RunError where the subject would be trained or asked otherwise today: it would be another model's analysis
    on this one's page."""
    keys = {f"{name}/{mode}": job.key for (name, mode), job in planned.predictions.items()}
    if subject.entry is not None and subject.entry.predictions != keys:
        raise RunError(
            f"{analysis}: {subject.recipe.label()}, seed {subject.recipe.seed}, would be trained or asked otherwise "
            "today: its data, weights or versions of nodes have changed since; run the search again first"
        )


def _saved(record: SearchRecord, store: Store) -> SearchRecord:
    if ranks().leads:
        save_record(record, store)
    return record


def scored_again(record: SearchRecord, store: Store) -> SearchRecord:
    """The record with all its finished answers scored by today's scorers and judge. The caller holds the store.

    Raises RunError where the data are gone or ask other questions now; the record then stays as it was.
    """
    answers: dict[str, tuple[BenchmarkConfig, str, str]] = {}
    benchmarks = record.benchmarks
    for trial in record.trials:
        recipe = Recipe.parse(trial.recipe)
        asked = {benchmark.name: benchmark for benchmark in recipe.benchmarks}
        for name, key in trial.predictions.items():
            answers[key] = asked[name.rpartition("/")[0]], trial.nodes[key].kind, key
        for entry in (one for one in record.analyses.values() if one.trial == trial.address):
            answers |= {one.key: (asked[one.benchmark], one.node.kind, one.key) for one in entry.answers}
        benchmarks = benchmarks | {
            name: record_benchmark(one, benchmarks[name].questions) for name, one in asked.items() if name in benchmarks
        }
    scores = scores_of_today(answers.values(), store)
    console().log(f"{record.name}: {len(scores)} of {len(answers)} sets of answers have scores made again")
    return record.model_copy(update={"scores": scores, "benchmarks": benchmarks})
