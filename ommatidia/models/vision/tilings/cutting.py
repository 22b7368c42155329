"""Cutting the map of a whole canvas to the views on it (Mini-Gemini HD, Li et al. 2024, section 3.4).

Shapes: P images, K views, H rows, W columns, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ommatidia.core.types import Views

_NEAR = 1e-3
"""Cells. Boxes are 32-bit fractions: what is nearer to a whole cell than this lies on it."""


def cut_maps(x_PHWD: Tensor, views: Views, height: int, width: int) -> Tensor:
    """x_KHWD of ``height`` x ``width`` cells: of each view, the part of its image's map that its box covers.

    Cells are taken as they are where the box holds exactly so many of them, and bilinearly (cell centres aligned, no
    antialiasing) otherwise.
    """
    scale_4 = views.boxes_K4.new_tensor([x_PHWD.shape[1], x_PHWD.shape[2]] * 2)
    edges_K4 = (views.boxes_K4 * scale_4).tolist()
    return torch.stack(
        [
            _cut(x_PHWD[picture], edges, height, width)
            for picture, edges in zip(views.pictures_K.tolist(), edges_K4, strict=True)
        ]
    )


def _cut(x_HWD: Tensor, edges: list[float], height: int, width: int) -> Tensor:
    top, left, bottom, right = (round(edge) for edge in edges)
    whole_cells = all(abs(edge - round(edge)) < _NEAR for edge in edges)
    if whole_cells and (bottom - top, right - left) == (height, width):
        return x_HWD[top:bottom, left:right]
    rows_H = _centres(edges[0], edges[2], height, x_HWD)
    columns_W = _centres(edges[1], edges[3], width, x_HWD)
    # grid_sample counts from -1 to 1 over the outer edges of the map, columns before rows.
    y_H, x_W = 2 * rows_H / x_HWD.shape[0] - 1, 2 * columns_W / x_HWD.shape[1] - 1
    at_HW2 = torch.stack([x_W.expand(height, width), y_H.unsqueeze(1).expand(height, width)], -1)
    map_1DHW = x_HWD.permute(2, 0, 1).unsqueeze(0).float()
    cut_1DHW = functional.grid_sample(map_1DHW, at_HW2.unsqueeze(0), padding_mode="border", align_corners=False)
    return cut_1DHW[0].permute(1, 2, 0).to(x_HWD.dtype)


def _centres(start: float, stop: float, count: int, like: Tensor) -> Tensor:
    """The centres of ``count`` equal parts of a stretch."""
    parts_N = torch.arange(count, device=like.device, dtype=torch.float32) + 0.5
    return start + parts_N * ((stop - start) / count)
