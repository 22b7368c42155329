"""Score stored answers: needs the references and no model, and a judge only for what rules cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DataError, NoVerdictError, RunError
from ommatidia.core.types import Sample
from ommatidia.eval.answers import Answered, read_answers
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.checks import no_strangers, same, tolerate
from ommatidia.eval.judge import MODEL, URL, Judge, JudgeError, Replies, replies_path
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.judged import JudgedScorer, Verdict, averaged
from ommatidia.eval.scoring.score import Score
from ommatidia.eval.statistics import mean_interval


def score_file(benchmark: Benchmark, path: str | Path, *, judge: Judge | None = None) -> Scored:
    """Score stored answers. A judge's replies are kept beside them, so that scoring again asks nothing.

    Raises:
        ConfigError: the benchmark needs a judge and there is none.
        RunError: the file is missing, damaged, unfinished, or of another benchmark or prompt; no answer has a score.
        NoVerdictError: because the judge cannot be reached, or says nothing that is a verdict.
        DataError: more samples are unreadable, or without reference, than ``benchmark.config.tolerance`` allows.
    """
    path = Path(path)
    held = read_answers(path)
    if not held:
        raise RunError(f"{path}: holds no answer")
    first = next(iter(held.values()))
    same(path, held, benchmark=benchmark.name, mode=first.mode, model=first.model)
    scoring = _Scoring(benchmark, path, held)
    scoring.read()
    scoring.consult(judge)
    scores = scoring.score()
    units = tuple(benchmark.units(scores))
    values, clusters, weights = zip(*((u.value, u.cluster, u.weight) for u in units))
    interval = mean_interval(values, clusters, weights=weights, bounds=(0.0, benchmark.scorer.most))
    return Scored(
        benchmark=benchmark.name,
        group=benchmark.config.group,
        mode=first.mode,
        model=first.model,
        scorer=benchmark.scorer.kind_name(),
        scorer_version=benchmark.scorer.version,
        scores=tuple(scores),
        units=units,
        interval=interval,
        summary=benchmark.summary(scores),
        unreadable=scoring.unreadable,
        seconds=sum(record.seconds for record in held.values()),
        prompt=benchmark.config.prompt_version(),
        judge=scoring.judge,
        judged=scoring.judged,
    )


@dataclass
class _Scoring:
    """One call of ``score_file``."""

    benchmark: Benchmark
    path: Path
    held: dict[str, Answered]
    answers: list[tuple[Sample, str]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    judge: str = ""
    judged: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    """Samples that a judge was to read and did not."""
    last: str = ""
    """What the judge said, or why it said nothing, where that was no verdict."""

    def read(self) -> None:
        """Find each sample's answer. Raises RunError or DataError."""
        known, missing = set(), 0
        for position, sample in self.benchmark.readable():
            if isinstance(sample, DataError):
                self.unreadable[sample.sample or f"#{position}"] = sample.cause
                continue
            known.add(sample.id)
            record = self.held.get(sample.id)
            if record is None:
                missing += 1
            elif record.answer is None:
                self.unreadable[sample.id] = record.unreadable or "no answer"
            else:
                self._take(sample, record, record.answer)
        no_strangers(self.path, self.held, known)
        if missing:
            total = len(self.benchmark.samples())
            raise RunError(
                f"{self.path}: {missing} of {total} samples have no answer yet; predict into the same file to finish"
            )

    def _take(self, sample: Sample, record: Answered, answer: str) -> None:
        try:
            asked = self.benchmark.prompt_digest(sample, mode=_mode(record.mode, self.path))
        except DataError as error:
            self.unreadable[sample.id] = error.cause
            return
        if record.prompt != asked:
            raise RunError(
                f"{self.path}: sample {sample.id!r} was answered to another prompt than {self.benchmark.name} asks"
            )
        self.answers.append((sample, answer))

    def consult(self, judge: Judge | None) -> None:
        """Ask the judge about what the scorer's rules cannot read. Raises ConfigError, RunError or DataError."""
        scorer = self.benchmark.scorer
        if not isinstance(scorer, JudgedScorer):
            return
        if judge is None:
            if scorer.needs_judge:
                raise ConfigError(
                    f"{self.benchmark.name} is scored by a language model and there is none: name an OpenAI-compatible "
                    f"endpoint in {URL} and {MODEL}"
                )
            self.judge = "rules"
            return
        self.judge = judge.name + scorer.asked_how()
        questions = self._questions(scorer)
        given: dict[str, list[Verdict]] = {name: [] for name in questions}
        self.judged = {"asked": len(questions) * scorer.judge_runs, "failed": 0, "nonsense": 0}
        for run in range(scorer.judge_runs):
            replies = Replies(judge, replies_path(self.path, run)).ask_all(list(questions.values()))
            for sample, answer in self.answers:
                if sample.id not in questions:
                    continue
                reply = replies[questions[sample.id]]
                verdict = None if isinstance(reply, JudgeError) else scorer.verdict(sample, answer.strip(), reply)
                if verdict is None:
                    self.judged["failed" if isinstance(reply, JudgeError) else "nonsense"] += 1
                    self.last = str(reply) if isinstance(reply, JudgeError) else f"{judge.name} replied {reply[:60]!r}"
                else:
                    given[sample.id].append(verdict)
        self.verdicts = {name: averaged(verdicts) for name, verdicts in given.items() if verdicts}
        self.without = given.keys() - self.verdicts.keys()
        if self.without:
            lost = f"{len(self.without)} of {len(questions)} answers have no verdict"
            console().warn(f"{self.benchmark.name}: {lost} and are in no score; the last: {self.last}")

    def _questions(self, scorer: JudgedScorer) -> dict[str, str]:
        """What a judge is asked, by sample id."""
        questions = {}
        for sample, answer in self.answers:
            try:
                question = scorer.question(sample, answer.strip())
            except DataError:
                continue  # scoring it will say the same, and counts it
            if question is not None:
                questions[sample.id] = question
        return questions

    def score(self) -> list[Score]:
        """Raises DataError when more are unreadable than tolerated, NoVerdictError when the judge left none."""
        scores: list[Score] = []
        broken: set[str] = set()
        for sample, answer in self.answers:
            if sample.id in self.without:
                # What is scored together with a missing value is missing too: a rotation of one question.
                broken |= set(self._question(sample, answer))
                continue
            try:
                scores.append(self.benchmark.score(sample, answer, verdict=self.verdicts.get(sample.id)))
            except DataError as error:
                self.unreadable[sample.id] = error.cause
        tolerate(self.benchmark, self.unreadable)
        scores = [score for score in scores if score.tags.get("question") not in broken]
        if self.without and not scores:
            raise NoVerdictError(f"{self.benchmark.name}: not scored, no answer has a verdict; the last: {self.last}")
        return scores

    def _question(self, sample: Sample, answer: str) -> list[str]:
        tags = self.benchmark.scorer.tags(sample, answer.strip())
        return [tags["question"]] if "question" in tags else []


def _mode(name: str, path: Path) -> Mode:
    for mode in MODES:
        if mode == name:
            return mode
    raise RunError(f"{path}: unknown mode {name!r}; one of {', '.join(MODES)}")
