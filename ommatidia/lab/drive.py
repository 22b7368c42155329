"""What the commands do, from a value to files and a few lines: run, search, evaluate, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ommatidia.core.errors import ConfigError, RunError, unknown
from ommatidia.core.folders import check_replaceable, claim_folder
from ommatidia.lab.analyses import Analysis, analysis_plan
from ommatidia.lab.driven import Driven, Table
from ommatidia.lab.plan import Plan, TrialPlan, plan_trial
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.report.collect import report_of
from ommatidia.lab.report.write import RESULT_FILES, write_report
from ommatidia.lab.run import RunResult, execute, writing
from ommatidia.lab.scoring import as_data, score_table
from ommatidia.lab.search import Search, run_search
from ommatidia.lab.search.search import recall, remember
from ommatidia.lab.store import Store
from ommatidia.lab.trial import Trial, average_of, best_design, collect
from ommatidia.lab.workers import workers
from ommatidia.models.pretrained import copy_saved, drafted, written_before
from ommatidia.train.ranks import ranks, together


def run_recipe(
    recipe: Recipe, store: Store, *, out: Path | None, command: str, report: bool = False, jobs: int = 1
) -> Driven:
    """Train, evaluate and save one recipe, and write its report where asked. Raises RunError when it failed.

    Of several ranks all train; rank 0 does and reports the rest.
    """
    plan = Plan.of([recipe])
    trial_plan = plan.trials[0]
    plan.jobs[trial_plan.checkpoint.key] = trial_plan.checkpoint
    name = f"{recipe.name}-seed{recipe.seed}".replace(" ", "")
    place = _claim(out or Path("runs") / name)
    with writing(store), workers(jobs, store) as several:
        result = execute(plan, store, several)
        trial = collect(trial_plan, store)
        if ranks().leads:
            definition = {"name": name, "recipe": recipe.to_dict()}
            remember(store, name, definition, [trial], result, command)
        if trial.error:
            raise together(RunError(f"{recipe.name}: {trial.error}"))
        if not ranks().leads:
            return Driven()
        folder = _deliver(trial_plan, store, place)
    example = _example(trial_plan, store, folder.parent)
    scores = {f"{name}/{mode}": as_data(one) for (name, mode), one in trial.scored.items()}
    driven = Driven(tables=[score_table(trial.scored)], data={"model": str(folder), "scores": scores})
    page = report_search(store, name, out=folder.parent) if report else f"omma report {name} --store {store.root}"
    driven.lines = [_done(result), f"model:  {folder}", f"report: {page}"]
    driven.lines += [_chat_line(folder, example)]
    return driven


def drive_search(search: Search, store: Store, *, out: Path | None, command: str, jobs: int | None = None) -> Driven:
    """Run a search to its end, save the best model, write the report. ``jobs``: at once, instead of ``search.jobs``."""
    folder = _claim(out or Path("runs") / search.name)
    with writing(store), workers(jobs or search.jobs, store) as several:
        result = run_search(search, store, command=command, workers=several)
        best = best_design(result.trials)[0]
        trial_plan = plan_trial(best.recipe)
        last = execute(Plan([trial_plan], {trial_plan.checkpoint.key: trial_plan.checkpoint}), store)
        if last.failed:
            raise together(RunError(f"the best model could not be saved: {next(iter(last.failed.values()))}"))
        more = execute(analysis_plan(result.trials, search.analyses), store, several)
        if not ranks().leads:
            return Driven()
        model = _deliver(trial_plan, store, folder)
    page = report_search(store, search.name, out=folder)
    example = _example(trial_plan, store, folder)
    driven = Driven(tables=[_ranking(result.trials)])
    driven.lines = [
        _done(result.run),
        *([f"analyses: {_done(more)}"] if search.analyses else []),
        f"best design: {best.recipe.label()}",
        f"model:  {model}",
        f"report: {page}",
        *_more(search, store),
        _chat_line(model, example),
    ]
    driven.data = {
        "best": best.recipe.label(),
        "model": str(model),
        "report": str(page),
        "executed": len(result.run.executed),
        "reused": len(result.run.reused),
        "failed": result.run.failed,
        "flops": result.run.flops,
        "trials": [
            {
                "design": t.recipe.label(),
                "seed": t.recipe.seed,
                "average": t.average if not t.error else None,
                "error": t.error,
            }
            for t in result.trials
        ],
    }
    return driven


def _more(search: Search, store: Store) -> list[str]:
    """The command that makes the analyses which the search did not ask for."""
    wanted = ",".join(analysis for analysis in ("audit", "ablation") if analysis not in search.analyses)
    return [f"more:   omma report {search.name} --with {wanted} --store {store.root}"] if wanted else []


def report_search(store: Store, name: str | None, *, out: Path | None, analyses: Sequence[Analysis] = ()) -> Path:
    """Write the report of a search or run from the store alone, once ``analyses`` have been made where they lack.

    Raises ConfigError for an unknown name or an analysis that no design allows, RunError when one fails.
    """
    known = store.searches()
    if not known:
        raise ConfigError(f"{store.root}: no search or run has been made in this store")
    if name is not None and name not in known:
        raise ConfigError(unknown("search", name, known))
    chosen = name or known[-1]
    record, trials = recall(store, chosen)
    for analysis in analyses:
        if not analysis_plan(trials, [analysis]).jobs:
            lacking = "sees anything" if analysis == "audit" else "has several experts"
            raise ConfigError(f"--with {analysis}: no finished design of {chosen!r} {lacking}")
    if analyses:
        with store.writing():
            made = execute(analysis_plan(trials, analyses), store)
        if made.failed:
            raise RunError(f"{chosen}: {next(iter(made.failed.values()))}")
    return write_report(report_of(record, trials, store), out or Path("runs") / chosen)


def _deliver(trial: TrialPlan, store: Store, folder: Path) -> Path:
    """Put the finished checkpoint where people look for it."""
    with drafted(folder / "model") as draft:
        copy_saved(trial.checkpoint.folder(store) / "model", draft)
    return folder / "model"


def _claim(folder: Path) -> Path:
    """The folder of a result, known to take it before any work is done. Raises ConfigError."""
    if ranks().leads:
        claim_folder(folder, ours=RESULT_FILES)
        check_replaceable(folder / "model", "model", older=written_before(folder / "model"))
    return folder


def _example(trial: TrialPlan, store: Store, folder: Path) -> tuple[Path, str] | None:
    """A picture the model has not been trained on and its question, copied beside the model."""
    for gallery in trial.galleries:
        cards = json.loads((gallery.folder(store) / "cards.json").read_text())
        if cards:
            path = folder / "example.png"
            shutil.copyfile(gallery.folder(store) / cards[0]["image"], path)
            return path, cards[0]["question"].strip()
    return None


def _chat_line(model: Path, example: tuple[Path, str] | None) -> str:
    if example is None:
        return f'try:    omma chat {model} "Hello"'
    return f'try:    omma chat {model} --image {example[0]} "{example[1]}"'


def _done(result: RunResult) -> str:
    failed = f", {len(result.failed)} failed" if result.failed else ""
    return f"{len(result.executed)} nodes done in {result.seconds:.0f} s, {len(result.reused)} reused{failed}"


def _ranking(trials: Sequence[Trial]) -> Table:
    rows = []
    for trial in sorted((t for t in trials if not t.error), key=lambda t: -t.average):
        interval = average_of([trial])
        rows.append(
            [
                trial.recipe.label(),
                trial.recipe.seed,
                f"{100 * trial.average:.1f}",
                f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
                trial.recipe.model.most_visual_tokens,
                f"{trial.price.flops / 1e9:,.0f}",
            ]
        )
    rows += [[t.recipe.label(), t.recipe.seed, "failed", t.error, "", ""] for t in trials if t.error]
    return "designs", ("design", "seed", "average %", "95 % interval", "visual tokens", "training GFLOP"), rows
