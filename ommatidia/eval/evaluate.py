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
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.checks import no_strangers, same, tolerate
from ommatidia.eval.prompts import Mode
from ommatidia.eval.rescore import score_file

__all__ = ["Answerer", "Predicted", "predict", "score_file"]

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
        same(self.path, self.held, benchmark=self.benchmark.name, mode=self.mode, model=self.model)
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
        """Positions still to ask, after checking those that the file holds.

        Longest prompt first; questions on the same images follow one another, so that these are looked at once.
        """
        lengths: dict[int, tuple[int, int]] = {}
        seen: dict[int, tuple[str, ...]] = {}
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
                seen[position] = tuple(picture.digest for picture in prompt.images) or (sample.id,)
            except DataError as error:
                self._fail(file, sample.id, error)
                continue
            lengths[position] = (len(prompt.images), sum(len(message.text) for message in prompt.messages))
        no_strangers(self.path, self.held, known)
        longest: dict[tuple[str, ...], tuple[int, int]] = {}
        for position, length in lengths.items():
            longest[seen[position]] = max(length, longest.get(seen[position], length))
        return sorted(lengths, key=lambda n: (longest[seen[n]], seen[n], lengths[n], n), reverse=True)

    def _check(self, prompt: Sample, held: Answered) -> None:
        asked = self.benchmark.digest_of(prompt, mode=self.mode)
        if held.prompt != asked or held.images != tuple(picture.digest for picture in prompt.images):
            what = "prompt" if held.prompt != asked else "images"
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
        tolerate(self.benchmark, self.unreadable)
