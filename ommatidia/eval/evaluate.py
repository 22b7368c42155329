"""Predict and score, two phases joined by a file: asking needs a model, scoring does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ommatidia.core.console import console
from ommatidia.core.errors import DataError, DiskError, RunError
from ommatidia.core.types import Sample
from ommatidia.eval.answers import Answered, AnswerFile, read_answers
from ommatidia.eval.benchmark import Benchmark, Score
from ommatidia.eval.prompts import MODES, Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import bootstrap_interval

Answerer = Callable[[Sequence[Sample]], Sequence[str]]
"""Prompts in, one answer each out, in order. Raises DataError, best with its id, for a sample it cannot read."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What ``predict`` did."""

    asked: int
    """Samples answered by this call."""
    kept: int
    """Samples that the file already held."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Cause by sample id."""


def predict(
    benchmark: Benchmark,
    answerer: Answerer,
    path: str | Path,
    *,
    mode: Mode = "full",
    batch: int = 8,
    model: str = "",
    count_tokens: Callable[[str], int] | None = None,
) -> Predicted:
    """Ask every sample that ``path`` does not hold yet, and append the answers as they come.

    Samples of like length share a batch, longest first. May be killed at any moment and called again. ``model`` names
    the answerer (a digest): a file begun with another is refused. ``count_tokens`` measures answers for the record.

    Raises:
        RunError: the file belongs to another benchmark, prompt, mode or model, is damaged, or is being written by
            another process; the answerer returns something else than one text for each prompt.
        DataError: more samples are unreadable than ``benchmark.config.tolerance`` allows, or ids are not unique.
    """
    path = Path(path)
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunError(f"{path}: another process is writing answers here") from None
    except OSError as error:
        raise DiskError(f"{path}: cannot write answers: {error.strerror or error}") from None
    try:
        return _Prediction(benchmark, answerer, path, mode=mode, model=model, count_tokens=count_tokens).run(batch)
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


class _Prediction:
    """One call of ``predict``: the file's state and the failures so far."""

    def __init__(
        self,
        benchmark: Benchmark,
        answerer: Answerer,
        path: Path,
        *,
        mode: Mode,
        model: str,
        count_tokens: Callable[[str], int] | None,
    ) -> None:
        self.benchmark, self.answerer, self.path, self.mode, self.model = benchmark, answerer, path, mode, model
        self.count_tokens = count_tokens
        self.unreadable: dict[str, str] = {}
        self.held: dict[str, Answered] = {}

    def run(self, batch: int) -> Predicted:
        self.held = read_answers(self.path) if self.path.exists() else {}
        _same(self.path, self.held, benchmark=self.benchmark.name, mode=self.mode, model=self.model)
        samples = self.benchmark.samples()
        total = len(samples)
        with AnswerFile(self.path) as file:
            pending = self._pending(file)
            kept, asked = total - len(pending) - len(self.unreadable), 0
            label = self.benchmark.name if self.mode == "full" else f"{self.benchmark.name} ({self.mode})"
            with console().progress(label, total, done=total - len(pending)) as bar:
                for start in range(0, len(pending), batch):
                    positions = pending[start : start + batch]
                    prompts = [self.benchmark.prompt(samples[i], mode=self.mode) for i in positions]
                    for records in self._ask(file, prompts):
                        file.append(records)
                        asked += len(records)
                    bar.advance(len(positions))
        if self.unreadable:
            listed = ", ".join(list(self.unreadable)[:10])
            console().warn(f"{self.benchmark.name}: {len(self.unreadable)} of {total} samples unreadable: {listed}")
        return Predicted(asked, kept, dict(self.unreadable))

    def _pending(self, file: AnswerFile) -> list[int]:
        """Positions still to ask, longest prompt first, after checking those that the file holds."""
        lengths: dict[int, tuple[int, int]] = {}
        known = set()
        for position, sample in self.benchmark.readable():
            if isinstance(sample, DataError):
                self._fail(file, sample.sample or f"#{position}", sample)
                continue
            known.add(sample.id)
            try:
                prompt = self.benchmark.prompt(sample, mode=self.mode)
                held = self.held.get(sample.id)
                if held is not None and held.answer is not None:
                    self._check(prompt, held)
                    continue
            except DataError as error:
                self._fail(file, sample.id, error)
                continue
            lengths[position] = (len(prompt.images), sum(len(message.text) for message in prompt.messages))
        _no_strangers(self.path, self.held, known)
        return sorted(lengths, key=lambda position: (lengths[position], position), reverse=True)

    def _check(self, prompt: Sample, held: Answered) -> None:
        asked = self.benchmark.digest_of(prompt, mode=self.mode)
        if held.prompt != asked or held.images != tuple(picture.digest for picture in prompt.images):
            what = "prompt" if held.prompt != asked else "pictures"
            raise RunError(
                f"{self.path}: sample {prompt.id!r} was answered to other {what} than {self.benchmark.name} asks now; "
                "answer into a new file"
            )

    def _ask(self, file: AnswerFile, prompts: Sequence[Sample]) -> Iterator[list[Answered]]:
        """Answers of one batch; a sample that the answerer cannot read is listed and the others are asked again."""
        if not prompts:
            return
        began = time.perf_counter()
        try:
            images = [tuple(picture.digest for picture in prompt.images) for prompt in prompts]
            answers = list(self.answerer(prompts))
        except DataError as error:
            guilty = [prompt for prompt in prompts if prompt.id == error.sample] or (
                prompts if len(prompts) == 1 else []
            )
            if guilty:
                self._fail(file, guilty[0].id, error)
                yield from self._ask(file, [prompt for prompt in prompts if prompt is not guilty[0]])
            else:
                for prompt in prompts:
                    yield from self._ask(file, [prompt])
            return
        seconds = (time.perf_counter() - began) / len(prompts)
        if len(answers) != len(prompts) or not all(isinstance(answer, str) for answer in answers):
            raise RunError(f"{self.benchmark.name}: the answerer gave {len(answers)} answers to {len(prompts)} prompts")
        yield [
            self._record(prompt, digests, answer, seconds) for prompt, digests, answer in zip(prompts, images, answers)
        ]

    def _record(self, prompt: Sample, images: tuple[str, ...], answer: str, seconds: float) -> Answered:
        return Answered(
            id=prompt.id,
            benchmark=self.benchmark.name,
            mode=self.mode,
            model=self.model,
            prompt=self.benchmark.digest_of(prompt, mode=self.mode),
            images=images,
            answer=answer,
            seconds=round(seconds, 6),
            tokens=self.count_tokens(answer) if self.count_tokens else None,
        )

    def _fail(self, file: AnswerFile, sample: str, error: DataError) -> None:
        """List an unreadable sample; raises DataError when they are more than tolerated."""
        self.unreadable[sample] = error.cause
        held = self.held.get(sample)
        if held is None or (held.answer is None and held.unreadable != error.cause):
            record = Answered(sample, self.benchmark.name, self.mode, self.model, unreadable=error.cause)
            file.append([record])
        _tolerate(self.benchmark, self.unreadable)


