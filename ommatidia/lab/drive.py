"""What the commands do, from a value to files and a few lines: run, search, evaluate, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult, Table
from ommatidia.core.console import console, shell_line
from ommatidia.core.errors import ConfigError, DesignsFailedError, RunError, unknown
from ommatidia.core.folders import check_replaceable
from ommatidia.core.names import fit_name
from ommatidia.core.outside_parts import import_options
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.report.collect import report_of
from ommatidia.lab.report.write import claim_results, write_report
from ommatidia.lab.run.execute import RunResult, check_missing, execute, writing
from ommatidia.lab.run.followup import Analysis, is_made, make_analyses, possible, scored_again, subject_of
from ommatidia.lab.run.plan import Plan, TrialPlan, plan_trial
from ommatidia.lab.run.preflight import check_inputs, check_writable
from ommatidia.lab.run.record import save_record
from ommatidia.lab.run.recorder import Recorder
from ommatidia.lab.run.trial import Trial, average_of, best_design, collect
from ommatidia.lab.run.workers import workers
from ommatidia.lab.saved.scoring import as_data, score_table
from ommatidia.lab.search import Search, run_search
from ommatidia.lab.search.search import recall, scores_of_plan
from ommatidia.models.pretrained import copy_saved, drafted, written_before
from ommatidia.train.engine import Destination
from ommatidia.train.ranks import raise_on_all, ranks
from ommatidia.train.tracking import Tracking, check_trackers


def run_recipe(
    recipe: Recipe,
    store: Store,
    *,
    out: Path | None,
    command: str,
    report: bool = False,
    jobs: int = 1,
    track: Sequence[Destination] = (),
) -> CommandResult:
    """Train, evaluate and save one recipe, and write its report where asked.

    Curves of its trainings go to ``track``, below the folder of the result. Of several ranks all train; rank 0 does and
    reports the rest. Raises DesignsFailedError when it failed.
    """
    name = fit_name(f"{recipe.name}-seed{recipe.seed}".replace(" ", ""))
    folder = out or Path("runs") / name
    check_inputs([recipe], *_claims(folder, track)).finish()
    plan = Plan.of([recipe])
    trial_plan = plan.trials[0]
    plan.jobs[trial_plan.checkpoint.key] = trial_plan.checkpoint
    with writing(store), workers(jobs, store) as several:
        checked = check_missing(plan, store, out=folder)
        definition = {"name": name, "recipe": recipe.to_dict()}
        recorder = Recorder.begin(store, name, command=command, definition=definition)
        entries = recorder.plan(plan.trials)
        result = execute(plan, store, several, checked=checked, tracking=_tracking(folder, track))
        recorder.carry_out(entries, scores_of_plan(plan, store), result)
        recorder.finish()
        trial = collect(entries[0], store, recorder.record.scores)
        if trial.error:
            traces = store.traces(result.failed)
            raise raise_on_all(DesignsFailedError(f"{recipe.name}: {trial.error}; traceback: {traces}"))
        if not ranks().leads:
            return CommandResult()
        model = _deliver(trial_plan, store, folder)
    example = _example(trial_plan, store, folder)
    scores = {f"{name}/{mode}": as_data(one) for (name, mode), one in trial.scored.items()}
    driven = CommandResult(tables=[score_table(trial.scored)], data={"model": str(model), "scores": scores})
    again = shell_line("omma", "report", name, "--store", store.root, *import_options(recipe))
    page = report_search(store, name, out=folder) if report else again
    driven.lines = [_done(result), f"model:  {model}", f"report: {page}"]
    driven.lines += [_chat_line(model, example, recipe)]
    return driven


def drive_search(
    search: Search,
    store: Store,
    *,
    out: Path | None,
    command: str,
    jobs: int | None = None,
    track: Sequence[Destination] = (),
) -> CommandResult:
    """Run a search to its end, save the best model, write the report. ``jobs``: at once, instead of ``search.jobs``.

    Curves of the trainings go to ``track``, below the folder of the report. Where designs failed, the status is 3 and
    the last lines say where their tracebacks lie. Raises DesignsFailedError when all did.
    """
    folder = out or Path("runs") / search.name
    with writing(store), workers(jobs or search.jobs, store) as several:
        claims, tracking = _claims(folder, track), _tracking(folder, track)
        result = run_search(
            search, store, command=command, workers=several, out=folder, tracking=tracking, first=claims
        )
        best = best_design(result.trials, result.record.seeds)[0]
        trial_plan = plan_trial(best.recipe)
        last = execute(Plan([trial_plan], {trial_plan.checkpoint.key: trial_plan.checkpoint}), store)
        if last.failed:
            raise raise_on_all(RunError(f"the best model could not be saved: {next(iter(last.failed.values()))}"))
        analyses = possible(result.trials, search.analyses, result.record.seeds)
        _, more = make_analyses(result.record, result.trials, analyses, store, several)
        if not ranks().leads:
            return CommandResult()
        model = _deliver(trial_plan, store, folder)
    page = report_search(store, search.name, out=folder)
    example = _example(trial_plan, store, folder)
    driven = CommandResult(tables=[_ranking(result.trials)])
    driven.lines = [
        _done(result.run),
        *([f"analyses: {_done(more)}"] if search.analyses else []),
        f"best design: {best.recipe.label()}",
        f"model:  {model}",
        f"report: {page}",
        *_more(search, store),
        _chat_line(model, example, best.recipe),
        *_failures([t.error for t in result.trials if t.error], result.run.failed | more.failed, store),
    ]
    driven.status = DesignsFailedError.status if result.run.failed or more.failed else 0
    driven.data = {
        "best": best.recipe.label(),
        "model": str(model),
        "report": str(page),
        "executed": len(result.run.executed),
        "reused": len(result.run.reused),
        "failed": result.run.failed,
        "tracebacks": {key: str(path) for key in result.run.failed if (path := store.trace(key)).is_file()},
        "flops": result.run.flops,
        "trials": [_trial_data(trial) for trial in result.trials],
    }
    return driven


def _trial_data(trial: Trial) -> dict[str, Any]:
    """JSON-ready data of one trial."""
    average = trial.average if not trial.error else None
    return {"design": trial.recipe.label(), "seed": trial.recipe.seed, "average": average, "error": trial.error}


def _tracking(folder: Path, track: Sequence[Destination]) -> Tracking | None:
    return Tracking(folder / "tracking", tuple(track)) if track else None


def _failures(errors: Sequence[str], failed: Mapping[str, str], store: Store) -> list[str]:
    """How many designs failed, and where the tracebacks of what failed by itself lie."""
    if not failed:
        return []
    paths = [path for key in failed if (path := store.trace(key)).is_file()]
    return [f"failed: {len(errors)} designs, exit status {DesignsFailedError.status}; tracebacks:", *map(str, paths)]


def _more(search: Search, store: Store) -> list[str]:
    """The command that makes the analyses which the search did not ask for."""
    wanted = ",".join(analysis for analysis in ("audit", "ablation") if analysis not in search.analyses)
    options = ("--with", wanted, "--store", store.root, *import_options(search))
    return ["more:   " + shell_line("omma", "report", search.name, *options)] if wanted else []


def report_search(
    store: Store,
    name: str | None,
    *,
    out: Path | None,
    analyses: Sequence[Analysis] = (),
    rescore: bool = False,
    replace: bool = False,
) -> Path:
    """Write the report of a search or run from its record and its nodes.

    ``analyses`` that the store lacks are made first; ``rescore`` first scores all answers again with today's scorers
    and judge, which needs the data. Without either the store is only read. ``replace``: also a page that shows more.

    Raises ConfigError for an unknown name or an analysis that no design allows, RunError when one fails, when the data
    for scoring are gone, or when the page in place shows more.
    """
    known = store.searches()
    if not known:
        raise ConfigError(f"{store.root}: no search or run has been made in this store")
    if name is not None and name not in known:
        raise ConfigError(unknown("search", name, known))
    chosen = name or known[-1]
    folder = out or Path("runs") / chosen
    check_writable(folder)
    record, trials = recall(store, chosen)
    if rescore:
        with store.writing():
            save_record(scored_again(record, store), store)
        record, trials = recall(store, chosen)
    for analysis in analyses:
        if subject_of(trials, analysis, record.seeds) is None:
            lacking = "sees anything" if analysis == "audit" else "has several experts"
            raise ConfigError(f"--with {analysis}: no finished design of {chosen!r} {lacking}")
    if not all(is_made(record, trials, analysis, store) for analysis in analyses):
        with store.writing():
            record, made = make_analyses(record, trials, analyses, store)
        if made.failed:
            raise RunError(f"{chosen}: {next(iter(made.failed.values()))}")
    report = report_of(record, trials, store)
    for note in report.notes:
        console().warn(note)
    return write_report(report, folder, replace=replace)


def _deliver(trial: TrialPlan, store: Store, folder: Path) -> Path:
    """Put the finished checkpoint where people look for it."""
    with drafted(folder / "model") as draft:
        copy_saved(trial.checkpoint.folder(store) / "model", draft)
    return folder / "model"


def _claims(folder: Path, track: Sequence[Destination]) -> tuple[Callable[[], None], ...]:
    """What is tried before any work is done: whether the folder takes a result, and the packages of trackers."""
    return lambda: _claim(folder), lambda: check_trackers(track)


def _claim(folder: Path) -> None:
    """See that the folder of a result takes it. Raises ConfigError or RunError."""
    if ranks().leads:
        check_writable(folder)
        claim_results(folder)
        check_replaceable(folder / "model", "model", older=written_before(folder / "model"))


def _example(trial: TrialPlan, store: Store, folder: Path) -> tuple[Path, str] | None:
    """An image the model has not been trained on and its question, copied beside the model."""
    for gallery in trial.galleries:
        cards = json.loads((gallery.folder(store) / "cards.json").read_text())
        if cards:
            path = folder / "example.png"
            shutil.copyfile(gallery.folder(store) / cards[0]["image"], path)
            return path, cards[0]["question"].strip()
    return None


def _chat_line(model: Path, example: tuple[Path, str] | None, recipe: Recipe) -> str:
    asked = ("Hello",) if example is None else ("--image", example[0], example[1])
    return "try:    " + shell_line("omma", "chat", model, *asked, *import_options(recipe.model))


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
