"""Benchmark: questions, what an answerer may see of them, and how an answer scores. Knows no model."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, get_args, overload

import numpy as np
from pydantic import Field

from ommatidia.core.config import Config, digest, override
from ommatidia.core.contents import Contents
from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.core.files import looked
from ommatidia.core.names import Name
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import Picture, Sample
from ommatidia.eval.few_shot import Demonstrations, FewShot
from ommatidia.eval.prompts import Mode, exchange, prompt_digest, prompt_of
from ommatidia.eval.scoring import ScorerConfig
from ommatidia.eval.scoring.judged import Verdict
from ommatidia.eval.scoring.score import Score, Status, grouped, mean

Group = Literal["general", "knowledge", "ocr_chart", "vision_centric"]
"""The four groups of Cambrian-1, section 4."""

GROUPS: tuple[Group, ...] = get_args(Group)

LIMIT_SEED = 0
"""Of the permutation whose first ``limit`` records are asked: a smaller limit asks a subset of a larger one."""


class BenchmarkConfig(Config, family=True):
    """Names a benchmark. A new kind is one class in one file; ``open`` may return ``Benchmark`` or a subclass of it."""

    version: ClassVar[int] = 1
    """Raised by hand when the same config would ask or sum up otherwise; it is part of the digest."""

    name: Name
    group: Group
    max_new_tokens: int = Field(default=16, ge=1)
    tolerance: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of samples that may be unreadable before evaluation stops. They are counted and listed, never scored."""

    few_shot: FewShot | None = None
    """Solved examples before each question."""

    @abstractmethod
    def open(self) -> Benchmark:
        """Raises DataError when the data cannot be read or is empty."""

    def examples(self, split: str) -> Sequence[Sample]:
        """Records of another split, to draw solved examples from. Raises ConfigError or DataError."""
        raise ConfigError(f"{self.name}: no examples of a split; few_shot.source must name where they come from")

    def prompt_version(self) -> str:
        """Whose words are sent, and with how many examples: what two numbers of one name must share."""
        return self.few_shot.describe() if self.few_shot else ""

    def questions_fingerprint(self) -> str:
        """Digest of all that answers depend on; stored answers stay good while it does not change."""
        scoring = {name for name in type(self).model_fields if isinstance(getattr(self, name), ScorerConfig)}
        data = self.hashed_without_places()
        asked = {name: value for name, value in data.items() if name not in scoring | {"group", "tolerance"}}
        return digest([asked, self.contents().digest])

    def fingerprint(self) -> str:
        """Digest of all that scores depend on, the content of the data and the version of the scorer included."""
        return digest([self.hashed_without_places(), self.contents().digest])

    def hashed(self) -> Any:
        data = {**super().hashed(), "version": self.version}
        if self.few_shot is None:
            del data["few_shot"]
        return data

    def contents(self) -> Contents:
        """What it reads, by content; looked at once inside ``files.settled``. Raises DataError as ``open`` does."""
        return looked(["benchmark", self.to_json()], self.reads)

    def reads(self) -> Contents:
        """What it reads, looked at now: the sources among its fields; a kind with files of its own adds them."""
        fields = [getattr(self, name) for name in type(self).model_fields]
        if self.few_shot is not None:
            fields.append(self.few_shot.source or self.examples_source(self.few_shot.split))
        return Contents.joined(value.contents() for value in fields if isinstance(value, SourceConfig))

    def examples_source(self, split: str) -> SourceConfig | None:
        """The source that solved examples of a split come from; None where they come from no source."""
        return None

    def describe(self) -> str:
        """A few words for tables."""
        return type(self).__name__


class SourceBenchmark(BenchmarkConfig):
    """A benchmark from any source whose samples close with the reference answer (or hold ``meta["references"]``).

    ``limit`` asks the first ``limit`` records after a permutation seeded with LIMIT_SEED; None asks all in their order.
    """

    kind: Literal["source"] = "source"
    source: SourceConfig
    scorer: ScorerConfig
    limit: int | None = Field(default=None, ge=1)
    prompt_suffix: str = ""

    def open(self) -> Benchmark:
        source = self.source.open()
        if len(source) == 0:
            raise DataError("the source is empty", source=self.name)
        samples = Chosen(source, choose(len(source), self.limit), name=self.name)
        return Benchmark(self, samples, scorer=self.scorer, prompt_suffix=self.prompt_suffix)

    def examples(self, split: str) -> Sequence[Sample]:
        config = self.examples_source(split)
        if config is None:
            return super().examples(split)
        source = config.open()
        return Chosen(source, range(len(source)), name=self.name)

    def examples_source(self, split: str) -> SourceConfig | None:
        return override(self.source, "split", split) if "split" in type(self.source).model_fields else None

    def describe(self) -> str:
        return f"{self.source.describe()}, scored by {self.scorer.kind_name()}"


