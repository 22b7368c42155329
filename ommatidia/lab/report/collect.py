"""From a store's record of a search to the value a report is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from ommatidia.eval.statistics import Comparison, judge
from ommatidia.lab.provenance import arithmetic_of
from ommatidia.lab.record import SearchRecord
from ommatidia.lab.report.asked import ablations_of, audit_of, guess_of, likeness_of
from ommatidia.lab.report.contributions import contributions
from ommatidia.lab.report.examples import examples_of
from ommatidia.lab.report.greedy_path import greedy_rounds
from ommatidia.lab.report.model import BenchmarkInfo, Manifest, Report
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.report.notes import notes_of
from ommatidia.lab.report.numbers import p_value, signed
from ommatidia.lab.report.rows import row_of
from ommatidia.lab.search.greedy import RoundRobin
from ommatidia.lab.search.strategy import Strategy
from ommatidia.lab.store import Store
from ommatidia.lab.trial import Trial, average_of, best_design, by_design, compare_trials, final_designs


def report_of(record: SearchRecord, trials: Sequence[Trial], store: Store) -> Report:
    """Everything a page shows of one search or run, from its record and its nodes alone."""
    reader = NodeReader(store, record)
    groups = list(by_design(trials).values())
    working = [group for group in groups if not any(t.error for t in group)]
    finals = final_designs(working, record.final_seeds)
    best = best_design(trials, seeds=record.final_seeds)
    names = _names(groups)
    verdicts = _verdicts(best, working)
    rows = [row_of(g, reader, name=names[g[0].design], verdicts=verdicts, best=best, final=g in finals) for g in groups]
    strategy = _strategy(record)
    rounds, stop = greedy_rounds(strategy, trials) if isinstance(strategy, RoundRobin) else ((), "")
    audit, unfinished = audit_of(trials, reader, names)
    ablations, partial = ablations_of(trials, reader, names)
    report = Report(
        title=record.name,
        headline=tuple(_headline(best, finals, names)),
        benchmarks=_benchmarks(best, reader),
        designs=tuple(rows),
        manifest=_manifest(reader, trials),
        rounds=rounds,
        stop_reason=stop,
        contributions=contributions(trials),
        examples=tuple(examples_of([group[0] for group in working], names, reader)),
        warnings=tuple(filter(None, (unfinished, *partial, *reader.skipped()))),
        audit=audit,
        ablations=ablations,
        likeness=likeness_of(trials),
    )
    return replace(report, notes=notes_of(reader, trials))


def _strategy(record: SearchRecord) -> Strategy | None:
    data = record.definition.get("strategy")
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


def _benchmarks(best: Sequence[Trial], reader: NodeReader) -> tuple[BenchmarkInfo, ...]:
    """As the best design was asked them; before any design is finished, as they were planned."""
    if not best:
        planned = reader.record.benchmarks.items()
        return tuple(BenchmarkInfo(name, e.group, e.questions, e.scorer) for name, e in planned)
    galleries = best[0].entry.galleries if best[0].entry else {}
    guesses = {name: guess_of(key, reader) for name, key in galleries.items()}
    return tuple(BenchmarkInfo(s.benchmark, s.group, s.n, s.scorer, guesses.get(s.benchmark)) for s in best[0].full)


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


def _manifest(reader: NodeReader, trials: Sequence[Trial]) -> Manifest:
    record = reader.record
    nodes = record.nodes
    made = [node for key, one in nodes.items() if (node := reader.node(one.kind, key)) is not None]
    about: dict[str, Any] = made[0]["made"] if made else {}
    return Manifest(
        recipe=record.name,
        command=record.command,
        date=max((r["made"]["at"] for r in made), default="")[:19],
        version=about.get("ommatidia", ""),
        commits=tuple(sorted({r["made"]["commit"] for r in made if r["made"]["commit"]})),
        python=about.get("python", ""),
        torch=about.get("torch", ""),
        cpu=about.get("machine", ""),
        **arithmetic_of([r["made"] for r in made]),
        store=reader.store.root.name,
        seeds=tuple(sorted({trial.recipe.seed for trial in trials})),
        nodes_executed=len(made),
        nodes_reused=sum(len(entry.nodes) for entry in record.trials) - len(nodes),
        flops_spent=sum(node.flops for node in nodes.values()),
        flops_without_sharing=sum(entry.flops_alone for entry in record.trials),
        node_seconds=sum(r["seconds"] for r in made),
    )
