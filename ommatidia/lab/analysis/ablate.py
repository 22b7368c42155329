"""Ablation of experts: what each encoder of a mixture, and each set of them, is worth to every benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.prompts import exchange
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Attribution, attribution
from ommatidia.lab.analysis.asking import as_json, ask, shown, written
from ommatidia.lab.drive import Driven
from ommatidia.lab.evaluation import model_digest
from ommatidia.lab.report.figures.bars import Bar, bars
from ommatidia.models.ablation import OtherPictures, ablated, mean_features, replaced, without, zeros
from ommatidia.models.mllm import MLLM
from ommatidia.models.pretrained import load
from ommatidia.models.processor import Processor

Treatment = Literal["zero", "mean", "shuffle", "remove"]
"""zero: features of an expert are 0. mean: each place holds its mean over the benchmark's pictures. shuffle: the expert
looks at another sample's picture. remove: the expert does not run and its own tokens leave the sequence."""

TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)
AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Taken:
    """Which experts are taken away, and how."""

    treatment: Treatment
    experts: tuple[str, ...]

    @property
    def name(self) -> str:
        return " + ".join(self.experts)

    @property
    def stem(self) -> str:
        """In names of files."""
        return f"{self.treatment}-{'+'.join(self.experts)}"


def subsets(experts: Sequence[str], *, most: int) -> list[tuple[str, ...]]:
    """Every set of one to ``most`` experts, small ones first."""
    return [chosen for size in range(1, min(most, len(experts)) + 1) for chosen in combinations(experts, size)]


def read_treatments(names: str) -> tuple[Treatment, ...]:
    """Treatments by name, comma-separated. Raises ConfigError."""
    found = []
    for name in (part.strip() for part in names.split(",")):
        if name not in TREATMENTS:
            raise ConfigError(f"--by: {unknown('treatment', name, TREATMENTS)}")
        found += [treatment for treatment in TREATMENTS if treatment == name]
    return tuple(dict.fromkeys(found))


def ablate_checkpoint(
    checkpoint: Path,
    benchmarks: Sequence[BenchmarkConfig],
    *,
    out: Path,
    treatments: Sequence[Treatment] = ("zero",),
    most: int | None = None,
    batch: int = 64,
    device: str = "cpu",
) -> Driven:
    """Ask a mixture every benchmark with all its experts and with each set of up to ``most`` of them taken away.

    Answers are kept under ``out``, so that a stopped run goes on; beside them ablation.json and a picture for each
    treatment. Raises ConfigError for a model that is no mixture, or whose fusion cannot do without an expert.
    """
    model, processor = load(checkpoint, device=device)
    experts = tuple(processor.config.encoders)
    if len(experts) < 2:
        raise ConfigError(
            f"{checkpoint}: {len(experts)} encoder{'s' * (len(experts) != 1)}; only experts inside a mixture can be "
            "taken away. Whether the picture is needed at all: omma audit"
        )
    sets = subsets(experts, most=len(experts) if most is None else most)
    taken = [Taken(t, s) for t in treatments for s in sets if not (t == "remove" and len(s) == len(experts))]
    for one in taken:
        if one.treatment == "remove":
            without(model, processor.config, one.experts)  # refused before hours of asking
    who, scores = model_digest(checkpoint), dict[tuple[str, str], Scored]()
    for config in benchmarks:
        asked = _Asked(config.open(), model, processor, out, who, batch)
        scores[config.name, ""] = asked.whole()
        for one in taken:
            scores[config.name, one.stem] = asked.under(one)
    names = [config.name for config in benchmarks]
    return _told(names, experts, taken, scores, out, checkpoint)


