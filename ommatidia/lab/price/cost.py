"""Prices before anything runs: operations of a stage or an evaluation, from shapes and some samples' lengths.

1 multiply-add = 2 FLOP. A trained part costs three forward passes, a frozen part through which gradients must pass two,
a frozen part before everything that trains one, a trunk with stored features none (Korthikanti et al. 2022; Eagle 4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from ommatidia.core.errors import DataError
from ommatidia.core.grid import Cost
from ommatidia.core.types import ImagePart, Sample
from ommatidia.data.mixture import MixtureConfig
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.price.price import Price
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Mark, VisualTokens, Whole
from ommatidia.train.pattern import Pattern
from ommatidia.train.stage import Stage

_LOOK = 48
"""How many samples are tokenised to estimate the mean length."""


@dataclass(frozen=True, slots=True)
class SampleTokens:
    """The mean sample of a mixture, as one model reads it; and how many samples there are."""

    text: float
    """Words, marks between views included."""
    supervised: float
    pictures: float
    views: float
    visual: float
    """Positions of the sequence that visual tokens take."""
    samples: int

    @property
    def length(self) -> float:
        """Positions of the sequence."""
        return self.text + self.visual

    def cut(self, longest: int | None) -> SampleTokens:
        """The mean sample where texts are cut off behind so many tokens; exact where all samples are alike."""
        if longest is None or self.length <= longest:
            return self
        text = max(longest - self.visual, 0.0)
        return replace(self, text=text, supervised=self.supervised * text / self.text)


Sizes = tuple[tuple[int, int], ...]
"""(height, width) in pixels of a sample's images."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """Some samples of a mixture: mean words and supervised words, the sizes of each one's images; and how many
    samples there are in all."""

    text: float
    supervised: float
    sizes: tuple[Sizes, ...]
    samples: int

    def read_by(self, model: MLLMConfig, speech: MLLMConfig) -> SampleTokens:
        n = max(1, len(self.sizes))
        flat = [size for sizes in self.sizes for size in sizes]
        if not model.encoders:
            return SampleTokens(self.text, self.supervised, len(flat) / n, 0.0, 0.0, self.samples)
        told = {size: _told(model, size, speech) for size in dict.fromkeys(flat)}
        views, visual, marks = (sum(told[size][i] for size in flat) / n for i in range(3))
        return SampleTokens(self.text + marks, self.supervised, len(flat) / n, views, visual, self.samples)


def _told(model: MLLMConfig, size: tuple[int, int], speech: MLLMConfig) -> tuple[int, int, int]:
    """Views, visual tokens and tokens of marks that an image of this size brings."""
    visual = marks = 0
    for piece in model.token_layout(*size):
        if isinstance(piece, Mark):
            marks += _words(piece.text, speech)
        elif isinstance(piece, VisualTokens):
            visual += len(piece.numbers)
    return len(model.tiling.views(*size)), visual, marks


@lru_cache(maxsize=2**16)
def _words(text: str, speech: MLLMConfig) -> int:
    return len(_processor(speech).tokenizer.encode(text, special=False))


@lru_cache(maxsize=16)
def _processor(speech: MLLMConfig) -> Processor:
    return Processor(speech)


def _look(
    read: Callable[[int], Sample], places: Iterable[int], speech: MLLMConfig, samples: int, *, answer: bool
) -> _Looked:
    """Samples at some places; images are measured by their headers, not decoded."""
    text = supervised = 0
    found: list[Sizes] = []
    for place in places:
        try:
            sample = replace(read(place), written=None)  # measured without encoders, which writes otherwise
            example = _processor(speech)(sample, answer=answer)
            parts = (part for message in sample.messages for part in message.parts if isinstance(part, ImagePart))
            found.append(tuple(sample.images[part.index].size() for part in parts))
        except DataError:  # counted and reported by whoever trains on it or asks it; here only lengths matter
            continue
        text, supervised = text + len(example.ids), supervised + example.supervised
    n = max(1, len(found))
    return _Looked(text / n, supervised / n, tuple(found), samples)


def sample_tokens(data: MixtureConfig, model: MLLMConfig) -> SampleTokens:
    """Mean lengths of a training mixture under this model's tokenizer, chat format and tiling."""
    speech = _speech(model)
    return _mixture_looked(data, data.fingerprint(), speech).read_by(model, speech)


def benchmark_tokens(benchmark: BenchmarkConfig, model: MLLMConfig, *, views: bool) -> SampleTokens:
    """Mean prompt of a benchmark; without images when ``views`` is False."""
    speech = _speech(model)
    looked = _benchmark_looked(benchmark, benchmark.fingerprint(), speech)
    return (looked if views else replace(looked, sizes=((),) * len(looked.sizes))).read_by(model, speech)


def _speech(model: MLLMConfig) -> MLLMConfig:
    """The part of a model that decides how words become tokens."""
    return model.model_copy(update={"encoders": {}, "tiling": Whole(), "adapters": {}})


