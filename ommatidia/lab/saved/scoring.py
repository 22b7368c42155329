"""Scores from stored answers, offline: no model, and no torch is imported for it.

Beside every file of answers stands a small JSON file that says what was asked of whom, so that ``omma score`` needs
nothing else than the two and the benchmark's data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult, Table
from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError, DiskError, NoVerdictError, RunError, unknown
from ommatidia.eval.answers import read_answers
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.judge import MODEL, URL, EndpointJudge, Judge
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.eval.rescore import score_file
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.eval.statistics import macro_mean
from ommatidia.eval.submission import is_served, write_submission


def told(path: Path) -> Path:
    """The file that says what the answers in ``path`` are answers to."""
    return path.with_suffix(".run.json")


def tell(path: Path, config: BenchmarkConfig, about: Mapping[str, Any]) -> None:
    """Write it. Raises DiskError."""
    document = {"benchmark": config.to_dict(), **about}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = told(path).with_suffix(".new")
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
        draft.replace(told(path))
    except OSError as error:
        raise DiskError(f"{told(path)}: cannot be written: {error.strerror}") from None


def benchmark_of(path: Path) -> BenchmarkConfig:
    """What the answers in ``path`` are answers to. Raises RunError."""
    try:
        document = json.loads(told(path).read_text(encoding="utf-8"))
        entry = document["benchmark"]
    except OSError:
        raise RunError(
            f"{told(path)}: not there, so what {path.name} answers is unknown; say it with --benchmark"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{told(path)}: not what omma eval writes") from None
    return read_benchmark(entry)


def read_benchmark(entry: Any, **changes: Any) -> BenchmarkConfig:
    """One benchmark by its name or from plain data, with fields that come from the command line.

    Raises ConfigError, also where the benchmark does not have such a field.
    """
    if isinstance(entry, str):
        if entry not in BENCHMARKS:
            raise ConfigError(f"--benchmarks: {unknown('benchmark', entry, BENCHMARKS)}")
        entry = {**BENCHMARKS[entry], "name": entry}
    if isinstance(entry, Mapping) and "source" in entry:
        import ommatidia.data  # noqa: F401  (registers the sources)
    given = {name: value for name, value in changes.items() if value is not None}
    if given and isinstance(entry, Mapping):
        member = BenchmarkConfig.kinds().get(str(entry.get("kind")))
        for name in given:
            if member is not None and name not in member.model_fields:
                label = entry.get("name", entry.get("kind"))
                raise ConfigError(f"--{name}: the benchmark {label!r} has no such choice; it is for published ones")
        entry = {**entry, **given}
    return BenchmarkConfig.parse(entry)


def score_answers(
    paths: Sequence[Path], *, benchmark: str | None, data: Path | None, judged: bool = True
) -> CommandResult:
    """Score files of answers again. Raises ConfigError, RunError or DataError."""
    judge = EndpointJudge.from_environment() if judged else None
    found: dict[str, Scored] = {}
    driven = CommandResult()
    for path in paths:
        config = benchmark_of(path) if benchmark is None else _asked(benchmark, path)
        if data is not None:
            if not isinstance(config, Published):
                raise ConfigError(f"--data: {config.name} is no published benchmark")
            config = override(config, "data", str(data))
        if settled := settle(config.open(), path, judge, driven):
            found[str(path)] = settled
    driven.tables = [scores_table(found)] if found else []
    driven.data = {"scores": {name: as_data(one) for name, one in found.items()}, "notes": driven.lines}
    return driven


def settle(benchmark: Benchmark, path: Path, judge: Judge | None, driven: CommandResult) -> Scored | None:
    """The score of finished answers; or None, and ``driven`` says in a line what there is instead: a file for the
    server that has the references, a judge to be named, or one that gave no verdict."""
    if is_served(benchmark):
        held = read_answers(path)
        done = write_submission(benchmark, path, model=next(iter(held.values())).model if held else "")
        empty = f", {done.empty} of them empty" if done.empty else ""
        line = f"{benchmark.name}: a server scores this split; its file with {done.answers} answers{empty}: {done.path}"
        driven.lines.append(line)
        return None
    if judge is None and isinstance(benchmark.scorer, JudgedScorer) and benchmark.scorer.needs_judge:
        line = f"{benchmark.name}: not scored, it needs a judge: name one in {URL} and {MODEL}, then omma score {path}"
        driven.lines.append(line)
        return None
    try:
        return score_file(benchmark, path, judge=judge)
    except NoVerdictError as error:  # the other benchmarks have nothing to do with it
        driven.lines.append(str(error))
        driven.status = 1
        return None


def _asked(name: str, path: Path) -> BenchmarkConfig:
    """The benchmark that the user names; its choices as they were when the answers were given, where that is known."""
    config = read_benchmark(name)
    if told(path).exists():
        stored = benchmark_of(path)
        if stored.name != config.name:
            raise RunError(f"{path}: holds answers of benchmark {stored.name!r}, expected {config.name!r}")
        return stored
    return config


def version_of(one: Scored) -> str:
    """Scorer, its version and who judged."""
    judge = f", judge {one.judge}" if one.judge else ""
    return f"{one.scorer} v{one.scorer_version}{judge}"


def scores_table(scored: Mapping[str, Scored]) -> Table:
    """Every file with its interval and what it must be compared by."""
    rows = []
    for name, one in scored.items():
        interval = f"{100 * one.interval.low:.1f} to {100 * one.interval.high:.1f}"
        rows.append(
            [
                name, one.benchmark, one.mode, f"{100 * one.mean:.1f}", interval, one.n, one.prompt or "-",
                version_of(one), one.model[:12] or "-", _lost(one),
            ]
        )  # fmt: skip
    columns = ("file", "benchmark", "mode", "score %", "95 % interval", "n", "prompt", "scorer", "model", "not counted")
    return "scores", columns, rows


def score_table(scored: Mapping[tuple[str, Any], Scored]) -> Table:
    """The benchmarks with their intervals, the score without images beside each, and their average."""
    rows: list[list[Any]] = []
    names = [name for name, mode in scored if mode == "full"]
    for name in names:
        one, without = scored[name, "full"], scored.get((name, "blind"))
        interval = f"{100 * one.interval.low:.1f} to {100 * one.interval.high:.1f}"
        blind = f"{100 * without.mean:.1f}" if without else "-"
        rows.append([name, f"{100 * one.mean:.1f}", interval, one.n, blind, one.prompt or "-", version_of(one)])
    if rows:
        full = [scored[name, "full"] for name in names]
        average = macro_mean({one.benchmark: one.mean for one in full}, {one.benchmark: one.group for one in full})
        rows.append(["average", f"{100 * average:.1f}", *[""] * 5])
    columns = ("benchmark", "score %", "95 % interval", "n", "without images %", "prompt", "scorer")
    return "scores", columns, rows


def _lost(one: Scored) -> str:
    lost = {"unreadable": len(one.unreadable)} | {name: one.judged.get(name, 0) for name in ("failed", "nonsense")}
    shares = {name: one.summary.get(name, 0.0) for name in ("empty", "unparsed")}
    told = [f"{count} {name}" for name, count in lost.items() if count]
    return ", ".join([*told, *(f"{100 * share:.1f} % {name}" for name, share in shares.items() if share)]) or "-"


def as_data(one: Scored) -> dict[str, Any]:
    """A result as plain data: the number and all that it must be compared by."""
    return {
        "benchmark": one.benchmark,
        "mode": one.mode,
        "score": one.mean,
        "low": one.interval.low,
        "high": one.interval.high,
        "confidence": one.interval.confidence,
        "n": one.n,
        "clusters": one.interval.clusters,
        "prompt": one.prompt,
        "scorer": one.scorer,
        "scorer_version": one.scorer_version,
        "model": one.model,
        "judge": one.judge,
        "judged": one.judged,
        "unreadable": one.unreadable,
        "figures": one.summary,
        "seconds": one.seconds,
    }
