"""A stage of RegNet blocks, as Honeybee's abstractor and MoVA's adapter use it, and what it costs.

Shapes: B batch, H rows, W columns, D channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from ommatidia.core.grid import Cost, Grid


class RegNetStage(nn.Module):
    """``depth`` blocks of 1x1, depthwise 3x3, squeeze-and-excitation and 1x1 with SiLU and LayerNorm, for x_BHWD.

    ``passes``: no activation behind the sums and a zero last norm, so that an untrained stage hands on what it gets.
    """

    def __init__(self, source: int, dim: int, *, depth: int, passes: bool = False) -> None:
        super().__init__()
        from timm.layers import LayerNorm2d
        from timm.models.regnet import Bottleneck

        blocks = [
            Bottleneck(
                source if i == 0 else dim, dim, act_layer=nn.SiLU, norm_layer=LayerNorm2d, linear_out=passes
            )
            for i in range(depth)
        ]  # fmt: skip
        if passes:
            for block in blocks:
                block.zero_init_last()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        return self.blocks(x_BHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def regnet_cost(grid: Grid, dim: int, *, depth: int) -> Cost:
    """What ``RegNetStage`` holds and does on ``grid``."""
    parameters, flops, source = 0, 0.0, grid.dim
    for _ in range(depth):
        squeezed = round(source * 0.25)
        shortcut = source * dim if source != dim else 0
        pointwise = source * dim + dim * dim + shortcut
        parameters += pointwise + 9 * dim + 6 * dim + (2 * dim if shortcut else 0)
        parameters += 2 * dim * squeezed + squeezed + dim
        flops += 2.0 * grid.tokens * (pointwise + 9 * dim) + 4.0 * dim * squeezed
        source = dim
    return Cost(parameters, flops)
