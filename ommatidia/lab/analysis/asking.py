"""What the analyses share: who a checkpoint is, asking it through any processor, writing results down."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ommatidia.core.errors import RunError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.evaluate import predict, score_file
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import Interval
from ommatidia.models.generate import Decoding
from ommatidia.models.sharing import SharedFeatures


def ask(benchmark: Benchmark, shared: SharedFeatures, path: Path, *, who: str, mode: Mode = "full") -> Scored:
    """Answers through ``shared`` in ``path``, resumable, and their scores."""
    decoding = Decoding(max_new_tokens=benchmark.config.max_new_tokens)

    def answer(samples: Sequence[Sample]) -> list[str]:
        return shared.answer(samples, decoding)

    predict(benchmark, answer, path, mode=mode, batch=4 * shared.batch, model=who)
    return score_file(benchmark, path)


def written(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write each text under its name. Raises RunError when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}") from None
    return [folder / name for name in texts]


def as_json(data: Any) -> str:
    """Data for a file that people also read."""
    return json.dumps(data, indent=1, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)


def shown(interval: Interval | None, *, show: Callable[[float], str] = "{:.1f}".format) -> str:
    """ "71.2 [69.0, 73.1]" in percent; a dash where there is none."""
    if interval is None:
        return "-"
    mean, low, high = (show(100 * value) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
