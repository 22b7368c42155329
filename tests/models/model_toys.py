"""Tiny real parts for the tests of models: images of one colour, dialogues, a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ommatidia.core.types import ImagePart, Message, Part, Sample
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language import CHAT_FORMATS
from ommatidia.models.language.scratch import ScratchLanguage
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor

PATCHES: dict[str, Any] = {"kind": "patches", "patch": 16, "image_size": 32, "neck": {"kind": "linear", "dim": 16}}
VIT: dict[str, Any] = {
    "kind": "timm",
    "model": "vit_tiny_patch16_224",
    "image_size": 32,
    "args": {"depth": 1, "embed_dim": 32, "num_heads": 2},
    "neck": {"kind": "linear", "dim": 8},
}
SCRATCH: dict[str, Any] = {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 256}


@dataclass(frozen=True)
class Colour:
    """An image of two colours, the left half and the right half."""

    left: int
    right: int = 0

    @property
    def digest(self) -> str:
        return f"colour-{self.left}-{self.right}"

    def size(self) -> tuple[int, int]:
        return 40, 40

    def open(self) -> Image.Image:
        image = Image.new("RGB", (40, 40), (self.left, 80, 120))
        image.paste((self.right, 10, 200), (20, 0, 40, 40))
        return image


def config(*encoders: str, **changes: Any) -> MLLMConfig:
    """A tiny model with these of the encoders ``a`` (patches) and ``b`` (a transformer)."""
    known = {"a": PATCHES, "b": VIT}
    data = {
        "encoders": {name: known[name] for name in encoders},
        "fusion": "channel_concat" if len(encoders) > 1 else "none",
        "language": SCRATCH,
        "chat": "compact",
    }
    return MLLMConfig.parse(data | changes)


def lively(model: MLLM) -> MLLM:
    """Larger matrices than an untrained model has, so that what comes before decides what comes next."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0 if "embed" in name else 6.0)
    return model.eval()


def sample(*parts: Part, answer: str | None = "yes", images: tuple[Colour, ...] = (), name: str = "s") -> Sample:
    """One turn made of ``parts``, and its answer."""
    turns = (Message("user", parts), *((Message("assistant", (answer,)),) if answer is not None else ()))
    return Sample(name, turns, images)


def mixed_samples() -> list[Sample]:
    """No image, one, two, and one again: the rows of a batch differ in everything."""
    red, blue = Colour(250), Colour(3, 90)
    return [
        sample("How are you?", answer="well", name="words"),
        sample(ImagePart(0), "\nWhat colour is it?", answer="red", images=(red,), name="one"),
        sample(ImagePart(0), ImagePart(1), "Which is brighter, ", "the first?", images=(red, blue), name="two"),
        sample("Look: ", ImagePart(0), answer="blue and so on", images=(blue,), name="late"),
    ]


def parts_of(cfg: MLLMConfig, *, seed: int = 0) -> tuple[MLLM, Processor]:
    return lively(build_model(cfg, seed=seed)), Processor(cfg)


def marks() -> list[str]:
    """Every control mark of the chat formats."""
    found: list[str] = []
    for fields in CHAT_FORMATS.values():
        for name in ("start", "end", "system_prefix", "system_suffix", "user_prefix", "assistant_prefix"):
            found += [f"<{inner}" for inner in str(fields.get(name, "")).split("<")[1:]]
    return sorted({mark[: mark.index(">") + 1] for mark in found})


def save_tokenizer(folder: Path) -> int:
    """A tokenizer that knows every control mark, in transformers' layout; its number of tokens."""
    tokenizer = ScratchLanguage().tokenizer().inner
    file = folder / "raw.json"
    tokenizer.backend_tokenizer.save(str(file))
    from transformers import PreTrainedTokenizerFast

    known = [mark for mark in marks() if mark not in ("<s>", "</s>")]
    inner = PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token="<s>", eos_token="</s>", pad_token="<|pad|>", extra_special_tokens=known
    )
    file.unlink()
    inner.save_pretrained(folder)
    return len(inner)
