"""From a store's record of a search to the value a report is drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any

from ommatidia.eval.statistics import Comparison, judge
from ommatidia.lab.cost import largest_cost
from ommatidia.lab.jobs.training import TrainingJob
from ommatidia.lab.plan import Plan, TrialPlan, plan_trial
from ommatidia.lab.provenance import arithmetic_of
from ommatidia.lab.report.asked import ablations_of, audit_of, estimate, likeness_of
from ommatidia.lab.report.contributions import contributions
from ommatidia.lab.report.model import (
    BenchmarkInfo,
    Candidate,
    Curve,
    DesignRow,
    ExampleCard,
    GreedyRound,
    Manifest,
    Outcome,
    Reply,
    Report,
    Verdict,
)
from ommatidia.lab.report.numbers import p_value, signed
from ommatidia.lab.search.greedy import RoundRobin
from ommatidia.lab.search.strategy import Strategy
from ommatidia.lab.store import Store
from ommatidia.lab.trial import Trial, average_of, benchmarks_of, best_design, by_design, compare_trials
from ommatidia.train.metrics import read_metrics

_CARDS = 12


def report_of(record: dict[str, Any], trials: Sequence[Trial], store: Store) -> Report:
    """Everything a page shows of one search or run."""
    groups = list(by_design(trials).values())
    working = [group for group in groups if not any(t.error for t in group)]
    most = max((len(group) for group in working), default=1)
    finals = [group for group in working if len(group) == most]
    best = best_design(trials)
    names = _names(groups)
    verdicts = _verdicts(best, working)
    rows = [_row(group, names, verdicts, best, most, record, store) for group in groups]
    strategy = _strategy(record)
    rounds, stop = _rounds(strategy, trials) if isinstance(strategy, RoundRobin) else ((), "")
    audit, unfinished = audit_of(trials, store, names)
    ablations, partial = ablations_of(trials, store, names)
    return Report(
        title=record["name"],
        headline=tuple(_headline(best, finals, names)),
        benchmarks=_benchmarks(best, store),
        designs=tuple(rows),
        manifest=_manifest(record, trials, store),
        rounds=rounds,
        stop_reason=stop,
        contributions=contributions(trials),
        examples=tuple(_examples(working, names, store)),
        warnings=tuple(filter(None, (unfinished, *partial))),
        audit=audit,
        ablations=ablations,
        likeness=likeness_of(trials),
    )


def _strategy(record: dict[str, Any]) -> Strategy | None:
    data = record["definition"].get("strategy")
    return Strategy.parse(data) if data else None


def _names(groups: Sequence[Sequence[Trial]]) -> dict[str, str]:
    """A short name for each design, unique within the report."""
    names: dict[str, str] = {}
    for group in groups:
        recipe = group[0].recipe
        plain = recipe.label()
        name = recipe.name if recipe.name.startswith(plain) else plain
        if name in names.values():
            name = f"{name} [{group[0].design[:6]}]"
        names[group[0].design] = name
    return names


def _verdicts(best: Sequence[Trial], working: Sequence[Sequence[Trial]]) -> dict[str, tuple[Comparison, float, str]]:
    """Every design against the best, paired, with Holm's correction over all of them.

    A design explored with fewer seeds is compared with the best one's runs of those seeds: that says how they differ on
    these questions, and the row is marked as having one seed.
    """
    if not best:
        return {}
    others = [group for group in working if group[0].design != best[0].design]
    found = [compare_trials(group, _of_seeds(best, group)) for group in others]
    judged = judge(found) if found else []
    return {
        group[0].design: (comparison, p, verdict)
        for group, comparison, (p, verdict) in zip(others, found, judged, strict=True)
    }


def _of_seeds(best: Sequence[Trial], group: Sequence[Trial]) -> list[Trial]:
    """The best design's runs with the seeds that the other design has, where there are any."""
    seeds = {trial.recipe.seed for trial in group}
    return [trial for trial in best if trial.recipe.seed in seeds] or list(best)


_OUTCOMES: dict[str, Outcome] = {"better": "ahead", "worse": "behind", "cannot tell apart": "tie"}


