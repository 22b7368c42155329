"""Maps of whole images beside views of their parts: what of a map belongs to each view.

Shapes: K views, P images, R either of them, H rows, W columns, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ommatidia.core.errors import AlignmentError
from ommatidia.core.types import Views


def per_picture(rows: int, views: Views) -> bool:
    """Whether ``rows`` maps are one for each image rather than one for each view. Raises AlignmentError."""
    if rows == len(views):
        return False
    pictures = int(views.pictures_K.max()) + 1 if len(views) else 0
    if rows != pictures:
        raise AlignmentError(f"{rows} maps for {len(views)} views of {pictures} images")
    return True


def centres(height: int, width: int, views: Views, *, whole: bool) -> Tensor:
    """Centres of a view's cells as fractions (x, y) of the map they are looked up in: xy_KHW2 in float32.

    ``whole``: the map shows the image, and a view only its box of it; otherwise each view has a map of its own.
    """
    boxes_K4 = views.boxes_K4.float()
    if not whole:
        boxes_K4 = boxes_K4.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(views), 4)
    top, left, bottom, right = boxes_K4.unbind(-1)
    y_H = (torch.arange(height, device=boxes_K4.device) + 0.5) / height
    x_W = (torch.arange(width, device=boxes_K4.device) + 0.5) / width
    y_KH = top[:, None] + (bottom - top)[:, None] * y_H
    x_KW = left[:, None] + (right - left)[:, None] * x_W
    return torch.stack([x_KW[:, None].expand(-1, height, -1), y_KH[:, :, None].expand(-1, -1, width)], -1)


def cut(x_PHWD: Tensor, views: Views, height: int, width: int) -> Tensor:
    """Each view's box of its image's map as x_KHWD of this size, bilinear; a box of that many cells comes exactly."""
    grid_KHW2 = 2 * centres(height, width, views, whole=True) - 1
    x_KDHW = x_PHWD.permute(0, 3, 1, 2)[views.pictures_K].float()
    out = functional.grid_sample(x_KDHW, grid_KHW2, mode="bilinear", padding_mode="border", align_corners=False)
    return out.permute(0, 2, 3, 1).to(x_PHWD.dtype)