def choose(total: int, limit: int | None) -> list[int]:
    """Positions to ask, of ``total`` records: all in order, or the first ``limit`` of one fixed permutation."""
    if limit is None or limit >= total:
        return list(range(total))
    return [int(i) for i in np.random.default_rng(LIMIT_SEED).permutation(total)[:limit]]


class Chosen(Sequence[Sample]):
    """Some records of a source, read when asked for. ``[i]`` raises DataError for an unreadable record."""

    def __init__(self, source: Source, positions: Sequence[int], *, name: str) -> None:
        self._source, self._positions, self._name = source, positions, name

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> Sample | Chosen:
        if isinstance(index, slice):
            return Chosen(self._source, self._positions[index], name=self._name)
        position = self._positions[index]
        try:
            return self._source[position]
        except DataError as error:
            raise error.at(source=self._name, sample=f"#{position}") from None


class Renamed(Sequence[Sample]):
    """Samples of which some have another id than the data gives them, by position."""

    def __init__(self, samples: Sequence[Sample], names: Mapping[int, str]) -> None:
        self._samples, self._names = samples, names

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        sample = self._samples[position]
        return replace(sample, id=self._names[position]) if position in self._names else sample


class Benchmark:
    """An opened benchmark: the samples of a config, what is asked of them, and what the scorer makes of the answers."""

    def __init__(
        self, config: BenchmarkConfig, samples: Sequence[Sample], *, scorer: ScorerConfig, prompt_suffix: str = ""
    ) -> None:
        self.config, self.scorer, self.prompt_suffix = config, scorer, prompt_suffix
        self._samples = samples

    @property
    def name(self) -> str:
        """The name that its config gives it; results and tables use it."""
        return self.config.name

    @cached_property
    def repeats(self) -> dict[int, str]:
        """Position -> id of every sample whose own id an earlier sample has: LLaVA's own mixture asks several dialogues
        about an image under one id. The second is called ``ID#2``, and so on; answers are filed by these ids."""
        names: dict[int, str] = {}
        for position in range(len(self._samples)):
            with contextlib.suppress(DataError):  # whoever reads it counts it
                names[position] = self._samples[position].id
        taken, times, found = set(names.values()), Counter[str](), {}
        for position, name in names.items():
            times[name] += 1
            if times[name] > 1:
                while (unique := f"{name}#{times[name]}") in taken:
                    times[name] += 1
                taken.add(unique)
                found[position] = unique
        return found

    def samples(self) -> Sequence[Sample]:
        """All samples with their references, read one by one, each with an id of its own; an unreadable one raises
        DataError when it is indexed."""
        return Renamed(self._samples, self.repeats) if self.repeats else self._samples

    def readable(self) -> Iterator[tuple[int, Sample | DataError]]:
        """Every position with its sample, or with the error that reading it gave."""
        samples = self.samples()
        for position in range(len(samples)):
            try:
                sample = samples[position]
            except DataError as error:
                yield position, error
                continue
            yield position, sample

    def prompt(self, sample: Sample, *, mode: Mode = "full") -> Sample:
        """What an answerer sees of ``sample``; see ``prompt_of``. Raises DataError when nothing is left to ask."""
        try:
            other = self._exchanged.get(sample.id, ()) if mode == "shuffled" else ()
            return self._asked(sample, mode, other)
        except DataError as error:
            raise error.at(source=self.name, sample=sample.id) from None

    def prompt_digest(self, sample: Sample, *, mode: Mode = "full") -> str:
        """Identifies what ``prompt`` asks, without looking at any image."""
        words = self._asked(sample, "blind" if mode == "blind" else "full", ())
        return self.digest_of(words, mode=mode)

    def _asked(self, sample: Sample, mode: Mode, other: Sequence[Picture]) -> Sample:
        """The question as ``mode`` shows it, behind its examples, which go blind and blank with it."""
        if self._demonstrations is None:
            return prompt_of(sample, mode=mode, suffix=self.prompt_suffix, other=other)
        exchanged = mode == "shuffled"
        ask = partial(prompt_of, mode="shuffled" if exchanged else "full", suffix=self.prompt_suffix, other=other)
        whole = self._demonstrations.prepend(sample, ask, own=self._own_ids.get(sample.id, sample.id))
        return whole if exchanged or mode == "full" else prompt_of(whole, mode=mode)

    @cached_property
    def _own_ids(self) -> dict[str, str]:
        """The ids that the data gives, of the samples that have another one here."""
        return {name: self._samples[position].id for position, name in self.repeats.items()}

    @cached_property
    def _demonstrations(self) -> Demonstrations | None:
        config = self.config.few_shot
        if config is None:
            return None
        if config.source is not None:
            source = config.source.open()
            pool: Sequence[Sample] = Chosen(source, range(len(source)), name=self.name)
        else:
            pool = self.config.examples(config.split)
        return Demonstrations(config, pool, suffix=self.prompt_suffix)

    def digest_of(self, prompt: Sample, *, mode: Mode) -> str:
        """``prompt_digest`` of a prompt already made."""
        return prompt_digest(prompt, mode=mode, max_new_tokens=self.config.max_new_tokens)

    def exchange_images(self) -> Mapping[str, tuple[Picture, ...]]:
        """The images that each sample is asked with in mode ``shuffled``, by its id. Raises DataError where some set of
        images has no other to change places with."""
        return self._exchanged

    @cached_property
    def _exchanged(self) -> dict[str, tuple[Picture, ...]]:
        return exchange({s.id: s.images for _, s in self.readable() if isinstance(s, Sample)})

    def score(self, sample: Sample, answer: str, *, verdict: Verdict | None = None) -> Score:
        """The worth of ``answer``, stripped first as every reference implementation does, or what a judge made of it.

        Raises DataError when the sample cannot be scored, RunError when the scorer leaves its range.
        """
        answer = answer.strip()
        try:
            value = float(self._scorer.score(sample, answer)) if verdict is None else verdict.value
            parsed = self._scorer.parsed(sample, answer) if verdict is None else verdict.parsed
            tags = dict(self._scorer.tags(sample, answer))
        except DataError as error:
            raise error.at(source=self.name, sample=sample.id) from None
        if not (math.isfinite(value) and 0.0 <= value <= self.scorer.most):
            most = f"{self.scorer.most:g}"
            raise RunError(f"{self.name}: the scorer gave {value} to sample {sample.id!r}, expected 0 to {most}")
        status: Status = "empty" if not answer else "unparsed" if parsed is None else "parsed"
        task = sample.meta.get("task")
        tags |= {} if task is None else {"task": str(task)}
        return Score(sample.id, value, cluster_of(sample), status, tags, 1.0 if verdict is None else verdict.weight)

    @cached_property
    def _scorer(self) -> ScorerConfig:
        return self.scorer.over(sample for _, sample in self.readable() if isinstance(sample, Sample))

    def units(self, scores: Sequence[Score]) -> Sequence[Score]:
        """What the headline number is the mean of: the samples, or what the scorer joins them to (pairs, rotations).

        Raises DataError when they cannot be joined, RunError when nothing is left.
        """
        units = self.scorer.units(scores)
        if not units:
            raise RunError(f"{self.name}: no score to summarise")
        return units

    def summary(self, scores: Sequence[Score]) -> dict[str, float]:
        """The headline ``score``, the shares of empty and unparsed answers, the scorer's figures, each task's score.

        Raises RunError when there is no score.
        """
        units = self.units(scores)
        found = {
            "score": mean(units),
            "empty": float(np.mean([s.status == "empty" for s in scores])),
            "unparsed": float(np.mean([s.status == "unparsed" for s in scores])),
        }
        tasks = {f"task:{task}": mean(inside) for task, inside in sorted(grouped(units, "task").items())}
        return found | self.scorer.figures(scores) | tasks


def cluster_of(sample: Sample) -> str:
    """What samples are resampled by: ``meta["cluster"]``, otherwise their images, otherwise the sample alone."""
    given: Any = sample.meta.get("cluster")
    if given is not None:
        return str(given)
    return "+".join(picture.digest for picture in sample.images) or sample.id