def _row(
    group: Sequence[Trial],
    names: dict[str, str],
    verdicts: dict[str, tuple[Comparison, float, str]],
    best: Sequence[Trial],
    most: int,
    record: dict[str, Any],
    store: Store,
) -> DesignRow:
    first = group[0]
    model = first.recipe.model
    row = partial(
        DesignRow,
        key=first.design,
        name=names[first.design],
        encoders=tuple(model.encoders),
        fusion=model.fusion.kind if len(model.encoders) > 1 else "none",  # type: ignore[attr-defined]
        is_blind_model=not model.encoders,
        seeds=tuple(t.recipe.seed for t in group),
        visual_tokens=model.most_visual_tokens,
        command=f"{record['command']}  # row {first.design[:12]}",
    )
    if error := next((t.error for t in group if t.error), None):
        return row(failed=error)
    costs = largest_cost(model, text_tokens=32, head_tokens=4)
    if first.design == best[0].design:
        verdict = Verdict("best")
    else:
        comparison, p, words = verdicts[first.design]
        verdict = Verdict(_OUTCOMES[words], estimate(comparison.interval), p)
    return row(
        final=len(group) == most,
        average=estimate(average_of(group)),
        scores={name: estimate(interval) for name, interval in benchmarks_of(group).items()},
        blind=_blind(group),
        seed_averages={t.recipe.seed: t.average for t in group},
        curves={t.recipe.seed: _curves(plan_trial(t.recipe), store) for t in group},
        versus_best=verdict,
        parameters=sum(c.parameters for c in costs.values()),
        trained_parameters=_trained(plan_trial(first.recipe), store),
        train_flops=mean(t.price.flops for t in group),
        flops_per_sample=sum(c.flops for c in costs.values()),
        train_seconds=mean(t.seconds for t in group),
        checkpoint="model" if first.design == best[0].design else None,
    )


def _blind(group: Sequence[Trial]) -> dict[str, float]:
    """What the same models score without pictures; a model that sees nothing is its own blind score."""
    mode = "blind" if group[0].recipe.model.encoders else "full"
    found: dict[str, list[float]] = {}
    for trial in group:
        for (name, which), scored in trial.scored.items():
            if which == mode:
                found.setdefault(name, []).append(scored.mean)
    return {name: mean(values) for name, values in found.items()}


def _curves(plan: TrialPlan, store: Store) -> tuple[Curve, ...]:
    return tuple(_curve(job, store) for job in plan.training)


def _curve(job: TrainingJob, store: Store) -> Curve:
    reports = read_metrics(job.folder(store) / "metrics.jsonl")
    stage = (
        f"{job.stage.name} {next(iter(job.weights.model.encoders))}" if job.stage.scope == "expert" else job.stage.name
    )
    return Curve(stage, tuple(r.step for r in reports), tuple(r.loss for r in reports))


def _trained(plan: TrialPlan, store: Store) -> int | None:
    """Parameters that the last stage trained; None for a design without stages."""
    if not plan.training:
        return None
    notes = store.record("training", plan.training[-1].key)["notes"]
    return int(notes["trained_parameters"])


def _benchmarks(best: Sequence[Trial], store: Store) -> tuple[BenchmarkInfo, ...]:
    if not best:
        return ()
    galleries = {job.benchmark.name: job for job in plan_trial(best[0].recipe).galleries}
    guesses = {name: store.record(job.kind, job.key)["notes"].get("guess") for name, job in galleries.items()}
    return tuple(BenchmarkInfo(s.benchmark, s.group, s.n, s.scorer, guesses[s.benchmark]) for s in best[0].full)


def _headline(best: Sequence[Trial], finals: Sequence[Sequence[Trial]], names: dict[str, str]) -> list[str]:
    """The verdict in sentences: the best design, its lead over the best single expert, and over seeing nothing."""
    if not best:
        return ["No design finished."]
    whole = average_of(best)
    lines = [
        f"{names[best[0].design]} is best: {100 * whole.mean:.1f} % "
        f"(95 % interval {100 * whole.low:.1f} to {100 * whole.high:.1f}, {_seeds(best)})."
    ]
    mixed = len(best[0].recipe.model.encoders) > 1
    rivals = [g for g in finals if g[0].recipe.model.encoders and (len(g[0].recipe.model.encoders) > 1) != mixed]
    if rivals:
        rival = max(rivals, key=lambda group: mean(t.average for t in group))
        whom = "the best single expert" if mixed else "the best mixture"
        lines.append(_versus(best, rival, f"{whom}, {names[rival[0].design]}"))
    blind = [g for g in finals if not g[0].recipe.model.encoders]
    if blind and blind[0][0].design != best[0].design:
        lines.append(_versus(best, blind[0], "the blind model"))
    return lines


