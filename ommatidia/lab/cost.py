"""Prices before anything runs: operations of a stage or an evaluation, from shapes and some samples' lengths.

1 multiply-add = 2 FLOP. A trained part costs three forward passes, a frozen part through which gradients must pass two,
a frozen part before everything that trains one, a trunk with stored features none (Korthikanti et al. 2022; Eagle 4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.data.mixture import MixtureConfig
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.jobs.job import Price
from ommatidia.models.mllm import MLLMConfig
from ommatidia.models.processor import Processor
from ommatidia.train.pattern import Pattern
from ommatidia.train.stage import Stage

_LOOK = 48
"""How many samples are tokenised to estimate the mean length."""


@dataclass(frozen=True, slots=True)
class SampleTokens:
    """The mean sample of a mixture: words, supervised words, pictures; and how many samples there are."""

    text: float
    supervised: float
    views: float
    samples: int


_Means = tuple[float, float, float]


def _look(read: Callable[[int], Sample], places: Iterable[int], speech: str, *, answer: bool) -> _Means:
    """Mean words, supervised words and pictures of the samples at some places."""
    processor = Processor(MLLMConfig.parse(json.loads(speech)))
    examples, views = [], 0
    for place in places:
        try:
            sample = read(place)
            examples.append(processor(sample, answer=answer))
        except DataError:  # counted and reported by whoever trains on it or asks it; here only lengths matter
            continue
        views += sum(not isinstance(part, str) for message in sample.messages for part in message.parts)
    n = max(1, len(examples))
    return sum(len(e.ids) for e in examples) / n, sum(e.supervised for e in examples) / n, views / n


def sample_tokens(data: MixtureConfig, model: MLLMConfig) -> SampleTokens:
    """Mean lengths of a training mixture under this model's tokenizer and chat format."""
    return _mixture_tokens(data.fingerprint(), data.to_json(), _speech(model))


def benchmark_tokens(benchmark: BenchmarkConfig, model: MLLMConfig, *, views: bool) -> SampleTokens:
    """Mean prompt of a benchmark; without pictures when ``views`` is False."""
    seen = _benchmark_tokens(benchmark.fingerprint(), benchmark.to_json(), _speech(model))
    return seen if views else SampleTokens(seen.text, seen.supervised, 0.0, seen.samples)


def _speech(model: MLLMConfig) -> str:
    """The part of a model that decides how words become tokens, as text: pictures are counted here, not decoded."""
    return model.model_copy(update={"encoders": {}}).to_json()


@lru_cache(maxsize=256)
def _mixture_tokens(fingerprint: str, data: str, speech: str) -> SampleTokens:
    mixture = MixtureConfig.parse(json.loads(data)).open()
    means = _look(lambda place: mixture.draw(place, seed=0), range(_LOOK), speech, answer=True)
    return SampleTokens(*means, mixture.size)


@lru_cache(maxsize=256)
def _benchmark_tokens(fingerprint: str, data: str, speech: str) -> SampleTokens:
    samples = BenchmarkConfig.parse(json.loads(data)).open().samples()
    places = range(0, len(samples), max(1, len(samples) // _LOOK))
    return SampleTokens(*_look(samples.__getitem__, places, speech, answer=False), len(samples))


def trains(stage: Stage, part: str, *, below: str = "") -> bool:
    """Whether a stage may train anything of a part, or of its submodule ``below`` (``trunk`` or ``neck``)."""
    for text in stage.train:
        pattern = Pattern.parse(text)
        if pattern.matches_part(part):
            first = (pattern.parameter or "*").split(".")[0]
            if not below or fnmatchcase(below, first) or fnmatchcase(first, f"{below}*"):
                return True
    return False


def training_price(
    model: MLLMConfig, stage: Stage, stored: frozenset[str], tokens: SampleTokens, samples: int
) -> Price:
    """Of ``samples`` samples through forward and backward."""
    if stage.distill is not None:
        learning, teaching = stage.distill.cost(model)
        flops = tokens.views * (3 * learning.flops + teaching.flops) * samples
        return Price(flops, 0, 0, learning.parameters + teaching.parameters, samples)
    views = tokens.views if model.encoders else 0.0
    costs = model.cost(text_tokens=round(tokens.text), views=1, head_tokens=round(tokens.supervised))
    shape = model.language.shape()
    length = tokens.text + views * model.tokens_per_view
    language = shape.cost(tokens=round(length), head_tokens=round(tokens.supervised)).flops
    early = any(trains(stage, name) for name in costs if name != "language")  # gradients must reach behind the decoder
    flops = language * (3 if trains(stage, "language") else 2 if early else 1)
    for name in ("fusion", "projector", "injection"):
        if name in costs:
            before = any(trains(stage, f"encoders.{e}") for e in model.encoders)
            flops += views * costs[name].flops * (3 if trains(stage, name) else 2 if before else 1)
    for name, encoder in model.encoders.items():
        trunk, whole = encoder.trunk_cost().flops, encoder.cost().flops
        part = f"encoders.{name}"
        flops += views * (whole - trunk) * (3 if trains(stage, part, below="neck") else 1)
        if name not in stored:
            flops += views * trunk * (3 if trains(stage, part, below="trunk") else 1)
    parameters = sum(cost.parameters for cost in costs.values())
    return Price(flops * samples, 0, round(length * samples), parameters, samples)


def prediction_price(model: MLLMConfig, stored: frozenset[str], tokens: SampleTokens, new_tokens: int) -> Price:
    """Of answering every sample: the prompt once, then a few words (half of the allowance is assumed)."""
    views = tokens.views if model.encoders else 0.0
    length = round(tokens.text + views * model.tokens_per_view)
    answer = max(1, new_tokens // 2)
    flops = model.language.shape().cost(tokens=length + answer, head_tokens=answer).flops
    costs = model.cost(text_tokens=0, views=1, head_tokens=0)
    flops += views * sum(costs[name].flops for name in ("fusion", "projector", "injection") if name in costs)
    for name, encoder in model.encoders.items():
        flops += views * (encoder.cost().flops - (encoder.trunk_cost().flops if name in stored else 0.0))
    parameters = sum(cost.parameters for cost in costs.values())
    return Price(
        flops * tokens.samples, 200 * tokens.samples, (length + answer) * tokens.samples, parameters, tokens.samples
    )
