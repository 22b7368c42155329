"""LLaVA-HR (Luo et al., 2024, arXiv 2403.03003): CLIP at 448 px, steered between its blocks by ConvNeXt-L at 1024 px.

The first stage sees smaller images (336 and 384 px), and its adapters are frozen where they start, as the identity,
which is the paper's stage without them.
"""

from __future__ import annotations

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search.study import encoder, llava_captions, llava_dialogues


def v1_7b(data: str = "data") -> Recipe:
    """LLaVA-HR-7B: 1024 visual tokens of the mixture of resolutions before Vicuna-7B; all of it trains at the end."""
    everything = dict.fromkeys(("encoders.*", "fusion", "projector", "language"), 2e-5)
    common = {"epochs": 1, "schedule": "cosine", "warmup": 0.03, "precision": "bf16"}
    start = {"fusion:merge": 1e-3, "projector": 1e-3}
    return Recipe.parse(
        {
            "name": "llava_hr_7b",
            "model": {
                # Both get one tensor of 1024 px; this CLIP resizes it to 448 px inside and drops its class embedding.
                "encoders": {
                    "clip": encoder("eagle_clip_448"),
                    "convnext": encoder("convnext_l_1024", fit="pad_first"),
                },
                "fusion": {"kind": "mixture_of_resolution", "adapters": 3},
                "projector": {"kind": "mlp", "depth": 2},
                "language": "vicuna_7b",
                "chat": "vicuna_v1",
            },
            "stages": [
                {
                    "name": "align", "train": start, "data": llava_captions(data), "batch": 256, **common,
                    "encoders": {
                        "clip": encoder("eagle_clip_336@384"),
                        "convnext": encoder("convnext_l_1024@384", fit="pad_first"),
                    },
                },
                {"name": "tune", "train": everything, "data": llava_dialogues(data), "batch": 128, **common},
            ],
        }
    )  # fmt: skip
