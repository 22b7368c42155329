"""Prediction: a trained model's answers to one benchmark. Scoring reads them later and needs no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ommatidia.core.errors import ConfigError, OmmatidiaError
from ommatidia.core.types import Sample
from ommatidia.eval.answers import read_answers
from ommatidia.eval.benchmark import Benchmark, BenchmarkConfig
from ommatidia.eval.evaluate import predict, score_file
from ommatidia.eval.judge import MODEL, URL, EndpointJudge
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.lab.cost import benchmark_tokens, prediction_price
from ommatidia.lab.jobs.job import Finding, Job, Price
from ommatidia.lab.jobs.training import Weights
from ommatidia.lab.questions import question_findings
from ommatidia.lab.requirements import encoder_faults, language_faults
from ommatidia.lab.store import Store
from ommatidia.models.generate import Decoding
from ommatidia.models.processor import Processor
from ommatidia.models.sharing import SharedFeatures

_ANSWERS, _SCORES, _REPLIES = "answers.jsonl", "scores.json", "answers.judge*.jsonl"

_SEEN: dict[Mode, str] = {"full": "", "blind": " without pictures", "blank": ", gray", "shuffled": ", wrong pictures"}


@dataclass(frozen=True)
class PredictionJob(Job):
    """One model, one benchmark, one mode."""

    kind: ClassVar[str] = "prediction"
    version: ClassVar[int] = 2

    weights: Weights
    benchmark: BenchmarkConfig
    mode: Mode
    batch: int
    device: str = "cpu"

    @property
    def label(self) -> str:
        seen = " + ".join(self.weights.model.encoders) or "language model"
        return f"answers of {seen} to {self.benchmark.name}{_SEEN[self.mode]}"

    def identity(self) -> Any:
        return [self.weights.identity(), self.benchmark.questions_fingerprint(), self.mode]

    def needs(self) -> tuple[Job, ...]:
        return self.weights.needs()

    def price(self) -> Price:
        views = self.mode != "blind"
        tokens = benchmark_tokens(self.benchmark, self.weights.model, views=views)
        stored = frozenset(job.name for job in self.weights.features)
        return prediction_price(self.weights.model, stored, tokens, self.benchmark.max_new_tokens)

    def execute(self, store: Store, scratch: Path, out: Path) -> dict[str, Any]:
        model = self.weights.build(store, blind=self.mode == "blind").to(self.device).eval()
        processor = Processor(self.weights.model, features=self.weights.lookups(store))
        shared = SharedFeatures(model, processor, batch=self.batch)
        benchmark, path = self.benchmark.open(), scratch / _ANSWERS
        with self.asked(benchmark, shared) as answering:
            decoding = Decoding(max_new_tokens=self.benchmark.max_new_tokens)

            def answer(samples: Sequence[Sample]) -> list[str]:
                return answering.answer(samples, decoding)

            predicted = predict(benchmark, answer, path, mode=self.mode, batch=4 * self.batch)
        scored = score_file(benchmark, path, judge=self._judge())
        scores = {"fingerprint": self.benchmark.fingerprint(), "scored": scored.to_dict()}
        (out / _SCORES).write_text(json.dumps(scores))
        path.rename(out / _ANSWERS)
        for kept in scratch.glob(_REPLIES):
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
        if isinstance(scorer, JudgedScorer) and scorer.needs_judge and self._judge() is None:
            yield Finding.of(
                ConfigError(
                    f"{self.benchmark.name} is scored by a language model: name an OpenAI-compatible endpoint in "
                    f"{URL} and {MODEL} before anything is trained"
                )
            )
        yield from question_findings(self.benchmark, model, self.mode, pixels=pixels)

    def _judge(self) -> EndpointJudge | None:
        judged = isinstance(getattr(self.benchmark, "scorer", None), JudgedScorer)
        return EndpointJudge.from_environment() if judged else None

    def scored(self, store: Store) -> Scored:
        """The finished answers' scores; scored again, without a model, where the scorer has changed since or another
        judge is named. Its replies then lie in the store's folder ``judged``: a finished node stays as it is."""
        kept, judge = json.loads((self.folder(store) / _SCORES).read_text()), self._judge()
        other = judge is not None and not kept["scored"]["judge"].startswith(judge.name)
        if kept["fingerprint"] == self.benchmark.fingerprint() and not other:
            return Scored.from_dict(kept["scored"])
        if judge is None:
            return score_file(self.benchmark.open(), self.folder(store) / _ANSWERS)
        again = store.root / "judged" / self.key
        again.mkdir(parents=True, exist_ok=True)
        folder = self.folder(store)
        for file in (folder / _ANSWERS, *folder.glob(_REPLIES)):
            if not (again / file.name).is_file():
                shutil.copyfile(file, again / file.name)
        return score_file(self.benchmark.open(), again / _ANSWERS, judge=judge)

    def answers(self, store: Store) -> dict[str, str]:
        """What the model said, by sample id."""
        held = read_answers(self.folder(store) / _ANSWERS)
        return {sample: record.answer or "" for sample, record in held.items()}
