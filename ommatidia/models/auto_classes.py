"""Ommatidia folders through the auto classes of transformers.

ommatidia.register_auto_classes()
model = AutoModel.from_pretrained(folder)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import Batch, Sample
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load
from ommatidia.models.processor import Processor

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class OmmatidiaConfig(PretrainedConfig):
    """The document of a saved folder: ``model`` holds the MLLMConfig as plain data."""

    model_type = "ommatidia"


class OmmatidiaModel(PreTrainedModel):
    """A saved model with its processor. ``mllm`` and ``processor`` are what ``ommatidia.load`` gives."""

    config_class = OmmatidiaConfig
    base_model_prefix = "mllm"
    _supports_sdpa = True

    @classmethod
    def from_pretrained(cls, folder: str | Path, *_: Any, **options: Any) -> Self:
        """Load a local folder. ``dtype`` (or ``torch_dtype``) chooses the type it computes in; float32 by default.

        Raises ConfigError or RunError as ``ommatidia.load`` does.
        """
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder}: an ommatidia model is loaded from a local folder")
        dtype = options.get("dtype", options.get("torch_dtype")) or torch.float32
        name = dtype if isinstance(dtype, str) and dtype != "auto" else _DTYPES.get(dtype, "float32")
        mllm, processor = load(folder, dtype=cast(Any, name))
        model = cls(OmmatidiaConfig.from_pretrained(folder))
        model.mllm, model.processor = mllm, processor
        return model.eval()

    mllm: MLLM
    processor: Processor

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states h_BTE of a batch that ``processor`` made."""
        return self.mllm(batch)

    @torch.inference_mode()
    def answer(self, samples: list[Sample], decoding: Decoding | None = None) -> list[str]:
        """One answer a sample."""
        return generate(self.mllm, self.processor, samples, decoding or Decoding())


def register_auto_classes() -> None:
    """Have ``AutoConfig``, ``AutoModel`` and ``AutoModelForImageTextToText`` load Ommatidia folders."""
    AutoConfig.register("ommatidia", OmmatidiaConfig, exist_ok=True)
    AutoModel.register(OmmatidiaConfig, OmmatidiaModel, exist_ok=True)
    AutoModelForImageTextToText.register(OmmatidiaConfig, OmmatidiaModel, exist_ok=True)
