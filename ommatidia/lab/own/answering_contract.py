"""What every source, scorer and benchmark keeps: the same data give the same samples, and any answer has a score."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ommatidia.core.errors import DataError
from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Message, Sample
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.evaluate import predict, score_file
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.lab.own.contract import Contract, check, expect

ODD_ANSWERS = ("", " ", "a", "yes", "\u200b", "１２", "-0", "nan", "(A)", "é\u0301", "x" * 400, "\U0001f600 \ud800")
"""What a model may say."""
_LONG, _SECONDS, _MOST = 100_000, 2.0, 64


@dataclass
class SourceContract(Contract):
    """Checks of one small source, a kind's ``tiny()``. At most 64 records are read."""

    config: SourceConfig

    @check
    def config_round_trip(self) -> None:
        """its config is written and read again"""
        again = SourceConfig.parse(self.config.to_dict())
        expect(again == self.config and again.digest() == self.config.digest(), "what is read is another config")

    @check
    def same_samples(self) -> None:
        """the same index always gives the same sample"""
        one, two = self.config.open(), self.config.open()
        expect(len(one) > 0, "it has no sample")
        expect(len(one) == len(two), "opened twice, it has other lengths")
        for index in range(min(len(one), _MOST)):
            first, second = one[index], two[index]
            same = (first.id, first.messages, [i.digest for i in first.images])
            expect(same == (second.id, second.messages, [i.digest for i in second.images]), f"record {index} differs")

    @check
    def ids(self) -> None:
        """ids are unique and not empty"""
        source = self.config.open()
        ids = [source[index].id for index in range(min(len(source), _MOST))]
        expect(all(ids), "a sample has an empty id")
        expect(len(set(ids)) == len(ids), "two samples have one id")

    @check
    def images_open(self) -> None:
        """every image opens"""
        source = self.config.open()
        for index in range(min(len(source), _MOST)):
            for image in source[index].images:
                expect(min(image.open().size) > 0, f"record {index} has an empty image")

    @check
    def fingerprint(self) -> None:
        """its fingerprint is the same every time"""
        expect(self.config.fingerprint() == self.config.fingerprint(), "two looks give two fingerprints")


@dataclass
class ScorerContract(Contract):
    """Checks of one scorer, over a question with a reference answer and options."""

    config: ScorerConfig

    @property
    def sample(self) -> Sample:
        """A question that most scorers can score."""
        messages = (Message("user", ("Which is it?",)), Message("assistant", ("yes",)))
        return Sample("0", messages, meta={"options": {"A": "yes", "B": "no"}, "references": ["yes"]})

    @check
    def config_round_trip(self) -> None:
        """its config is written and read again"""
        again = ScorerConfig.parse(self.config.to_dict())
        expect(again == self.config and again.digest() == self.config.digest(), "what is read is another config")

    @check
    def any_answer(self) -> None:
        """any answer has a score from 0 to the most there is"""
        for answer in ODD_ANSWERS:
            value = self.config.score(self.sample, answer.strip())
            expect(0.0 <= value <= self.config.most, f"{answer[:20]!r} scores {value}, outside 0 to {self.config.most}")

    @check
    def pure(self) -> None:
        """the same answer has the same score"""
        for answer in ODD_ANSWERS:
            one, two = (self.config.score(self.sample, answer.strip()) for _ in range(2))
            expect(one == two, f"{answer[:20]!r} scores {one}, then {two}")

    @check
    def reference(self) -> None:
        """no answer scores more than the reference"""
        best = self.config.score(self.sample, "yes")
        better = [a for a in ODD_ANSWERS if self.config.score(self.sample, a.strip()) > best]
        expect(not better, f"{better[:1]} scores more than the reference answer")

    @check
    def linear(self) -> None:
        """an answer of 100,000 characters is scored in two seconds"""
        for unit in ("a ", "1.", "(", "yes,", "\n"):
            began = time.perf_counter()
            self.config.score(self.sample, (unit * _LONG)[:_LONG])
            expect(time.perf_counter() - began < _SECONDS, f"{unit!r} repeated takes longer")

    @check
    def without_reference(self) -> None:
        """a sample without a reference is refused or scored, never a crash"""
        try:
            self.config.score(Sample("0", (Message("user", ("Which?",)),)), "yes")
        except DataError:
            return


@dataclass
class BenchmarkContract(Contract):
    """Checks of one small benchmark, a kind's ``tiny()``, answered by a stand-in for a model."""

    config: BenchmarkConfig

    def scored(self, answers: Iterator[str]) -> Scored:
        benchmark = self.config.open()
        with TemporaryDirectory() as folder:
            path = Path(folder) / "answers.jsonl"
            predict(benchmark, lambda prompts: [next(answers) for _ in prompts], path)
            first = score_file(benchmark, path)
            expect(score_file(benchmark, path).values.tolist() == first.values.tolist(), "scored twice, it differs")
        return first

    @check
    def config_round_trip(self) -> None:
        """its config is written and read again"""
        again = BenchmarkConfig.parse(self.config.to_dict())
        expect(again == self.config and again.digest() == self.config.digest(), "what is read is another config")

    @check
    def odd_answers(self) -> None:
        """whatever a model says, the score lies from 0 to the most there is"""
        found = self.scored(answer for _ in iter(int, 1) for answer in ODD_ANSWERS)
        expect(found.n > 0, "it has no question")
        most = getattr(getattr(self.config, "scorer", None), "most", 1.0)
        expect(all(0.0 <= value <= most for value in found.values), "a score lies outside")
        expect(0.0 <= found.mean <= most, f"the headline number is {found.mean}")

    @check
    def fingerprint(self) -> None:
        """its fingerprint is the same every time"""
        expect(self.config.fingerprint() == self.config.fingerprint(), "two looks give two fingerprints")