def score_file(benchmark: Benchmark, path: str | Path, *, resamples: int = 2000, seed: int = 0) -> Scored:
    """Score stored answers. Needs the references and no model.

    Raises:
        RunError: the file is missing, damaged, unfinished, or of another benchmark or prompt.
        DataError: more samples are unreadable, or without reference, than ``benchmark.config.tolerance`` allows.
    """
    path = Path(path)
    held = read_answers(path)
    if not held:
        raise RunError(f"{path}: holds no answer")
    first = next(iter(held.values()))
    _same(path, held, benchmark=benchmark.name, mode=first.mode, model=first.model)
    scores: list[Score] = []
    unreadable: dict[str, str] = {}
    known, missing = set(), 0
    for position, sample in benchmark.readable():
        if isinstance(sample, DataError):
            unreadable[sample.sample or f"#{position}"] = sample.cause
            continue
        known.add(sample.id)
        record = held.get(sample.id)
        if record is None:
            missing += 1
        elif record.answer is None:
            unreadable[sample.id] = record.unreadable or "no answer"
        else:
            try:
                asked = benchmark.prompt_digest(sample, mode=_mode(record.mode, path))
                score = benchmark.score(sample, record.answer)
            except DataError as error:
                unreadable[sample.id] = error.cause
                continue
            if record.prompt != asked:
                raise RunError(
                    f"{path}: sample {sample.id!r} was answered to another prompt than {benchmark.name} asks"
                )
            scores.append(score)
    _no_strangers(path, held, known)
    total = len(benchmark.samples())
    if missing:
        raise RunError(f"{path}: {missing} of {total} samples have no answer yet; predict into the same file to finish")
    _tolerate(benchmark, unreadable)
    units = tuple(benchmark.units(scores))
    values, clusters, weights = zip(*((u.value, u.cluster, u.weight) for u in units))
    interval = bootstrap_interval(values, clusters, weights=weights, resamples=resamples, seed=seed)
    return Scored(
        benchmark=benchmark.name,
        group=benchmark.config.group,
        mode=first.mode,
        model=first.model,
        scorer=str(getattr(benchmark.scorer, "kind", type(benchmark.scorer).__name__)),
        scorer_version=benchmark.scorer.version,
        scores=tuple(scores),
        units=units,
        interval=interval,
        summary=benchmark.summary(scores),
        unreadable=unreadable,
        seconds=sum(record.seconds for record in held.values()),
    )


def _same(path: Path, held: dict[str, Answered], *, benchmark: str, mode: str, model: str) -> None:
    for record in held.values():
        for what, found, wanted in (
            ("benchmark", record.benchmark, benchmark),
            ("mode", record.mode, mode),
            ("model", record.model, model),
        ):
            if found != wanted:
                raise RunError(f"{path}: holds answers of {what} {found!r}, expected {wanted!r}")


def _mode(name: str, path: Path) -> Mode:
    for mode in MODES:
        if mode == name:
            return mode
    raise RunError(f"{path}: unknown mode {name!r}; one of {', '.join(MODES)}")


def _no_strangers(path: Path, held: dict[str, Answered], known: set[str]) -> None:
    strangers = [record.id for record in held.values() if record.answer is not None and record.id not in known]
    if strangers:
        raise RunError(f"{path}: holds an answer to {strangers[0]!r}, which this benchmark does not ask")


def _tolerate(benchmark: Benchmark, unreadable: dict[str, str]) -> None:
    total, tolerance = len(benchmark.samples()), benchmark.config.tolerance
    if len(unreadable) > tolerance * total:
        sample, cause = next(reversed(unreadable.items()))
        count = f"{len(unreadable)} of {total} samples unreadable, tolerated {tolerance:.1%}; the last: {cause}"
        raise DataError(count, source=benchmark.name, sample=sample)
