"""Full-size Eagle checkpoints, shapes alone: every published tensor has its place, and the parameters are as many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.eagle import Eagle
from ommatidia.models.published.names import account
from ommatidia.models.shards import Entry, Shards

LLAMA = {"rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 1e4, "max_position_embeddings": 4096}
VICUNA_7B = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3_8B = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "rope_theta": 5e5, "bos_token_id": 128000, "eos_token_id": 128009,
}  # fmt: skip
CASES = [
    ("eagle-x5-7b.json", VICUNA_7B, "vicuna_v1", 9_060_525_352),
    ("eagle-x4-8b-plus.json", LLAMA3_8B, "llama3_two_bos", 10_040_496_936),
    ("princeton-eagle-x2-llama3-8b.json", LLAMA3_8B, "llama3_two_bos", 9_213_802_344),
]


class Shapes(Shards):
    """Shards of which only the header exists."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        self.folder = Path("published")
        self.entries = {name: Entry(self.folder, tuple(shape), "BF16") for name, shape in shapes.items()}


@pytest.mark.parametrize(("file", "language", "chat", "parameters"), CASES)
def test_every_tensor_is_accounted_for(
    golden: Callable[[str], Any], file: str, language: dict[str, Any], chat: str, parameters: int
) -> None:
    case = golden("eagle_keys")
    listed = next(one for one in case.config["lists"] if one["file"] == file)
    title = "mm_vision_" + "tower"
    config = {**language, "model_type": "eagle_llama", title: listed[title], "mm_projector_type": "mlp2x_gelu"}
    shapes = case.json(file)
    reading = Eagle().read(Checkpoint(Path("published"), config, Shapes(shapes)))
    assert reading.model["chat"] == chat
    ours = MLLMConfig.parse(
        {**reading.model, "language": {"kind": "hf", "path": "published", "config": reading.language}}
    )
    with torch.device("meta"):
        model = build_model(ours, seed=0, pretrained=False)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    accounted = account(shapes, reading.rules, expected, what=file)
    assert len(shapes) == listed["num_keys"] == len(accounted.used) + len(accounted.ignored)
    assert all(tuple(shapes[theirs]) == expected[mine] for theirs, mine in accounted.used.items())
    unread = sum(torch.Size(shapes[name]).numel() for name, why in accounted.ignored.items() if "rotary" not in why)
    assert sum(p.numel() for p in model.parameters()) + unread == parameters == listed["num_parameters"]
    held = cost_by_part(ours, text_tokens=256, views=1, head_tokens=64)
    assert sum(cost.parameters for cost in held.values()) + unread == parameters
    assert ours.visual_tokens(1024, 1024) == 1024
