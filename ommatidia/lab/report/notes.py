"""Notes: what has changed since the results on a page were made. They stand beside the page, not in report.json."""

from __future__ import annotations

from collections.abc import Sequence

from ommatidia.lab.nodes.ablation import AblationJob
from ommatidia.lab.nodes.checkpoint import CheckpointJob
from ommatidia.lab.nodes.features import FeatureJob
from ommatidia.lab.nodes.gallery import GalleryJob
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.scores import scorer_of
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.report.nodes import NodeReader
from ommatidia.lab.run.trial import Trial

JOBS = (FeatureJob, TrainingJob, PredictionJob, AblationJob, GalleryJob, CheckpointJob)


def notes_of(reader: NodeReader, trials: Sequence[Trial]) -> tuple[str, ...]:
    """One sentence for each change that can be seen without opening data, and for each damaged node."""
    return (*_damaged(reader), *_scorers(reader, trials), *_benchmarks(reader, trials), *_kinds(reader))


def _damaged(reader: NodeReader) -> list[str]:
    reader.look_over()
    nodes, owners = reader.record.asked | reader.record.nodes, reader.record.owners
    found = []
    for (kind, key), reason in reader.damaged.items():
        label = f"{nodes[key].label} " if key in nodes else ""
        designs = f" Designs: {', '.join(owners[key])}." if key in owners else ""
        found.append(
            f"Damaged node: {label}({kind}/{key}): {reason}.{designs} It was left as it is; "
            "the search makes it again when it is run."
        )
    return found


def _scorers(reader: NodeReader, trials: Sequence[Trial]) -> list[str]:
    """Scorers whose version is another today than that of the scores shown."""
    shown: dict[str, set[tuple[str, int]]] = {}
    for trial in trials:
        for scored in trial.scored.values():
            shown.setdefault(scored.benchmark, set()).add((scored.scorer, scored.scorer_version))
    today = {one.name: scorer_of(one) for trial in trials for one in trial.recipe.benchmarks}
    found: dict[str, list[str]] = {}
    for benchmark, made in shown.items():
        scorer, version = today.get(benchmark, ("", 0))
        others = sorted({old for name, old in made if name == scorer and old != version})
        if others:
            words = f"Scorer {scorer!r} has version {version} now; the scores of {{}} were made with version "
            found.setdefault(words + ", ".join(map(str, others)), []).append(benchmark)
    again = f"omma report {reader.record.name} --rescore"
    return [f"{words.format(', '.join(names))}: {again} scores again." for words, names in found.items()]


def _benchmarks(reader: NodeReader, trials: Sequence[Trial]) -> list[str]:
    """Benchmarks whose own version is another today than the one recorded."""
    today = {one.name: one.version for trial in trials for one in trial.recipe.benchmarks}
    return [
        f"Benchmark {name!r} has version {today[name]} now; its results were made with version {entry.version}: "
        "the search asks it again when it is run."
        for name, entry in reader.record.benchmarks.items()
        if name in today and today[name] != entry.version
    ]


def _kinds(reader: NodeReader) -> list[str]:
    """Kinds of nodes whose version is another today than the one recorded."""
    today = {job.kind: job.version for job in JOBS}
    made: dict[str, set[int]] = {}
    for node in reader.record.nodes.values():
        made.setdefault(node.kind, set()).add(node.version)
    return [
        f"Nodes of kind {kind!r} have version {today[kind]} now; these were made with version "
        f"{', '.join(map(str, sorted(versions)))}: the search makes them again when it is run."
        for kind, versions in made.items()
        if kind in today and versions != {today[kind]}
    ]
