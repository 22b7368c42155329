"""Batched generation with a key-value cache: prompts of any length, left-padded, stopped by the chat format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.core.types import Sample
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor


class Decoding(Config):
    """How to choose tokens. Temperature 0 is greedy."""

    max_new_tokens: int = Field(64, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0)
    seed: int = 0


@torch.inference_mode()
def generate(
    model: MLLM, processor: Processor, samples: Sequence[Sample], decoding: Decoding, *, batch: int = 64
) -> list[str]:
    """One answer a sample, in order; leaves the model in evaluation mode. Grouped by length, so little is padded.

    An answer ends where the context of the language model ends, if it has not ended before.
    """
    prompts = [processor(sample, answer=False) for sample in samples]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    device = next(model.parameters()).device
    answers = [""] * len(prompts)
    model.eval()
    settings = _settings(processor, decoding)
    if decoding.temperature > 0:
        torch.manual_seed(decoding.seed)
    for group in _chunks(order, batch):
        inputs = processor.collate([prompts[i] for i in group], left=True).to(device)
        x_BTE, seen = model.embed(inputs)
        room = max(1, processor.context - inputs.ids_BT.shape[1])
        settings["max_new_tokens"] = min(decoding.max_new_tokens, room)
        with model.injection.inside(model.language, seen) if seen else contextlib.nullcontext():
            rows = model.language.decoder.generate(
                inputs_embeds=x_BTE, attention_mask=inputs.mask_BT.long(), **settings
            )
        for i, row in zip(group, rows.tolist(), strict=True):
            answers[i] = processor.tokenizer.decode(_until(row, settings["eos_token_id"])).strip()
    return answers


def _settings(processor: Processor, decoding: Decoding) -> dict[str, Any]:
    ends = [i for i in (processor.end_id, processor.tokenizer.eos_id) if i is not None]
    settings: dict[str, Any] = {
        "max_new_tokens": decoding.max_new_tokens,
        "do_sample": decoding.temperature > 0,
        "eos_token_id": list(dict.fromkeys(ends)) or None,
        "pad_token_id": processor.tokenizer.pad_id,
        "repetition_penalty": decoding.repetition_penalty,
        "use_cache": True,
    }
    if decoding.temperature > 0:
        settings |= {"temperature": decoding.temperature, "top_p": decoding.top_p}
    return settings


def _until(ids: list[int], ends: list[int] | None) -> list[int]:
    stops = [ids.index(end) for end in ends or () if end in ids]
    return ids[: min(stops, default=len(ids))]


def _chunks(order: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
