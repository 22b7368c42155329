"""What the parts of a design need of the machine and its files, asked without building them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch

from ommatidia.core.errors import ConfigError, OmmatidiaError
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language import LanguageConfig
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.train.freeze import select
from ommatidia.train.prepare import check_engine
from ommatidia.train.stage import Stage
from ommatidia.train.tracking import check_trackers


def device_faults(device: str) -> Iterator[ConfigError]:
    """Whether torch can use the device of this name."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        yield ConfigError(f"device {device!r}: torch knows no such device; expected cpu, cuda or cuda:NUMBER")
        return
    if wanted.type not in ("cpu", "cuda"):
        yield ConfigError(f"device {device!r}: expected cpu, cuda or cuda:NUMBER")
    elif wanted.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        yield ConfigError(f"device {device!r}: this build of torch has no CUDA; install another, or set device=cpu")
    elif wanted.type == "cuda" and not torch.cuda.is_available():
        yield ConfigError(f"device {device!r}: torch finds no driver or no GPU; see nvidia-smi, or set device=cpu")
    elif wanted.type == "cuda" and (wanted.index or 0) >= (count := torch.cuda.device_count()):
        known = ", ".join(f"cuda:{number}" for number in range(count))
        yield ConfigError(f"device {device!r}: there is no such GPU; valid: {known}")


def encoder_faults(name: str, encoder: EncoderConfig) -> Iterator[ConfigError]:
    """Whether the trunk can be built: libraries, files and packages of weights, names and shapes in their headers."""
    if fault := _encoder_fault(encoder, _identity(encoder)):
        yield ConfigError(f"encoders.{name}: {fault}")


def language_faults(language: LanguageConfig) -> Iterator[ConfigError]:
    """Whether the language model can be built and its tokenizer read."""
    yield from _raised(language.check, ConfigError)


def stage_faults(stage: Stage, model: MLLMConfig, device: str, stored: Iterable[str]) -> Iterator[ConfigError]:
    """Whether the stage's patterns and its engine name something of the model it trains, and trackers are installed.

    ``stored``: encoders of which only the neck is built.
    """
    yield from _raised(lambda: check_trackers(stage.engine.log), ConfigError)
    if stage.distill is None:
        _, fault = _selection(stage, model, device, frozenset(stored))
        if fault:
            yield ConfigError(f"stage {stage.name!r}: {fault}")


def trained_parameters(stage: Stage, model: MLLMConfig, device: str, stored: Iterable[str]) -> int:
    """How many values the stage trains; 0 where its patterns are wrong."""
    return _selection(stage, model, device, frozenset(stored))[0]


@lru_cache(maxsize=256)
def _selection(stage: Stage, model: MLLMConfig, device: str, stored: frozenset[str]) -> tuple[int, str]:
    """Values that train, and what is wrong with the patterns, found on a model without memory."""
    try:
        with torch.device("meta"):
            parts = build_model(model, seed=0, pretrained=False, without_trunks=stored).parts()
        chosen = select(parts, stage.train)
        check_engine(parts, stage.engine, device=device)
    except ConfigError as error:
        return 0, str(error)
    return sum(parameter.numel() for parameter in chosen.parameters(parts).values()), ""


@lru_cache(maxsize=256)
def _encoder_fault(encoder: EncoderConfig, identity: str) -> str:
    """``identity`` tells files apart that changed since."""
    try:
        encoder.check()
    except ConfigError as error:
        return str(error)
    return ""


def _identity(encoder: EncoderConfig) -> str:
    with contextlib.suppress(ConfigError):
        return encoder.weights.identity()
    return ""


def _raised(check: Callable[[], Any], kind: type[OmmatidiaError]) -> Iterator[Any]:
    try:
        check()
    except kind as error:
        yield error
