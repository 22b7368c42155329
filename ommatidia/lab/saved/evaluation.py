"""Evaluate a saved model: answers as JSONL, resumable, then scores, or the file that a server scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import digest, override, read_yaml
from ommatidia.core.errors import ConfigError
from ommatidia.core.files import file_digest
from ommatidia.core.folders import claim_folder
from ommatidia.core.types import Sample
from ommatidia.core.version import VERSION
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.evaluate import predict
from ommatidia.eval.few_shot import FewShot
from ommatidia.eval.judge import EndpointJudge
from ommatidia.eval.prompts import Mode
from ommatidia.eval.scored import Scored
from ommatidia.eval.submission import is_served
from ommatidia.lab.run.preflight import check_writable
from ommatidia.lab.saved.scoring import as_data, read_benchmark, score_table, settle, tell
from ommatidia.models.generate import Decoding
from ommatidia.models.pretrained import load
from ommatidia.models.sharing import SharedFeatures


@dataclass(frozen=True)
class Choices:
    """What a command line says about benchmarks beside their names; None and 0 leave them as they are."""

    data: Path | None = None
    limit: int | None = None
    prompt: str | None = None
    shots: int = 0
    shots_split: str = "train"
    shots_seed: int = 0
    text_shots: bool = False


def read_benchmarks(names: str, choices: Choices) -> list[BenchmarkConfig]:
    """Benchmarks by name, comma-separated, or from a YAML file with a list of them. Raises ConfigError."""
    if Path(names).suffix in (".yaml", ".yml", ".json"):
        data = read_yaml(names)
        entries: list[Any] = data if isinstance(data, list) else [data]
    else:
        entries = [name.strip() for name in names.split(",")]
    data_root = None if choices.data is None else str(choices.data)
    chosen = [read_benchmark(entry, data=data_root, prompt=choices.prompt) for entry in entries]
    if twice := [config.name for n, config in enumerate(chosen) if config.name in {c.name for c in chosen[:n]}]:
        raise ConfigError(f"--benchmarks: {twice[0]!r} is named twice")
    if choices.limit is not None:
        chosen = [override(config, "limit", choices.limit) for config in chosen]
    if choices.shots:
        few = FewShot(
            shots=choices.shots,
            split=choices.shots_split,
            seed=choices.shots_seed,
            pictures=not choices.text_shots,
        )
        chosen = [override(config, "few_shot", few.to_dict()) for config in chosen]
    elif choices.text_shots:
        raise ConfigError("--text-shots: how many is missing; add --shots 2")
    return chosen


def evaluate_checkpoint(
    checkpoint: Path,
    benchmarks: str,
    *,
    out: Path,
    choices: Choices,
    blind: bool = True,
    batch: int = 64,
    device: str = "cpu",
) -> CommandResult:
    """Answers of a saved model as JSONL under ``out``, resumable; scores with intervals.

    Raises ConfigError, RunError or DataError; an opened benchmark is checked before the model is loaded.
    """
    opened = [config.open() for config in read_benchmarks(benchmarks, choices)]
    check_writable(out)
    judge = EndpointJudge.from_environment()
    claim_folder(out, ours=("*.jsonl", "*.json", "*.csv", "*.part", "*.lock"), inputs=[checkpoint])
    model, processor = load(checkpoint, device=device)
    identity = model_digest(checkpoint)
    shared = SharedFeatures(model, processor, batch=batch)

    def tokens(text: str) -> int:
        return len(processor.tokenizer.encode(text, special=False))

    modes: tuple[Mode, ...] = ("full", "blind") if blind and processor.config.encoders else ("full",)
    scored: dict[tuple[str, Mode], Scored] = {}
    driven = CommandResult(data={"model": str(checkpoint), "digest": identity, "scores": {}})
    for benchmark in opened:
        decoding = Decoding(max_new_tokens=benchmark.config.max_new_tokens)

        def answer(samples: Sequence[Sample], decoding: Decoding = decoding) -> list[str]:
            return shared.answer(samples, decoding)

        for mode in ("full",) if is_served(benchmark) else modes:
            path = answers_path(out, benchmark.config, mode)
            about = {"mode": mode, "model": identity, "checkpoint": str(checkpoint), "decoding": decoding.to_dict()}
            tell(path, benchmark.config, {**about, "ommatidia": VERSION})
            predict(benchmark, answer, path, mode=mode, batch=4 * batch, model=identity, count_tokens=tokens)
            if settled := settle(benchmark, path, judge, driven):
                scored[benchmark.name, mode] = settled
    driven.tables = [score_table(scored)] if scored else []
    driven.data["notes"] = driven.lines
    driven.data["scores"] = {f"{name}/{mode}": as_data(one) for (name, mode), one in scored.items()}
    return driven


def answers_path(out: Path, config: BenchmarkConfig, mode: Mode) -> Path:
    """Where the answers lie: choices that change what is asked have files of their own."""
    version = config.prompt_version()
    usual = next(iter(config.versions)) if isinstance(config, Published) else ""
    label = "" if version == usual else f".{version}"
    return out / f"{config.name}{label}.{mode}.jsonl"


def model_digest(folder: Path) -> str:
    """Identifies a saved model by its config, its weights and its language model's files, wherever the folder lies."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])
