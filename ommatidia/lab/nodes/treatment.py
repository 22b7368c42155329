"""AblationMode: experts taken out of a mixture at inference, as a value, and asking a benchmark under it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from torch import Tensor

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.prompts import exchange
from ommatidia.models.ablation import OtherPictures, ablated, mean_features, replaced, without, zeros
from ommatidia.models.processor import Processor
from ommatidia.models.sharing import SharedFeatures

AblationMode = Literal["zero", "mean", "shuffle", "remove"]
"""zero: features of an expert are 0. mean: each place holds its mean over the benchmark's images. shuffle: the expert
looks at another sample's image. remove: the expert does not run and its own tokens leave the sequence."""

TREATMENTS: tuple[AblationMode, ...] = get_args(AblationMode)


@dataclass(frozen=True, slots=True)
class AblatedSet:
    """Which experts are taken away, and how."""

    treatment: AblationMode
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


def ablated_sets(experts: Sequence[str], treatment: AblationMode, *, most: int | None = None) -> list[AblatedSet]:
    """One treatment of every set of up to ``most`` experts; nothing is left to see where all are removed."""
    sets = subsets(experts, most=len(experts) if most is None else most)
    return [AblatedSet(treatment, s) for s in sets if not (treatment == "remove" and len(s) == len(experts))]


def read_treatments(names: str) -> tuple[AblationMode, ...]:
    """Treatments by name, comma-separated. Raises ConfigError."""
    found = []
    for name in (part.strip() for part in names.split(",")):
        if name not in TREATMENTS:
            raise ConfigError(f"--by: {unknown('treatment', name, TREATMENTS)}")
        found += [treatment for treatment in TREATMENTS if treatment == name]
    return tuple(dict.fromkeys(found))


class AblatedModel:
    """One benchmark asked of one mixture under treatments; what a trunk saw for one serves all of them."""

    def __init__(self, benchmark: Benchmark, whole: SharedFeatures) -> None:
        self.benchmark, self.whole = benchmark, whole
        self._means: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def under(self, taken: AblatedSet) -> Iterator[SharedFeatures]:
        """Inside the context it answers without these experts. Raises ConfigError where the fusion cannot."""
        whole, plain = self.whole, self.whole.plain
        if taken.treatment == "remove":
            model, config = without(whole.model, plain.config, taken.experts)
            looks = {name: look for name, look in plain.features.items() if name in config.encoders}
            yield whole.again(model, Processor(config, features=looks))
        elif taken.treatment == "shuffle":
            others = exchange({sample.id: sample.images for sample in self._samples()})
            yield whole.again(whole.model, OtherPictures(plain.config, taken.experts, others, features=plain.features))
        else:
            means = self._mean() if taken.treatment == "mean" else {}
            changes = {name: replaced(means[name]) if means else zeros for name in taken.experts}
            with ablated(whole.model, changes):
                yield whole

    def _mean(self) -> Mapping[str, Tensor]:
        if not self._means:
            prompts = [self.benchmark.prompt(sample) for sample in self._samples()]
            self._means = mean_features(self.whole.model, self.whole.inputs(prompts))
        return self._means

    def _samples(self) -> list[Sample]:
        return [sample for _, sample in self.benchmark.readable() if isinstance(sample, Sample)]
