"""From a store's record of a search to the value a report is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ommatidia.core.outside_parts import require_parts
from ommatidia.lab.nodes.provenance import arithmetic_of
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.report.asked import ablations_of, audit_of, guess_of, likeness_of
from ommatidia.lab.report.contributions import contributions
from ommatidia.lab.report.examples import examples_of
from ommatidia.lab.report.greedy_path import greedy_rounds
from ommatidia.lab.report.headline import headline, vocabulary
from ommatidia.lab.report.model import BenchmarkInfo, Manifest, Report
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.report.notes import notes_of
from ommatidia.lab.report.rows import row_of
from ommatidia.lab.report.standing import standing_of
from ommatidia.lab.run.record import SearchRecord
from ommatidia.lab.run.trial import Trial, best_design, by_design, comparable, final_designs
from ommatidia.lab.search.greedy import RoundRobin
from ommatidia.lab.search.strategy import Strategy


def report_of(record: SearchRecord, trials: Sequence[Trial], store: Store) -> Report:
    """Everything a page shows of one search or run, from its record and its nodes alone."""
    reader = NodeReader(store, record)
    trials, unlike = comparable(trials)
    groups = list(by_design(trials).values())
    working = [group for group in groups if not any(t.error for t in group)]
    finals = final_designs(working, record.seeds)
    best = best_design(trials, record.seeds)
    names = _names(groups)
    standing = standing_of(working, finals, best, record.seeds.choosing)
    rows = [row_of(g, reader, name=names[g[0].design], standing=standing, best=best, final=g in finals) for g in groups]
    strategy = _strategy(record)
    rounds, stop = greedy_rounds(strategy, trials) if isinstance(strategy, RoundRobin) else ((), "")
    audit, unfinished = audit_of(trials, reader, names)
    ablations, partial = ablations_of(trials, reader, names)
    report = Report(
        title=record.name,
        headline=tuple(headline(best, finals, standing, names)),
        vocabulary=vocabulary(standing, 1 + len(standing.against_best), record.seeds.choosing) if best else (),
        benchmarks=_benchmarks(best, reader),
        designs=tuple(rows),
        manifest=_manifest(reader, trials),
        rounds=rounds,
        stop_reason=stop,
        contributions=contributions([g for g in working if g[0].design in standing.compared]),
        examples=tuple(examples_of([group[0] for group in working], names, reader)),
        warnings=tuple(filter(None, (*unlike, unfinished, *partial, *reader.skipped()))),
        audit=audit,
        ablations=ablations,
        likeness=likeness_of(trials),
    )
    return replace(report, notes=notes_of(reader, trials))


def _strategy(record: SearchRecord) -> Strategy | None:
    data = record.definition.get("strategy")
    require_parts(record.definition.get("imports", ()), record.name)
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


def _benchmarks(best: Sequence[Trial], reader: NodeReader) -> tuple[BenchmarkInfo, ...]:
    """As the best design was asked them; before any design is finished, as they were planned."""
    if not best:
        planned = reader.record.benchmarks.items()
        return tuple(BenchmarkInfo(name, e.group, e.questions, e.scorer) for name, e in planned)
    galleries = best[0].entry.galleries if best[0].entry else {}
    guesses = {name: guess_of(key, reader) for name, key in galleries.items()}
    return tuple(BenchmarkInfo(s.benchmark, s.group, s.n, s.scorer, guesses.get(s.benchmark)) for s in best[0].full)


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