@lru_cache(maxsize=256)
def _mixture_looked(data: MixtureConfig, fingerprint: str, speech: MLLMConfig) -> _Looked:
    mixture = data.open()
    return _look(lambda place: mixture.draw(place, seed=0), range(_LOOK), speech, mixture.size, answer=True)


@lru_cache(maxsize=256)
def _benchmark_looked(benchmark: BenchmarkConfig, fingerprint: str, speech: MLLMConfig) -> _Looked:
    samples = benchmark.open().samples()
    places = range(0, len(samples), max(1, len(samples) // _LOOK))
    return _look(samples.__getitem__, places, speech, len(samples), answer=False)


def trains(stage: Stage, part: str, *, below: str = "") -> bool:
    """Whether a stage may train anything of a part, or of its submodule ``below`` (``trunk`` or ``neck``)."""
    for text in stage.train:
        pattern = Pattern.parse(text)
        if pattern.matches_part(part):
            fixed = re.split(r"[*?\[]", pattern.parameter or "*")[0]  # a wildcard may stand for dots as well
            if not below or fixed.startswith(f"{below}.") or f"{below}.".startswith(fixed):
                return True
    return False


def passes(model: MLLMConfig, stage: Stage, part: str, *, before: bool, below: str = "") -> int:
    """How often a part's forward operations are done in a step: 3 where it trains, 2 where gradients only pass through
    or adapters alone train in it, 1 where none do (``before``: something trains before it)."""
    if not trains(stage, part, below=below):
        return 2 if before else 1
    patterns = [pattern for pattern in map(Pattern.parse, stage.train) if pattern.matches_part(part)]
    beside = part in model.adapted() and below != "neck"
    return 2 if beside and all(p.parameter is None or "lora" in p.parameter for p in patterns) else 3


def training_price(
    model: MLLMConfig, stage: Stage, stored: frozenset[str], tokens: SampleTokens, samples: int
) -> Price:
    """Of ``samples`` samples through forward and backward."""
    if stage.distill is not None:
        learning, teaching = stage.distill.cost(model)
        flops = tokens.views * (3 * learning.flops + teaching.flops) * samples
        return Price(flops, 0, 0, learning.parameters + teaching.parameters, samples)
    looks = _looks(model, tokens)
    costs = sample_cost(model, tokens)
    early = any(trains(stage, name) for name in costs if name != "language")  # gradients must reach behind the decoder
    flops = costs["language"].flops * passes(model, stage, "language", before=early)
    before = any(trains(stage, f"encoders.{name}") for name in model.encoders)
    for name in ("fusion", "projector", "injection"):
        if name in costs:
            flops += costs[name].flops * passes(model, stage, name, before=before)
    for name, encoder in model.encoders.items():
        trunk, whole = encoder.trunk_cost().flops, encoder.cost().flops
        part = f"encoders.{name}"
        inner = trains(stage, part, below="trunk")
        flops += looks[name] * (whole - trunk) * passes(model, stage, part, before=inner, below="neck")
        if name not in stored:
            flops += looks[name] * trunk * passes(model, stage, part, before=False, below="trunk")
    parameters = sum(cost.parameters for cost in costs.values())
    return Price(flops * samples, 0, round(tokens.length * samples), parameters, samples)


def prediction_price(model: MLLMConfig, stored: frozenset[str], tokens: SampleTokens, new_tokens: int) -> Price:
    """Of answering every sample: the prompt once, then a few words (half of the allowance is assumed)."""
    answer = max(1, new_tokens // 2)
    spoken = replace(tokens, text=tokens.text + answer, supervised=answer)
    costs = sample_cost(model, spoken)
    flops = sum(cost.flops for cost in costs.values())
    flops -= sum(
        n * model.encoders[name].trunk_cost().flops for name, n in _looks(model, tokens).items() if name in stored
    )
    parameters = sum(cost.parameters for cost in costs.values())
    return Price(
        flops * tokens.samples, 200 * tokens.samples, round(spoken.length) * tokens.samples, parameters, tokens.samples
    )


def sample_cost(model: MLLMConfig, tokens: SampleTokens) -> dict[str, Cost]:
    """Per part: one forward pass of the mean sample."""
    return cost_by_part(
        model,
        text_tokens=round(tokens.text),
        views=tokens.views,
        head_tokens=round(tokens.supervised),
        visual_tokens=round(tokens.visual),
        pictures=tokens.pictures,
    )


def largest_cost(model: MLLMConfig, *, text_tokens: int, head_tokens: int) -> dict[str, Cost]:
    """Per part: one forward pass over one image of the size that brings most visual tokens, and some words."""
    views = len(model.tiling.views(*model.tiling.largest()))
    visual = model.most_visual_tokens
    return cost_by_part(
        model, text_tokens=text_tokens, views=views, head_tokens=head_tokens, visual_tokens=visual, pictures=1
    )


def _looks(model: MLLMConfig, tokens: SampleTokens) -> dict[str, float]:
    """How often each encoder runs for a sample: once a view, or once an image that it sees whole."""
    return {n: tokens.pictures if n in model.tiling.seen_whole else tokens.views for n in model.encoders}
