"""What a model costs, part by part: parameters, and operations of one forward pass."""

from __future__ import annotations

from functools import lru_cache

import torch

from ommatidia.core.grid import Cost
from ommatidia.models.adapters import is_adapter
from ommatidia.models.build import build_untrained_part
from ommatidia.models.config import MLLMConfig


def cost_by_part(
    config: MLLMConfig,
    *,
    text_tokens: int,
    views: float,
    head_tokens: int,
    visual_tokens: int | None = None,
    pictures: float | None = None,
) -> dict[str, Cost]:
    """Per part: parameters, and operations of one forward pass over a sample of this size.

    ``visual_tokens``: positions that images take in the sequence; None: each view brings all its tokens.
    ``pictures``: what encoders see that see images whole; None: every view is an image.
    """
    shape, grid = config.language.shape(), config.visual_grid()
    tokens = text_tokens + (round(views * config.tokens_per_view) if visual_tokens is None else visual_tokens)
    looks = dict.fromkeys(config.tiling.seen_whole, views if pictures is None else pictures)
    costs = {f"encoders.{n}": encoder.cost().times(looks.get(n, views)) for n, encoder in config.encoders.items()}
    if grid is not None:
        grids = config.grids()
        costs["fusion"] = config.fusion.cost(grids, config.fusion_context()).times(views)
        costs["projector"] = config.projector.cost(config.fusion.out(grids), shape.width).times(views)
        costs["injection"] = config.injection.cost(config.injection_context(), tokens=tokens, views=views)
    costs["language"] = shape.cost(tokens=tokens, head_tokens=head_tokens)
    for part in config.adapted():
        costs[part] = costs[part] + Cost(_adapter_parameters(config, part))
    return costs


@lru_cache(maxsize=64)
def _adapter_parameters(config: MLLMConfig, part: str) -> int:
    """How many parameters the adapters of a part have."""
    with torch.device("meta"):
        module = build_untrained_part(config, part)
    return sum(parameter.numel() for name, parameter in module.named_parameters() if is_adapter(name))
