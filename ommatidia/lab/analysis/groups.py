"""Benchmark groups from the scores of many models: averages as papers print them, likeness, components, clusters."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import ConfigError
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.eval.statistics.grouping import (
    LAYOUTS,
    Layout,
    Method,
    components,
    correlations,
    group_means,
    in_percent,
    tree,
)
from ommatidia.eval.statistics.run_scores import Array
from ommatidia.eval.statistics.stability import find_groups
from ommatidia.lab.analysis.asking import as_json, written
from ommatidia.lab.report.figures.grouping import component_plane, correlation_matrix


@dataclass(frozen=True)
class ScoreTable:
    """Scores in percent of many models, NaN where one was not measured."""

    models: tuple[str, ...]
    benchmarks: tuple[str, ...]
    scores_MB: Array

    def row(self, model: str) -> dict[str, float]:
        """What was measured of one model."""
        values = self.scores_MB[self.models.index(model)]
        return {name: float(v) for name, v in zip(self.benchmarks, values, strict=True) if math.isfinite(v)}


def read_scores(paths: Sequence[Path]) -> ScoreTable:
    """One table from several files.

    A CSV file has a column ``model`` and one a benchmark; a JSON file is {model: {benchmark: score}}, or what ``omma
    --json eval`` printed; of a folder, its JSON files of that kind. A benchmark's name may say what a full score is,
    ``mme:2000`` or ``ocrbench:1000``; without, it is 100. Raises ConfigError for anything else.
    """
    found: dict[str, dict[str, float]] = {}
    for path in paths:
        for model, scores in (_folder(path) if path.is_dir() else _file(path)).items():
            for name, value in scores.items():
                if name in found.setdefault(model, {}):
                    raise ConfigError(f"{path}: {model} has a second score for {name}")
                found[model][name] = value
    names = tuple(dict.fromkeys(name for scores in found.values() for name in scores))
    if not names:
        raise ConfigError(f"{', '.join(map(str, paths))}: no score found")
    table = np.array([[scores.get(name, math.nan) for name in names] for scores in found.values()])
    return ScoreTable(tuple(found), names, table)


def _file(path: Path) -> dict[str, dict[str, float]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
            if not rows or "model" not in rows[0]:
                raise ConfigError(f"{path}: expected a table with a column 'model'")
            filled = [{k: v for k, v in row.items() if k is not None and (v or "").strip()} for row in rows]
            return {row["model"]: _scaled(path, {k: v for k, v in row.items() if k != "model"}) for row in filled}
        data = json.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if (result := _result(path, data)) is not None:
        return result
    if isinstance(data, dict) and data and all(isinstance(scores, dict) for scores in data.values()):
        return {model: _scaled(path, scores) for model, scores in data.items()}
    raise ConfigError(f"{path}: expected {{model: {{benchmark: score}}}} or what omma --json eval prints")


def _result(path: Path, data: Any) -> dict[str, dict[str, float]] | None:
    """What ``omma --json eval`` printed, scores from 0 to 1; None for something else."""
    if not (isinstance(data, dict) and isinstance(data.get("scores"), dict) and isinstance(data.get("model"), str)):
        return None
    try:
        full = {key.removesuffix("/full"): one["score"] for key, one in data["scores"].items() if key.endswith("/full")}
    except (TypeError, KeyError):
        raise ConfigError(f"{path}: a score without the field 'score'") from None
    return {data["model"]: {name: 100.0 * float(value) for name, value in full.items()}}


def _folder(path: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for file in sorted(path.glob("*.json")):
        try:
            found |= _result(file, json.loads(file.read_text(encoding="utf-8"))) or {}
        except ValueError as error:
            raise ConfigError(f"{file}: {error}") from None
    if not found:
        raise ConfigError(f"{path}: no result of omma --json eval in this folder")
    return found


def _scaled(path: Path, scores: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for column, value in scores.items():
        name, _, full = column.partition(":")
        try:
            given, out_of = float(value), float(full or 100)
        except (TypeError, ValueError):
            raise ConfigError(f"{path}: {column}: {value!r} is no score") from None
        if not 0 <= given <= out_of:
            raise ConfigError(
                f"{path}: {column}: {given:g} is not between 0 and {out_of:g}; "
                f"a column of another scale says so, such as mme:2000 or ocrbench:1000"
            )
        found[name.strip()] = float(in_percent([given], out_of)[0])
    return found


def group_benchmarks(
    table: ScoreTable,
    *,
    out: Path,
    layout: Layout = "cambrian",
    method: Method = "pearson",
    clusters: int | None = None,
) -> CommandResult:
    """Averages, likeness, components and groups as tables, groups.json and two images.

    Where the scores show groups there are as many as components, or ``clusters``, with how stable they are.
    Raises ConfigError when there are fewer than three models with all scores.
    """
    complete = np.array([len(table.row(model)) == len(table.benchmarks) for model in table.models])
    if complete.sum() < 3:
        missing = [name for name, whole in zip(table.models, complete, strict=True) if not whole]
        lacking = f"; incomplete: {', '.join(missing)}" if missing else ""
        raise ConfigError(f"{int(complete.sum())} models with every score; groups need three or more{lacking}")
    likeness = correlations(table.scores_MB, method=method)
    found, hierarchy = components(table.scores_MB[complete]), tree(likeness)
    names = table.benchmarks
    groups = find_groups(table.scores_MB[complete], count=clusters, method=method)
    cut = [[names[i] for i in group] for group in groups.members]
    seen = groups.words(f"{int(complete.sum())} models")
    means = {model: group_means(table.row(model), layout=layout) for model in table.models}
    data = {
        "benchmarks": list(names),
        "models": list(table.models),
        "averages": means,
        "correlation": {"method": method, "values": likeness.tolist()},
        "components": {
            "places": dict(zip(names, found.places_BC.tolist(), strict=True)),
            "explained": found.explained_C.tolist(),
            "models": int(complete.sum()),
            "beyond_chance": groups.components,
        },
        "clusters": cut,
        "stability": {
            "adjusted_rand_index": groups.index,
            "together": None if groups.together_BB is None else groups.together_BB.tolist(),
        },
    }
    shown = "no groups shown" if groups.index is None else f"{len(cut)} groups, stability {groups.index:.2f}"
    title = f"Likeness of benchmarks ({method} correlation over {len(table.models)} models): {shown}"
    plane = f"Benchmarks by the scores of {int(complete.sum())} models: {shown}"
    paths = written(
        out,
        {
            "groups.json": as_json(data),
            "groups-correlation.svg": correlation_matrix(names, likeness, hierarchy, title=title),
            "groups-components.svg": component_plane(names, found, published_groups(), title=plane),
        },
    )
    return CommandResult(
        tables=_tables(means, cut, layout), data=data, lines=[seen, *(f"written: {path}" for path in paths)]
    )


def published_groups() -> dict[str, str]:
    """The group that each benchmark is published in, by name."""
    by_layout = {name: group for group, members in LAYOUTS["cambrian"].items() for name in members}
    return by_layout | {name: str(fields["group"]) for name, fields in BENCHMARKS.items() if "group" in fields}


def _tables(means: Mapping[str, Mapping[str, float]], cut: Sequence[Sequence[str]], layout: Layout) -> list[Any]:
    groups = [*LAYOUTS[layout], "overall"]
    rows = [[model, *(f"{of[g]:.2f}" if g in of else "-" for g in groups)] for model, of in means.items()]
    listed = [[number, ", ".join(members)] for number, members in enumerate(cut, start=1)]
    averages = (f"group averages, as {layout}", ("model", *groups), rows)
    return [averages, *([("groups by correlation", ("group", "benchmarks"), listed)] if listed else [])]
