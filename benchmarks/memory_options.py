"""Bytes that each memory option keeps, counted operation by operation on the CPU. Prints JSON.

python -m benchmarks.memory_options

A small model of Eagle's shape (two eyes, channel concatenation, MLP, decoder), one micro-batch. Counts do not depend on
the machine. Activations: what is alive between forward and backward. Logits: the most that is alive while only the loss
is made and goes back. Optimiser: its state after a step. Weights: what the parts hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from ommatidia.core.console import Console, use
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, Views
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.model import MLLM
from ommatidia.train.audit import Float32Products, LiveBytes
from ommatidia.train.freeze import Trained, freeze, select
from ommatidia.train.optim import optimizer
from ommatidia.train.prepare import prepare
from ommatidia.train.stage import Stage

ROWS, WORDS, WIDTH, VOCABULARY = 2, 96, 128, 8192
EYE: dict[str, Any] = {
    "kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 96,
    "args": {"depth": 4, "embed_dim": 64, "num_heads": 2},
}  # fmt: skip
LANGUAGE: dict[str, Any] = {
    "kind": "hf", "path": "none", "random": True,
    "config": {
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 344, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCABULARY, "tie_word_embeddings": False,
    },
}  # fmt: skip
EVERYTHING = {"*": 1e-4}
FROZEN_EYES = {"projector": 1e-4, "language": 1e-4}


def config(**changes: Any) -> MLLMConfig:
    return MLLMConfig.parse(
        {
            "encoders": {"a": EYE, "b": {**EYE, "weights": {"kind": "random", "seed": 1}}},
            "fusion": "channel_concat",
            "language": LANGUAGE,
            "chat": "compact",
        }
        | changes
    )


def batch(value: MLLMConfig) -> Batch:
    """Rows of one image and words, of which the second half is supervised."""
    torch.manual_seed(0)
    places = value.tokens_per_view
    words_BT = torch.randint(1, VOCABULARY, (ROWS, WORDS))
    ids_BT = torch.cat([torch.full((ROWS, places), IMAGE_TOKEN_ID), words_BT], 1)
    labels_BT = ids_BT.clone()
    labels_BT[:, : places + WORDS // 2] = IGNORE_LABEL
    pixels = {name: torch.randn(ROWS, 3, *e.preprocess().size) for name, e in value.encoders.items()}
    names = tuple(str(row) for row in range(ROWS))
    return Batch(names, ids_BT, labels_BT, torch.ones_like(ids_BT).bool(), pixels=pixels, views=Views.whole(ROWS))


def stage(train: Mapping[str, float], **fields: Any) -> Stage:
    data = {"sources": {"words": {"source": "drawn_words"}}}  # named, never opened
    return Stage.parse({"name": "memory", "train": train, "data": data, "batch": ROWS, "steps": 1} | fields)


def ready(value: MLLMConfig, plan: Stage) -> tuple[MLLM, Trained]:
    model = build_model(value, seed=0)
    parts = model.parts()
    trained = select(parts, plan.train)
    freeze(parts, trained)
    prepare(parts, trained, plan, device=torch.device("cpu"))
    return model, trained


def measure(train: Mapping[str, float], *, model: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, float]:
    """MiB of one option."""
    value, plan = config(**(model or {})), stage(train, **fields)
    built, trained = ready(value, plan)
    given, autocast = batch(value), torch.autocast("cpu", torch.bfloat16, enabled=plan.precision != "fp32")
    weights = sum(t.nbytes for t in (*built.parameters(), *built.buffers()))
    with LiveBytes() as count:
        with autocast:
            loss, scored = built.loss(given)
        activations = count.now
        (loss / scored).backward()
    gradients = sum(p.grad.nbytes for p in built.parameters() if p.grad is not None)
    made = optimizer(built.parts(), trained, plan)
    made.step()
    state = sum(t.nbytes for slots in made.state.values() for t in slots.values())
    sizes = {"weights": weights, "gradients": gradients, "optimiser": state, "activations": activations}
    moving = sum(p.numel() for p in trained.parameters(built.parts()).values())
    return {name: round(size / 2**20, 2) for name, size in sizes.items()} | {
        "state_bytes_per_trained_parameter": round(state / moving, 2)
    }


def logits(chunk: int | None, positions: int = 512) -> float:
    """MiB that the loss alone needs at its peak, gradients of the head included."""
    built = build_model(config(encoders={}), seed=0)
    built.language.chunk = chunk
    h_SE, targets_S = torch.randn(positions, WIDTH, requires_grad=True), torch.randint(0, VOCABULARY, (positions,))
    with LiveBytes() as count:
        built.language.loss(h_SE, targets_S).backward()
    return round(count.peak / 2**20, 2)


def float32_products(**fields: Any) -> int:
    value, plan = config(), stage(FROZEN_EYES, precision="bf16", **fields)
    built, _ = ready(value, plan)
    given = batch(value)
    with Float32Products() as audit:
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = built.loss(given)
        loss.backward()
    return sum(audit.found.values())


def main() -> None:
    torch.manual_seed(0)
    lora = {"adapters": {"language": {"rank": 16}}}
    nf4 = {"adapters": {"language": {"rank": 16, "quantize": "nf4"}}}
    with use(Console(quiet=True)):
        options = {
            "plain": measure(EVERYTHING),
            "recompute selective": measure(EVERYTHING, engine={"recompute": {"*": "selective"}}),
            "recompute full": measure(EVERYTHING, engine={"recompute": {"*": "full"}}),
            "adamw_8bit": measure(EVERYTHING, optimizer="adamw_8bit"),
            "adafactor": measure(EVERYTHING, optimizer="adafactor"),
            "bf16": measure(EVERYTHING, precision="bf16"),
            "bf16_pure": measure(EVERYTHING, precision="bf16_pure"),
            "bf16_pure, adamw_8bit": measure(EVERYTHING, precision="bf16_pure", optimizer="adamw_8bit"),
            "frozen eyes, bf16": measure(FROZEN_EYES, precision="bf16"),
            "frozen eyes in bf16": measure(FROZEN_EYES, precision="bf16", frozen_precision="bf16"),
            "lora": measure(FROZEN_EYES, model=lora, precision="bf16", frozen_precision="bf16"),
            "lora, nf4": measure(FROZEN_EYES, model=nf4, precision="bf16", frozen_precision="bf16"),
        }
        chunks = {str(chunk): logits(chunk) for chunk in (None, 256, 64, 16)}
        products = {"bf16": float32_products(), "frozen in bf16": float32_products(frozen_precision="bf16")}
    shape: dict[str, Any] = {"rows": ROWS, "words": WORDS, "width": WIDTH, "vocabulary": VOCABULARY}
    shape["parameters"] = sum(p.numel() for p in build_model(config(), seed=0).parameters())
    result = {"shape": shape, "MiB": options, "MiB of a loss over 512 positions, by chunk": chunks}
    print(json.dumps({**result, "products in float32 under bf16": products}, indent=1))


if __name__ == "__main__":
    main()