def _versus(best: Sequence[Trial], other: Sequence[Trial], whom: str) -> str:
    found = compare_trials(best, other)
    numbers = (
        f"{signed(found.difference)} points (95 % interval {signed(found.interval.low)} to "
        f"{signed(found.interval.high)}, {p_value(found.p_value)}, {found.interval.n} questions, {_seeds(best)})"
    )
    if found.verdict == "cannot tell apart":
        least = f" (such a comparison finds {100 * found.detectable():.1f} points four times in five)"
        return f"Against {whom}: {numbers}; the two cannot be told apart{least if found.standard_error else ''}."
    return f"Against {whom}: {numbers}."


def _seeds(group: Sequence[Trial]) -> str:
    return "1 seed" if len(group) == 1 else f"{len(group)} seeds"


def _rounds(strategy: RoundRobin, trials: Sequence[Trial]) -> tuple[tuple[GreedyRound, ...], str]:
    path, _ = strategy.rounds(trials)
    done = {trial.recipe.digest(): trial for trial in trials}
    rounds, stop = [], ""
    for number, one in enumerate(path, start=1):
        if one.kept is None:
            stop = one.reason
        if not one.tried:
            continue
        tried = []
        for candidate in one.tried:
            gain = candidate.gain
            change = estimate(gain.interval) if gain else None
            average = estimate(average_of([candidate.trial]))
            tried.append(Candidate(candidate.expert, average, change, candidate.expert == one.kept))
        before = done.get(strategy.design(one.base).digest()) if one.base else None
        base = estimate(average_of([before])) if before else None
        rounds.append(GreedyRound(number, one.base, base, tuple(tried), one.reason))
    return tuple(rounds), stop


def _examples(working: Sequence[Sequence[Trial]], names: dict[str, str], store: Store) -> list[ExampleCard]:
    """Questions from every benchmark's gallery; those that divide the designs come first."""
    if not working:
        return []
    plans = {names[group[0].design]: plan_trial(group[0].recipe) for group in working}
    answered, scores = {}, {}
    for group in working:
        name = names[group[0].design]
        for (benchmark, mode), job in plans[name].predictions.items():
            if mode == "full":
                answered[name, benchmark] = job.answers(store)
                scores[name, benchmark] = {s.id: s.value for s in group[0].scored[benchmark, mode].scores}
    benchmarks = [b.name for b in working[0][0].recipe.benchmarks]
    cards: list[tuple[float, ExampleCard]] = []
    for gallery in next(iter(plans.values())).galleries:
        found = []
        folder, title = gallery.folder(store), gallery.benchmark.name
        for card in json.loads((folder / "cards.json").read_text()):
            replies = {
                name: Reply(answered[name, title][card["id"]], scores[name, title].get(card["id"], 0.0) >= 0.5)
                for name in plans
                if card["id"] in answered.get((name, title), {})
            }
            share = mean(reply.correct for reply in replies.values()) if replies else 0.0
            image = (folder / card["image"]).read_bytes()
            found.append((abs(share - 0.5), ExampleCard(title, card["question"], card["answer"], image, replies)))
        found.sort(key=lambda pair: pair[0])
        cards += found[: max(1, math.ceil(_CARDS / len(benchmarks)))]
    return [card for _, card in cards][:_CARDS]


def _manifest(record: dict[str, Any], trials: Sequence[Trial], store: Store) -> Manifest:
    plan = Plan.of([trial.recipe for trial in trials])
    made = [store.record(job.kind, key) for key, job in plan.jobs.items() if store.has(job.kind, key)]
    about: dict[str, Any] = made[0]["made"] if made else {}
    return Manifest(
        recipe=record["name"],
        command=record["command"],
        date=max((r["made"]["at"] for r in made), default="")[:19],
        version=about.get("ommatidia", ""),
        commits=tuple(sorted({r["made"]["commit"] for r in made if r["made"]["commit"]})),
        python=about.get("python", ""),
        torch=about.get("torch", ""),
        cpu=about.get("machine", ""),
        **arithmetic_of([r["made"] for r in made]),
        store=store.root.name,
        seeds=tuple(sorted({trial.recipe.seed for trial in trials})),
        nodes_executed=len(made),
        nodes_reused=sum(len(trial.jobs()) for trial in plan.trials) - len(plan.jobs),
        flops_spent=plan.price().flops,
        flops_without_sharing=plan.unshared_price().flops,
        node_seconds=sum(r["seconds"] for r in made),
    )
