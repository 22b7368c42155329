"""An optimiser step here against the same model trained plainly with transformers' LlavaForConditionalGeneration.

python -m benchmarks.llava_step [--rounds 5] [--samples 16] [--micro 4] [--threads 2]

The same weights, the same samples, the same optimiser, in one process, sides in turns. A CLIP and a Llama in
the proportions of LLaVA-1.5-7B (the encoder a twentieth of the decoder, 64 visual tokens beside words of LLaVA's
lengths scaled alike, a fifth of the samples text alone), small enough for a CPU. The plain side does what training
scripts do: rows in the order they come, padded to the longest, transformers' own loss over every position. Ours:
``Trainer.step``, padded or packed. Losses are compared first. Prints JSON: samples a second, ratios as medians of each
round's own, the share of padding, and operations of a step as torch counts them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ommatidia.core.malloc import keep_memory
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, Example, View
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language.scratch import ScratchLanguage
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.train.stage import Stage
from ommatidia.train.trainer import Trainer

TARGET = 1.3
SIDE, PATCH, VISUAL = 112, 14, 64
VISION = {
    "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 3,
    "patch_size": PATCH, "image_size": SIDE, "projection_dim": 192,
}  # fmt: skip
DECODER = {
    "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 8192, "max_position_embeddings": 2048,
}  # fmt: skip


def our_config(folder: Path) -> MLLMConfig:
    ScratchLanguage().tokenizer().inner.save_pretrained(folder)
    language = {"kind": "hf", "path": str(folder), "random": True, "config": {"model_type": "llama", **DECODER}}
    vision = {"kind": "hf", "architecture": "CLIPVisionModel", "features": -2, "image_size": SIDE, "config": VISION}
    data = {"encoders": {"clip": vision}, "projector": "mlp", "language": language, "chat": "compact"}
    return MLLMConfig.parse(data)


def their_model(ours: MLLM) -> Any:
    """transformers' own LLaVA with our weights."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**DECODER), vision_feature_layer=-2,
        image_token_index=DECODER["vocab_size"] - 1,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    found: dict[str, Tensor] = {}
    for name, tensor in ours.language.decoder.state_dict().items():
        inner = name.removeprefix("model.")
        found["lm_head.weight" if name == "lm_head.weight" else f"model.language_model.{inner}"] = tensor
    for name, tensor in cast(nn.Module, ours.encoders["clip"].trunk).state_dict().items():
        found[f"model.vision_tower.{name.removeprefix('model.')}"] = tensor
    for name, tensor in ours.projector.state_dict().items():
        layer = {"0": "linear_1", "2": "linear_2"}[name.partition(".")[0]]
        found[f"model.multi_modal_projector.{layer}.{name.partition('.')[2]}"] = tensor
    left = model.load_state_dict({name: tensor.clone() for name, tensor in found.items()}, strict=False)
    unused = [key for key in left.missing_keys if "layers.3." not in key and "post_layernorm" not in key]
    assert not unused, unused  # behind the features that LLaVA takes, and run all the same
    assert not left.unexpected_keys, left.unexpected_keys
    model.model.vision_tower.requires_grad_(False)
    return model.train()