class _Asked:
    """One benchmark of one model, with all experts or without some."""

    def __init__(
        self, benchmark: Benchmark, model: MLLM, processor: Processor, out: Path, who: str, batch: int
    ) -> None:
        self.benchmark, self.model, self.processor = benchmark, model, processor
        self.out, self.who, self.batch = out, who, batch
        self._means: dict[str, Tensor] = {}

    def whole(self) -> Scored:
        return self._ask("full", self.model, self.processor, self.who)

    def under(self, taken: Taken) -> Scored:
        with self._treated(taken) as (model, processor):
            return self._ask(taken.stem, model, processor, f"{self.who}/{taken.stem}")

    def _ask(self, stem: str, model: MLLM, processor: Processor, who: str) -> Scored:
        path = self.out / f"{self.benchmark.name}.{stem}.jsonl"
        return ask(self.benchmark, model, processor, path, who=who, batch=self.batch)

    @contextlib.contextmanager
    def _treated(self, taken: Taken) -> Iterator[tuple[MLLM, Processor]]:
        if taken.treatment == "remove":
            smaller, config = without(self.model, self.processor.config, taken.experts)
            yield smaller, Processor(config)
        elif taken.treatment == "shuffle":
            others = exchange({sample.id: sample.images for sample in self._samples()})
            yield self.model, OtherPictures(self.processor.config, taken.experts, others)
        else:
            means = self._mean() if taken.treatment == "mean" else {}
            changes = {name: replaced(means[name]) if means else zeros for name in taken.experts}
            with ablated(self.model, changes):
                yield self.model, self.processor

    def _mean(self) -> Mapping[str, Tensor]:
        if not self._means:
            prompts = [self.benchmark.prompt(sample) for sample in self._samples()]
            self._means = mean_features(self.model, self.processor, prompts, batch=self.batch)
        return self._means

    def _samples(self) -> list[Sample]:
        return [sample for _, sample in self.benchmark.readable() if isinstance(sample, Sample)]


def _told(
    names: Sequence[str],
    experts: Sequence[str],
    taken: Sequence[Taken],
    scores: Mapping[tuple[str, str], Scored],
    out: Path,
    checkpoint: Path,
) -> Driven:
    """Tables, data and pictures, a treatment at a time."""
    told = Driven(data={"model": str(checkpoint), "experts": list(experts), "treatments": {}})
    suites = {name: [name] for name in names} | ({AVERAGE: list(names)} if len(names) > 1 else {})
    pictures: dict[str, str] = {}
    for treatment in dict.fromkeys(one.treatment for one in taken):
        sets = [one for one in taken if one.treatment == treatment]
        found = {
            suite: attribution(
                [scores[name, ""] for name in inside],
                {one.name: [scores[name, one.stem] for name in inside] for one in sets},
                experts=[one.name for one in sets if len(one.experts) == 1],
            )
            for suite, inside in suites.items()
        }
        told.tables.append((f"experts taken away by {treatment}", *_table(found, sets)))
        told.data["treatments"][treatment] = {suite: each.to_dict() for suite, each in found.items()}
        pictures[f"ablation-{treatment}.svg"] = _picture(treatment, found, sets, experts)
    paths = written(out, {"ablation.json": as_json(told.data), **pictures})
    told.lines = [f"written: {path}" for path in paths]
    return told


def _table(found: Mapping[str, Attribution], sets: Sequence[Taken]) -> tuple[Sequence[str], list[list[Any]]]:
    rows: list[list[Any]] = []
    for suite, each in found.items():
        rows.append([suite, "nothing", shown(each.full), "", "", shown(each.gap)])
        for one in sets:
            row = [suite, one.name, shown(each.left[one.name]), shown(each.lost[one.name])]
            rows.append([*row, shown(each.utilisation[one.name]), ""])
    columns = ("benchmark", "taken away", "score %", "lost, points", "utilisation %", "information gap %")
    return columns, rows


def _picture(treatment: str, found: Mapping[str, Attribution], sets: Sequence[Taken], experts: Sequence[str]) -> str:
    rows: dict[str, int | None] = {"all experts": None}
    rows |= {f"without {one.name}": experts.index(one.experts[0]) if len(one.experts) == 1 else None for one in sets}
    panels = {}
    for suite, each in found.items():
        panel = {"all experts": Bar(each.full.mean, each.full.low, each.full.high)}
        for one in sets:
            left = each.left[one.name]
            panel[f"without {one.name}"] = Bar(left.mean, left.low, left.high)
        panels[suite] = panel
    title = f"Score in % with experts taken away ({treatment}), 95 % intervals"
    return bars(title, rows, panels, reference="all experts")
