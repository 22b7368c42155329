"""Prediction: a trained model's answers to one benchmark, and their scores as they were when it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, OmmatidiaError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.evaluate import predict, score_file
from ommatidia.eval.judge import MODEL, URL
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.lab.nodes.job import Computation, Finding, Job
from ommatidia.lab.nodes.questions import question_findings
from ommatidia.lab.nodes.requirements import encoder_faults, language_faults
from ommatidia.lab.nodes.scores import ANSWERS, REPLIES, SCORES, judge_of
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import Weights
from ommatidia.lab.price.cost import benchmark_tokens, prediction_price
from ommatidia.lab.price.price import Price
from ommatidia.models.generate import Decoding
from ommatidia.models.processor import Processor
from ommatidia.models.sharing import SharedFeatures

_SEEN: dict[Mode, str] = {"full": "", "blind": " without images", "blank": ", gray", "shuffled": ", wrong images"}


@dataclass(frozen=True)
class PredictionJob(Computation):
    """One model, one benchmark, one mode."""

    kind: ClassVar[str] = "prediction"
    version: ClassVar[int] = 3

    weights: Weights
    benchmark: BenchmarkConfig
    mode: Mode
    batch: int
    device: str = "cpu"
    threads: int = 2

    @property
    def label(self) -> str:
        seen = " + ".join(self.weights.model.encoders) or "language model"
        return f"answers of {seen} to {self.benchmark.name}{_SEEN[self.mode]}"

    def identity(self) -> Any:
        questions = self.benchmark.questions_fingerprint()
        return [self.weights.identity(), questions, self.mode, *self.arithmetic()]

    def needs(self) -> tuple[Job, ...]:
        return self.weights.needs()

    def reads(self) -> dict[str, Contents]:
        return {**self.weights.reads(), "benchmark": self.benchmark.contents()}

    def price(self) -> Price:
        views = self.mode != "blind"
        tokens = benchmark_tokens(self.benchmark, self.weights.model, views=views)
        stored = frozenset(job.name for job in self.weights.features)
        return prediction_price(self.weights.model, stored, tokens, self.benchmark.max_new_tokens)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        model = self.weights.build(store, blind=self.mode == "blind").to(self.device).eval()
        processor = Processor(self.weights.model, features=self.weights.lookups(store))
        shared = SharedFeatures(model, processor, batch=self.batch)
        benchmark, path = self.benchmark.open(), scratch / ANSWERS
        with self.asked(benchmark, shared) as answering:
            decoding = Decoding(max_new_tokens=self.benchmark.max_new_tokens)

            def answer(samples: Sequence[Sample]) -> list[str]:
                return answering.answer(samples, decoding)

            predicted = predict(benchmark, answer, path, mode=self.mode, batch=4 * self.batch)
        scored = score_file(benchmark, path, judge=judge_of(self.benchmark))
        scores = {"fingerprint": self.benchmark.fingerprint(), "scored": scored.to_dict()}
        (out / SCORES).write_text(json.dumps(scores))
        path.rename(out / ANSWERS)
        for kept in scratch.glob(REPLIES):
            kept.rename(out / kept.name)
        return {"unreadable": predicted.unreadable}

    def asked(self, benchmark: Benchmark, shared: SharedFeatures) -> AbstractContextManager[SharedFeatures]:
        """Who answers: the model as it was trained."""
        return nullcontext(shared)

    def findings(self, *, pixels: bool) -> Iterator[Finding]:
        """Packages, weights, the judge, and every question and reference of the benchmark."""
        model, stored = self.weights.model, {job.name for job in self.weights.features}
        trunks = {} if self.mode == "blind" else model.encoders
        faults: list[Iterator[OmmatidiaError]] = [language_faults(model.language)]
        faults += [encoder_faults(name, one) for name, one in trunks.items() if name not in stored]
        yield from (Finding.of(fault) for some in faults for fault in some)
        scorer = getattr(self.benchmark, "scorer", None)
        if isinstance(scorer, JudgedScorer) and scorer.needs_judge and judge_of(self.benchmark) is None:
            yield Finding.of(
                ConfigError(
                    f"{self.benchmark.name} is scored by a language model: name an OpenAI-compatible endpoint in "
                    f"{URL} and {MODEL} before anything is trained"
                )
            )
        yield from question_findings(self.benchmark, model, self.mode, pixels=pixels)
