"""The questions of a benchmark as a model will be asked them, examined before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import BenchmarkConfig, cluster_of
from ommatidia.eval.examine import Examination, PromptSize, examine
from ommatidia.eval.prompts import Mode
from ommatidia.lab.nodes.job import Finding
from ommatidia.lab.nodes.records import LengthCheck
from ommatidia.models.config import MLLMConfig


def question_findings(benchmark: BenchmarkConfig, model: MLLMConfig, mode: Mode, *, pixels: bool) -> Iterator[Finding]:
    """What keeps the benchmark from being evaluated in this mode; and as notes, which samples will be left out and that
    ids which occur twice are told apart."""
    try:
        found = _examined(benchmark, benchmark.fingerprint(), mode, pixels)
        found = found.without(_too_long(benchmark, found.prompts, model, mode))
        for note in found.notes(benchmark):
            yield Finding(note)
    except DataError as error:
        yield Finding.of(error)


@lru_cache(maxsize=64)
def _examined(benchmark: BenchmarkConfig, fingerprint: str, mode: Mode, pixels: bool) -> Examination:
    """Designs that are asked the same share it. No mode sees an image that ``full`` does not."""
    return examine(benchmark.open(), mode=mode, decode=pixels and mode == "full")


def count_questions(benchmark: BenchmarkConfig) -> tuple[int, int]:
    """Readable questions, and the images they are about, by which scores are resampled. Raises DataError."""
    return _counted(benchmark, benchmark.fingerprint())


@lru_cache(maxsize=64)
def _counted(benchmark: BenchmarkConfig, fingerprint: str) -> tuple[int, int]:
    clusters = [cluster_of(sample) for _, sample in benchmark.open().readable() if isinstance(sample, Sample)]
    return len(clusters), len(set(clusters))


def _too_long(
    benchmark: BenchmarkConfig, prompts: tuple[PromptSize, ...], model: MLLMConfig, mode: Mode
) -> dict[str, str]:
    """Cause by id of every prompt that does not fit the context of the model with its visual tokens."""
    check = LengthCheck(model)
    template = check.template_bytes()
    doubtful = [
        one for one in prompts if not check.surely_fits(one.bytes + (one.turns + 1) * (template + 2), one.images)
    ]
    if not doubtful:
        return {}
    opened, causes = benchmark.open(), {}
    samples = opened.samples()
    for one in doubtful:
        try:
            check.processor.check_length(opened.prompt(samples[one.position], mode=mode), answer=False)
        except DataError as error:
            causes[one.id] = error.cause
    return causes