def dialogues(count: int) -> list[Example]:
    """One sample in five is text alone, and longer, as in LLaVA's second stage; answers are half of the words."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for number in range(count):
        seen = number % 5 != 4
        spread = float(torch.randn((), generator=generator)) * 0.65
        length = min(max(round((28 if seen else 80) * 2.718281828**spread), 6), 400)
        words = torch.randint(3, DECODER["vocab_size"] - 1, (length,), generator=generator)
        picture = torch.full((VISUAL if seen else 0,), IMAGE_TOKEN_ID)
        ids = torch.cat([words[:2], picture, words[2:]])
        labels = torch.full_like(ids, IGNORE_LABEL)
        labels[-(length // 2) :] = ids[-(length // 2) :]
        pixels = {"clip": torch.randn(1, 3, SIDE, SIDE, generator=generator)} if seen else {}
        views = (View(0, (SIDE, SIDE)),) if seen else ()
        places = torch.arange(VISUAL) if seen else None
        examples.append(Example(f"made/{number}", ids, labels, pixels, views=views, places=places))
    return examples


def plain_step(model: Any, optimizer: torch.optim.Optimizer, examples: Sequence[Example], micro: int) -> float:
    """What a training script around transformers does."""
    optimizer.zero_grad(set_to_none=True)
    supervised, total = sum(map(MLLM.targets, examples)), 0.0
    for first in range(0, len(examples), micro):
        rows = examples[first : first + micro]
        longest = max(len(example.ids) for example in rows)
        ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
        labels_BT, mask_BT = torch.full_like(ids_BT, IGNORE_LABEL), torch.zeros_like(ids_BT)
        for row, example in enumerate(rows):
            n = len(example.ids)
            ids_BT[row, :n], labels_BT[row, :n], mask_BT[row, :n] = example.ids, example.labels, 1
        ids_BT[ids_BT == IMAGE_TOKEN_ID] = model.config.image_token_index
        pixels = [example.pixels["clip"] for example in rows if example.pixels]
        out = model(
            input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT, use_cache=False,
            pixel_values=torch.cat(pixels) if pixels else None, num_items_in_batch=supervised,
        )  # fmt: skip
        out.loss.backward()
        total += float(out.loss.detach())
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return total


def our_trainer(config: MLLMConfig, processor: Processor, samples: int, micro: int, *, packed: int | None) -> Trainer:
    source = {"kind": "drawn_attributes", "split": "train", "pictures": 1, "per_picture": 1, "size": 32}
    engine = {"packing": {"tokens": packed}} if packed else {}
    stage = Stage.parse(
        {
            "name": "tune",
            "train": {"projector": 2e-5, "language": 2e-5},
            "steps": 1000,
            "batch": samples,
            "data": {"sources": {"none": {"source": source}}},
            "micro_batch": micro,
            "warmup": 0.0,
            "engine": engine,
            "schedule": "constant",
        }
    )

    def none(start: int) -> Iterator[list[Example]]:
        return iter(())

    collate: Callable[[Sequence[Example]], Batch] = processor.pack if packed else processor.collate
    folder = Path(tempfile.gettempdir()) / "not-written"
    return Trainer(build_model(config, seed=0), stage, none, collate, steps=1000, folder=folder, seed=0)


def counted(step: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = our_config(Path(folder))
        processor = Processor(config)
    examples = dialogues(given.samples)
    budget = given.micro * 128
    padded = our_trainer(config, processor, given.samples, given.micro, packed=None)
    packed = our_trainer(config, processor, given.samples, given.micro, packed=budget)
    theirs = their_model(build_model(config, seed=0))
    learning = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=2e-5, weight_decay=0.0, fused=True)
    sides: dict[str, Callable[[], Any]] = {
        "transformers": lambda: plain_step(theirs, optimizer, examples, given.micro),
        "padded": lambda: padded.step(examples).loss,
        "packed": lambda: packed.step(examples).loss,
    }
    losses = {side: round(step(), 5) for side, step in sides.items()}
    assert max(losses.values()) - min(losses.values()) < 1e-3, losses
    flops = {side: counted(step) for side, step in sides.items()}
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(given.rounds):
        for side, step in sides.items():
            began = time.perf_counter()
            step()
            taken[side].append(time.perf_counter() - began)
    lengths = [len(example.ids) for example in examples]
    rows = [lengths[first : first + given.micro] for first in range(0, len(lengths), given.micro)]
    print(
        json.dumps(
            {
                "target": TARGET,
                "first_loss": losses,
                "padding_of_plain_rows": round(1 - sum(lengths) / sum(len(row) * max(row) for row in rows), 3),
                "gflop": {side: round(count / 1e9, 1) for side, count in flops.items()},
                "samples_per_second": {s: round(given.samples / statistics.median(t), 2) for s, t in taken.items()},
                "ratio": {
                    side: round(
                        statistics.median(a / b for a, b in zip(taken["transformers"], taken[side], strict=True)), 2
                    )
                    for side in ("padded", "packed")
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
